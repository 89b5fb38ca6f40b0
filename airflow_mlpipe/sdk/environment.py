"""The software a step asks for: v1's Environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import NotFoundError, ParameterError
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.sdk.conda import CondaDependencies
from airflow_mlpipe.sdk.names import UnknownNameError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.workspace import Workspace

CURATED = "AzureML-"
"""Environments whose names begin so were kept by Azure; they always resolve."""

CURATED_VERSION = "1"


class PythonSection:
    """``environment.python``.

    Attributes:
        conda_dependencies: packages to install.
        user_managed_dependencies: True if the interpreter is taken as it is and nothing is installed.
        interpreter_path: recorded.
        conda_dependencies_file: recorded.
    """

    def __init__(self) -> None:
        self.conda_dependencies = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.conda_dependencies_file: str | None = None


class DockerSection:
    """``environment.docker``.

    Attributes:
        enabled: whether the step asks for a container.
        base_image: the image, or None.
        base_dockerfile: recorded.
        arguments: recorded.
        shm_size: recorded.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.arguments: list[str] = []
        self.shm_size: str | None = None


class Environment:
    """Packages, image and variables of a step. In this release every environment is the current interpreter.

    Giving an environment a `name` and a `version` makes it a reference to the registered environment of that name.

    Attributes:
        name: its name.
        python: packages and interpreter.
        docker: image.
        environment_variables: variables of the step's process.
    """

    def __init__(self, name: str, **kwargs: object) -> None:
        """Make an environment without any packages.

        Args:
            name: its name.
            **kwargs: accepted as in v1, not used.

        Raises:
            ParameterError: if the name is empty or not a text.
        """
        self.name = name
        if not isinstance(name, str) or not name.strip():
            raise ParameterError(f"environment name {name!r} is not allowed; give a text")
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}
        self._version: str | None = None
        self._by_reference = False

    @property
    def version(self) -> str | None:
        """Its version, or None if it was never registered."""
        return self._version

    @version.setter
    def version(self, value: object) -> None:
        self._version = None if value is None else str(value)
        self._by_reference = value is not None

    @property
    def by_reference(self) -> bool:
        """Whether name and version were given to it and it was not registered since."""
        return self._by_reference

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | None = None, label: str | None = None) -> Environment:
        """Return a registered environment.

        Args:
            workspace: where it is registered.
            name: its name; names that begin with ``AzureML-`` always resolve.
            version: its version; by default the newest.
            label: accepted as in v1: ``Latest``.

        Raises:
            ConfigError: if there is none; it is a :class:`KeyError` too.
        """
        try:
            row = workspace.catalog.get_environment(name, None if version is None else str(version))
        except NotFoundError as error:
            if str(name).startswith(CURATED):
                curated = Environment(name)
                curated._version = str(version or CURATED_VERSION)
                return curated
            raise UnknownNameError(f"{error.message}; register it: Environment('{name}').register(ws)") from None
        return _of_spec(EnvironmentSpec.model_validate(row.spec))

    @staticmethod
    def list(workspace: Workspace) -> Mapping[str, Environment]:
        """Return the newest version of all registered environments by name."""
        return workspace.environments

    def register(self, workspace: Workspace) -> Environment:
        """Register it under its name, and its version if it has one; else the next number is given.

        Raises:
            UsageError: if the version is registered with another definition.
        """
        row = workspace.catalog.register_environment(self.to_spec(for_registration=True))
        self._version, self._by_reference = row.version, False
        return _of_spec(EnvironmentSpec.model_validate(row.spec))

    def clone(self, new_name: str) -> Environment:
        """Return a copy under another name, without a version."""
        return _of_spec(self.to_spec().model_copy(update={"name": new_name, "version": None}))

    def to_spec(self, *, for_registration: bool = False) -> EnvironmentSpec:
        """Return its wire form.

        Args:
            for_registration: leave out a version that an earlier registration gave; a definition that was changed
                since becomes a new version.

        Raises:
            ParameterError: if a variable or setting is not a text.
        """
        packages = self.python.conda_dependencies
        if not isinstance(packages, CondaDependencies):
            raise ParameterError(
                f"environment '{self.name}': conda_dependencies is a {type(packages).__name__}; "
                "give CondaDependencies.create(...)"
            )
        for name, value in self.environment_variables.items():
            if not isinstance(name, str) or not isinstance(value, (str, int, float)):
                raise ParameterError(
                    f"environment '{self.name}': variable {name!r} is a {type(value).__name__}; give texts "
                    "(values of a run are given with a step's params=)"
                )
        keeps_version = self._by_reference or not for_registration
        return EnvironmentSpec(
            name=self.name,
            version=self._version if keeps_version else None,
            user_managed=bool(self.python.user_managed_dependencies),
            python_version=packages.python_version,
            conda_packages=tuple(sorted(packages.conda_packages)),
            pip_packages=tuple(sorted(packages.pip_packages)),
            docker_image=self.docker.base_image,
            variables={name: str(value) for name, value in sorted(self.environment_variables.items())},
        )

    def resolve(self, workspace: Workspace) -> EnvironmentSpec:
        """Return what a step that uses it gets: for a reference, what is registered under its name and version.

        A reference to a name that is not registered is taken as the definition itself if it has one.

        Raises:
            ConfigError: if it refers to an environment that is not registered, and has no packages of its own.
        """
        own = self.to_spec()
        if not self._by_reference:
            return own
        try:
            return EnvironmentSpec.model_validate(workspace.catalog.get_environment(self.name, self._version).spec)
        except NotFoundError as error:
            if own != EnvironmentSpec(name=own.name, version=own.version) or self.name.startswith(CURATED):
                return own
            raise UnknownNameError(
                f"{error.message}; register it: env = Environment('{self.name}'); env.version = '{self._version}'; "
                "env.register(ws)"
            ) from None

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r}, version={self._version!r})"


def _of_spec(spec: EnvironmentSpec) -> Environment:
    made = Environment(spec.name)
    made._version = spec.version
    made.python.user_managed_dependencies = spec.user_managed
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=spec.pip_packages, conda_packages=spec.conda_packages, python_version=spec.python_version
    )
    made.docker.base_image = spec.docker_image
    made.environment_variables = dict(spec.variables)
    return made
