"""The software a step asks for: v1's Environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import EnvironmentBuildError, NotFoundError, NotSupportedError, ParameterError
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.sdk.conda import CondaDependencies
from airflow_mlpipe.sdk.default_images import own_image
from airflow_mlpipe.sdk.environment_sections import (
    DEFAULT_INTERPRETER,
    ContainerRegistry,
    DockerSection,
    PythonSection,
    SparkSection,
)
from airflow_mlpipe.sdk.names import UnknownNameError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.environment_build import EnvironmentBuild
    from airflow_mlpipe.sdk.workspace import Workspace

__all__ = ["ContainerRegistry", "DockerSection", "Environment", "PythonSection", "SparkSection"]

LATEST = "Latest"
"""The label that always means the newest version."""


class Environment:
    """Packages, interpreter, image and variables of a step.

    Its packages are chosen when a step with it is first submitted, and stay so until :meth:`build` or another
    definition; they are installed when the first step needs them, once for all workspaces of a user. Without packages
    it is the current interpreter. Giving an environment a `name` and a `version` makes it a reference to the
    registered environment of that name.

    Attributes:
        name: its name.
        python: packages and interpreter.
        docker: image.
        spark: recorded.
        environment_variables: variables of the step's process.
        inferencing_stack_version: recorded.
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
        self.spark = SparkSection()
        self.environment_variables: dict[str, str] = {}
        self.inferencing_stack_version: str | None = None
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
    def from_pip_requirements(name: str, file_path: str | Path, pip_version: str | None = None) -> Environment:
        """Make an environment of a requirements file of pip.

        Args:
            name: its name.
            file_path: the file.
            pip_version: accepted as in v1: packages are installed by uv.

        Raises:
            ParameterError: if the file cannot be read, or a line is not allowed.
        """
        from airflow_mlpipe.sdk.conda import requirement_lines

        made = Environment(name)
        made.python.conda_dependencies = requirement_lines(Path(file_path))
        return made

    @staticmethod
    def from_conda_specification(name: str, file_path: str | Path) -> Environment:
        """Make an environment of a conda specification in YAML.

        Raises:
            ParameterError: if the file cannot be read, or a package is not allowed.
        """
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """Make an environment of what an environment of this machine's conda holds.

        Raises:
            EnvironmentBuildError: if there is no conda on the PATH, or it has no such environment.
        """
        from airflow_mlpipe.execution.conda import find_conda

        conda = find_conda()
        if conda is None:
            raise EnvironmentBuildError(
                f"environment '{conda_environment_name}' cannot be read: neither conda nor mamba is on the PATH"
            )
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=conda.export(conda_environment_name))
        return made

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> Environment:
        """Make an environment of an image, with packages on top if one of the files is given.

        Args:
            name: its name.
            image: the image, with tag or digest.
            container_registry: where it is pulled from.
            conda_specification: a conda specification in YAML.
            pip_requirements: a requirements file of pip; not together with `conda_specification`.

        Raises:
            ParameterError: if both files are given, or one cannot be read.
        """
        made = _with_packages(name, conda_specification, pip_requirements)
        made.docker.enabled = True
        made.docker.base_image = image
        if container_registry is not None:
            made.docker.base_image_registry = container_registry
        return made

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: str | Path,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> Environment:
        """Make an environment of a Dockerfile, given as a path or as its text; see :meth:`from_docker_image`."""
        made = _with_packages(name, conda_specification, pip_requirements)
        made.docker.enabled = True
        made.docker.base_dockerfile = _dockerfile_text(str(dockerfile))
        return made

    @staticmethod
    def load_from_directory(path: str | Path) -> Environment:
        """Return the environment that :meth:`save_to_directory`, v1's or this one, has written.

        Raises:
            ParameterError: if there is none.
        """
        from airflow_mlpipe.sdk.environment_files import load, read_document

        folder, document = read_document(path)
        return load(Environment(document["name"]), folder, document)

    def save_to_directory(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the definition to a folder, for people to look into and to change.

        Args:
            path: the folder; it is made.
            overwrite: whether it may be there already.

        Raises:
            ParameterError: if it is there, or cannot be written.
        """
        from airflow_mlpipe.sdk.environment_files import save

        save(self, path, overwrite)

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | None = None, label: str | None = None) -> Environment:
        """Return a registered environment, or one of those that v1 kept for everybody.

        Args:
            workspace: where it is registered.
            name: its name, or a curated one such as ``AzureML-sklearn-1.0-ubuntu20.04-py38-cpu``.
            version: its version; by default the newest.
            label: a label, instead of the version: ``Latest``, or one that :meth:`label` gave.

        Raises:
            ConfigError: if there is none; it is a :class:`KeyError` too.
            ParameterError: if version and label are given.
        """
        if version is not None and label is not None:
            raise ParameterError(f"environment '{name}': give version={version!r} or label={label!r}, not both")
        try:
            if label not in (None, LATEST):
                version = workspace.catalog.labelled_environment(str(name), str(label))
            row = workspace.catalog.get_environment(name, None if version is None else str(version))
        except NotFoundError as error:
            curated = _curated(str(name), version)
            if curated is not None and label in (None, LATEST):
                return curated
            raise UnknownNameError(_unknown(str(name), error.message)) from None
        return _of_spec(EnvironmentSpec.model_validate(row.spec))

    @staticmethod
    def list(workspace: Workspace) -> Mapping[str, Environment]:
        """Return the newest version of all registered environments, and the curated ones, by name."""
        return workspace.environments

    @staticmethod
    def label(workspace: Workspace, name: str, version: str, labels: str | Iterable[str]) -> None:
        """Give a registered version labels; each label of a name is at one version.

        Raises:
            ConfigError: if there is no such version.
            ParameterError: if a label is ``Latest``, which always means the newest version.
        """
        for label in [labels] if isinstance(labels, str) else labels:
            if label == LATEST or not label:
                raise ParameterError(f"environment '{name}': label {label!r} is not allowed; give another text")
            try:
                workspace.catalog.label_environment(name, str(version), label)
            except NotFoundError as error:
                raise UnknownNameError(error.message) from None

    def register(self, workspace: Workspace) -> Environment:
        """Register it under its name, and its version if it has one; else the next number is given.

        Raises:
            UsageError: if the version is registered with another definition.
        """
        row = workspace.catalog.register_environment(self.to_spec(for_registration=True))
        self._version, self._by_reference = row.version, False
        return _of_spec(EnvironmentSpec.model_validate(row.spec))

    def build(self, workspace: Workspace, image_build_compute: str | None = None) -> EnvironmentBuild:
        """Choose its packages anew and build it on this machine, in the background.

        Steps that are submitted from then on have what was chosen, so they do not take results of an earlier choice.

        Args:
            workspace: keeps what was chosen.
            image_build_compute: name of a compute target of a Docker engine, which then builds its image, as it does
                for a step that needs it; by default it is built for processes of this machine.

        Returns:
            what ``wait_for_completion(show_output=True)`` follows the build with.

        Raises:
            ConfigError: if it refers to an environment that is not registered.
        """
        from airflow_mlpipe.sdk.engine import build_image
        from airflow_mlpipe.sdk.environment_build import EnvironmentBuild
        from airflow_mlpipe.sdk.submit import environments_of

        image = None if image_build_compute is None else partial(build_image, workspace.dir, image_build_compute)
        return EnvironmentBuild(self.resolve(workspace), environments_of(workspace), image)

    def build_local(self, workspace: Workspace, platform: str | None = None, **kwargs: object) -> EnvironmentBuild:
        """Do what :meth:`build` does, wait for it and print its progress.

        Args:
            workspace: keeps what was chosen.
            platform: accepted as in v1, not used: it is this machine's.
            **kwargs: v1's ``useDocker`` and ``pushImageToWorkspaceAcr``, which must be False if they are given.

        Raises:
            NotSupportedError: for an image: the compute target that runs the steps builds it.
            EnvironmentBuildError: if its packages cannot be resolved or installed.
        """
        for name in ("useDocker", "pushImageToWorkspaceAcr"):
            if kwargs.get(name):
                raise NotSupportedError(
                    f"environment '{self.name}': build_local({name}=True) is not supported; a compute target that runs "
                    "containers builds its images itself; leave it out"
                )
        return self.build(workspace).wait_for_completion(show_output=True)

    def clone(self, new_name: str) -> Environment:
        """Return a copy under another name, without a version."""
        return _of_spec(self.to_spec().model_copy(update={"name": new_name, "version": None}))

    def to_spec(self, *, for_registration: bool = False) -> EnvironmentSpec:
        """Return its wire form.

        Args:
            for_registration: leave out a version that an earlier registration gave; a definition that was changed
                since becomes a new version.

        Raises:
            ParameterError: if a variable or setting is not allowed.
        """
        packages, docker, python = self.python.conda_dependencies, self.docker, self.python
        if not isinstance(packages, CondaDependencies):
            raise ParameterError(
                f"environment '{self.name}': conda_dependencies is a {type(packages).__name__}; "
                "give CondaDependencies.create(...)"
            )
        image = own_image(docker.base_image)
        if image and docker.base_dockerfile:
            raise ParameterError(
                f"environment '{self.name}': docker.base_image and docker.base_dockerfile are given; set one to None"
            )
        managed = bool(python.user_managed_dependencies)
        named = managed and python.interpreter_path not in (None, DEFAULT_INTERPRETER)
        keeps_version = self._by_reference or not for_registration
        return EnvironmentSpec(
            name=self.name,
            version=self._version if keeps_version else None,
            user_managed=managed,
            interpreter_path=str(python.interpreter_path) if named else None,
            python_version=packages.python_version,
            conda_packages=tuple(sorted(packages.conda_packages)),
            conda_channels=packages.conda_channels,
            pip_packages=tuple(sorted(packages.pip_packages)),
            pip_options=packages.pip_options,
            docker_image=image,
            dockerfile=None if not docker.base_dockerfile else _dockerfile_text(str(docker.base_dockerfile)),
            docker_registry=docker.base_image_registry.address,
            docker_arguments=tuple(str(each) for each in docker.arguments or ()),
            shm_size=docker.shm_size,
            variables=self._variables(),
        )

    def _variables(self) -> dict[str, str]:
        for name, value in self.environment_variables.items():
            if not isinstance(name, str) or not isinstance(value, (str, int, float)):
                raise ParameterError(
                    f"environment '{self.name}': variable {name!r} is a {type(value).__name__}; give texts "
                    "(values of a run are given with a step's params=)"
                )
            if not name or "=" in name or "\0" in f"{name}{value}":
                raise ParameterError(
                    f"environment '{self.name}': variable {name!r} is not allowed; its name is not empty and has no "
                    "'=', and neither name nor value has a NUL character"
                )
        return {name: str(value) for name, value in sorted(self.environment_variables.items())}

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
            if own != EnvironmentSpec(name=own.name, version=own.version):
                return own
            curated = _curated(self.name, self._version)
            if curated is not None:
                return curated.to_spec()
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
    made.python.interpreter_path = spec.interpreter_path or DEFAULT_INTERPRETER
    packages = CondaDependencies.create(
        pip_packages=spec.pip_packages, conda_packages=spec.conda_packages, python_version=spec.python_version
    )
    for channel in spec.conda_channels:
        packages.add_channel(channel)
    for option in spec.pip_options:
        packages.set_pip_option(option)
    made.python.conda_dependencies = packages
    made.docker.base_image = spec.docker_image
    made.docker.base_dockerfile = spec.dockerfile
    made.docker.base_image_registry.address = spec.docker_registry
    made.docker.arguments = list(spec.docker_arguments)
    made.docker.shm_size = spec.shm_size
    made.environment_variables = dict(spec.variables)
    return made


def _with_packages(name: str, conda: str | Path | None, pip: str | Path | None) -> Environment:
    if conda is not None and pip is not None:
        raise ParameterError(f"environment '{name}': give conda_specification or pip_requirements, not both")
    if conda is not None:
        return Environment.from_conda_specification(name, conda)
    if pip is not None:
        return Environment.from_pip_requirements(name, pip)
    made = Environment(name)
    # The image has what its steps need, as in v1.
    made.python.user_managed_dependencies = True
    return made


def _dockerfile_text(given: str) -> str:
    """Return the text of a Dockerfile that is given as a path or as text."""
    from airflow_mlpipe.sdk.environment_files import read_text

    first = given.lstrip().partition(" ")[0].upper()
    if "\n" in given or first in ("FROM", "ARG", "#") or not given.strip():
        return given
    return read_text(Path(given), "Dockerfile")


def _curated(name: str, version: object) -> Environment | None:
    from airflow_mlpipe.sdk.curated import VERSION, curated_packages

    packages = curated_packages(name)
    if packages is None:
        return None
    made = Environment(name)
    # v1's had versions of their own, which scripts name.
    made._version = str(version or VERSION)
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=packages)
    return made


def _unknown(name: str, message: str) -> str:
    from airflow_mlpipe.model.nearest import nearest
    from airflow_mlpipe.sdk.curated import PREFIX, curated_names

    if name.startswith(PREFIX):
        return f"{message}{nearest(name, curated_names())}; Environment.list(ws) has all"
    return f"{message}; register it: Environment('{name}').register(ws)"
