"""What a workspace in the cloud had and this one has not: each call says what to use."""

from __future__ import annotations

from typing import NoReturn

from airflow_mlpipe.errors import NotSupportedError


class RefusedParts:
    """The part of a workspace that refuses by name."""

    def get_default_keyvault(self) -> NoReturn:
        """Refuse: secrets are not kept in a workspace.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            "Workspace.get_default_keyvault() is not supported: a workspace keeps no secrets; put them into Airflow "
            "connections or the worker's environment, see docs/how-to/datastores.md"
        )

    def get_mlflow_tracking_uri(self, with_auth: bool = False) -> NoReturn:
        """Refuse: metrics are written by ``Run.get_context().log()``.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            "Workspace.get_mlflow_tracking_uri() is not supported: no MLflow server belongs to a workspace; log with "
            "Run.get_context().log(name, value), or name a server of your own"
        )

    @property
    def webservices(self) -> NoReturn:
        """Refuse: models are not served here.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            "Workspace.webservices is not supported: models are not served here; "
            "Model(workspace, name).download() gives the files"
        )
