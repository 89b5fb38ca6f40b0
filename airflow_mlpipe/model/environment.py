"""What software a step asks for, and what of it was chosen."""

from __future__ import annotations

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json

LOCK_FORMAT = 1
"""Version of :class:`EnvironmentLock`. Raising it makes every environment be resolved anew."""


class EnvironmentSpec(Frozen):
    """The wire form of an ``Environment``.

    Attributes:
        name: name it is registered or curated under; not in the identity of a step.
        version: its version, or None if it was never registered.
        user_managed: True if the interpreter is taken as it is and nothing is installed.
        interpreter_path: the interpreter of a user-managed one, or None for the current one.
        python_version: wanted Python, e.g. ``3.11``, or None for any.
        conda_packages: conda requirements, sorted.
        conda_channels: channels that conda looks in, the first one first.
        pip_packages: pip requirements, sorted.
        pip_options: options of pip, e.g. ``--extra-index-url URL``; used only where the workspace allows them.
        docker_image: image to run in, or None.
        dockerfile: text of the Dockerfile of the image to run in, or None.
        docker_registry: address of the registry that `docker_image` is pulled from, or None.
        docker_arguments: further arguments of ``docker run``, as v1's ``docker.arguments``.
        shm_size: size of the container's shared memory, e.g. ``2g``, or None.
        variables: environment variables the user set.
    """

    name: str = "current"
    version: str | None = None
    user_managed: bool = False
    interpreter_path: str | None = None
    python_version: str | None = None
    conda_packages: tuple[str, ...] = ()
    conda_channels: tuple[str, ...] = ()
    pip_packages: tuple[str, ...] = ()
    pip_options: tuple[str, ...] = ()
    docker_image: str | None = None
    dockerfile: str | None = None
    docker_registry: str | None = None
    docker_arguments: tuple[str, ...] = ()
    shm_size: str | None = None
    variables: dict[str, str] = {}

    @property
    def image(self) -> str | None:
        """The image it names, with its registry."""
        registry, image = self.docker_registry, self.docker_image
        named = not registry or not image or image.startswith(f"{registry}/")
        return image if named else f"{registry}/{image}"

    @property
    def has_packages(self) -> bool:
        """Whether something is to be installed, as far as its words say."""
        return not self.user_managed and bool(self.conda_packages or self.pip_packages or self.python_version)

    @property
    def software_digest(self) -> Digest:
        """What its packages are chosen by: two environments of equal software share one choice."""
        return digest_json(
            "environment",
            {
                "format": LOCK_FORMAT,
                "python": self.python_version,
                "conda": list(self.conda_packages),
                "channels": list(self.conda_channels),
                "pip": list(self.pip_packages),
                "options": list(self.pip_options),
            },
        )


class EnvironmentLock(Frozen):
    """Which packages an environment was resolved to. It is kept with the workspace and is the same for all machines.

    Attributes:
        format: see :data:`LOCK_FORMAT`.
        definition: see :attr:`EnvironmentSpec.software_digest`.
        python: version of the interpreter, e.g. ``3.11``.
        packages: ``name==version`` from the package index, sorted.
        core: likewise, what this package needs beside them; not in the identity of a step.
        core_of: digest of what this package needed when that was chosen.
        conda: ``name=version=build`` from conda, sorted; empty if conda was not used.
        channels: conda channels, the first one first.
        index_options: options of pip that say where packages come from and that the workspace allows.
        notes: what was left out or taken instead of something, one line each, for people.
    """

    format: int = LOCK_FORMAT
    definition: Digest
    python: str
    packages: tuple[str, ...] = ()
    core: tuple[str, ...] = ()
    core_of: Digest = ""
    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    index_options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What runs, by name: the environment part of a step's key."""
        versions: dict[str, JsonValue] = {"python": self.python, "implementation": "cpython"}
        for line in self.conda:
            name, _, version = line.partition("=")
            versions[f"conda:{name}"] = version
        for line in self.packages:
            name, _, version = line.partition("==")
            versions[name] = version
        return versions
