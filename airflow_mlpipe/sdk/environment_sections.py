"""The parts of an environment: interpreter and packages, image, and what v1's scripts set for Spark."""

from __future__ import annotations

from airflow_mlpipe.sdk.conda import CondaDependencies

DEFAULT_INTERPRETER = "python"


class PythonSection:
    """``environment.python``.

    Attributes:
        conda_dependencies: packages to install.
        user_managed_dependencies: True if the interpreter is taken as it is and nothing is installed.
        interpreter_path: the interpreter of user-managed dependencies: a path, or ``python`` for the current one.
        conda_dependencies_file: recorded.
        base_conda_environment: recorded.
    """

    def __init__(self) -> None:
        self.conda_dependencies = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path = DEFAULT_INTERPRETER
        self.conda_dependencies_file: str | None = None
        self.base_conda_environment: str | None = None


class ContainerRegistry:
    """``environment.docker.base_image_registry``: where the base image is pulled from.

    Attributes:
        address: e.g. ``registry.example.com``, or None for the engine's own.
        username: not recorded: a definition is read by everybody who may read the workspace.
        password: not recorded.
    """

    def __init__(self) -> None:
        self.address: str | None = None
        self.username: str | None = None
        self.password: str | None = None


class DockerSection:
    """``environment.docker``.

    Attributes:
        enabled: recorded: whether a step runs in a container is its compute target's business.
        base_image: the image; None, or v1's ``DEFAULT_CPU_IMAGE`` and ``DEFAULT_GPU_IMAGE``, for the target's own.
        base_dockerfile: text or path of a Dockerfile, instead of `base_image`; or None.
        base_image_registry: where the image is pulled from.
        arguments: further arguments of ``docker run``.
        shm_size: size of the shared memory, e.g. ``2g``, or None.
        shared_volumes: recorded.
        gpu_support: recorded.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.base_image_registry = ContainerRegistry()
        self.arguments: list[str] = []
        self.shm_size: str | None = None
        self.shared_volumes = True
        self.gpu_support = False

    @property
    def use_docker(self) -> bool:
        """Another name of ``enabled``, as later releases of v1 had it."""
        return self.enabled

    @use_docker.setter
    def use_docker(self, value: bool) -> None:
        self.enabled = value


class DockerConfiguration:
    """How a run uses containers: ``RunConfiguration.docker``, or ``docker_runtime_config`` of a ScriptRunConfig."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: list[str] | None = None,
        shm_size: str | None = None,
    ) -> None:
        """Say how.

        Args:
            use_docker: recorded: whether a step runs in a container is its compute target's business.
            shared_volumes: recorded.
            arguments: further arguments of ``docker run``.
            shm_size: size of the shared memory, e.g. ``2g``.
        """
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or [])
        self.shm_size = shm_size


class SparkSection:
    """``environment.spark``: recorded, for scripts that set it.

    Attributes:
        repositories: recorded.
        packages: recorded.
        precache_packages: recorded.
    """

    def __init__(self) -> None:
        self.repositories: list[str] = []
        self.packages: list[str] = []
        self.precache_packages = True
