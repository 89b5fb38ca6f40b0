"""v1's ways to log in to Azure, for scripts that give one to a workspace. Nothing logs in here."""

from __future__ import annotations

from typing import Any, NoReturn

from airflow_mlpipe.errors import NotSupportedError


class AbstractAuthentication:
    """What all ways to log in share. A workspace accepts one and does not use it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take v1's arguments. None of them is kept: neither tenants nor secrets."""

    def get_authentication_header(self) -> Any:
        """Refuse: a header opens published pipelines, which are not here.

        Raises:
            NotSupportedError: always.
        """
        self._refuse("get_authentication_header()")

    def get_token(self, *args: object, **kwargs: object) -> Any:
        """Refuse, likewise.

        Raises:
            NotSupportedError: always.
        """
        self._refuse("get_token()")

    def _refuse(self, what: str) -> NoReturn:
        raise NotSupportedError(
            f"{type(self).__name__}.{what} is not supported: nothing here logs in to Azure; start a run with "
            "Experiment.submit(pipeline), or on a server with the token of Airflow's REST API (POST /auth/token)"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class InteractiveLoginAuthentication(AbstractAuthentication):
    """v1's log-in by browser."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """v1's log-in of a service."""


class AzureCliAuthentication(AbstractAuthentication):
    """v1's log-in by ``az login``."""


class MsiAuthentication(AbstractAuthentication):
    """v1's log-in of a machine."""
