"""The packages an environment asks for: v1's CondaDependencies."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_mlpipe.errors import ParameterError


class CondaDependencies:
    """Conda and pip requirements of an environment.

    The SDK's own packages (``azureml-*``) are recorded but never installed: this package takes their place.
    """

    def __init__(self) -> None:
        self._conda: dict[str, None] = {}
        self._pip: dict[str, None] = {}
        self._channels: dict[str, None] = {}
        self._pip_options: dict[str, None] = {}
        self._python_version: str | None = None

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Return dependencies on these packages.

        Args:
            pip_indexurl: recorded with the pip options.
            pip_packages: pip requirements, e.g. ``scikit-learn>=1.4``.
            conda_packages: conda requirements.
            python_version: e.g. ``3.11``; by default any.
            pin_sdk_version: accepted as in v1: there is no SDK to pin.

        Raises:
            ParameterError: if a requirement is not a text.
        """
        made = CondaDependencies()
        if pip_indexurl:
            made.set_pip_option(f"--index-url {pip_indexurl}")
        for package in _texts(pip_packages, "pip_packages"):
            made.add_pip_package(package)
        for package in _texts(conda_packages, "conda_packages"):
            made.add_conda_package(package)
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    @property
    def conda_packages(self) -> tuple[str, ...]:
        """Conda requirements, in the order they were added."""
        return tuple(self._conda)

    @property
    def pip_packages(self) -> tuple[str, ...]:
        """Pip requirements, in the order they were added."""
        return tuple(self._pip)

    @property
    def conda_channels(self) -> tuple[str, ...]:
        """Conda channels, in the order they were added."""
        return tuple(self._channels)

    @property
    def pip_options(self) -> tuple[str, ...]:
        """Options of pip, in the order they were added."""
        return tuple(self._pip_options)

    @property
    def python_version(self) -> str | None:
        """The wanted Python, or None for any."""
        return self._python_version

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda requirement."""
        self._conda[_text(conda_package, "conda package")] = None

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip requirement."""
        self._pip[_text(pip_package, "pip package")] = None

    def add_channel(self, channel: str) -> None:
        """Add a conda channel."""
        self._channels[_text(channel, "channel")] = None

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of pip."""
        self._pip_options[_text(pip_option, "pip option")] = None

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda requirement, if it is there."""
        self._conda.pop(conda_package, None)

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a pip requirement, if it is there."""
        self._pip.pop(pip_package, None)

    def set_python_version(self, version: str) -> None:
        """Ask for a Python version, e.g. ``3.11``."""
        self._python_version = _text(version, "python version")

    def __repr__(self) -> str:
        return f"CondaDependencies(conda_packages={list(self._conda)}, pip_packages={list(self._pip)})"


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ParameterError(f"{what} {value!r} is not allowed; give a text such as 'pandas>=2'")
    return value.strip()


def _texts(values: Iterable[str] | None, what: str) -> Iterable[str]:
    # A text is iterable too, by letters.
    if isinstance(values, str):
        raise ParameterError(f"{what}={values!r} is not allowed; give a list: {what}=[{values!r}]")
    return values or ()
