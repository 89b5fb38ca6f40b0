"""The container of one try of a step: Airflow's DockerOperator, with what that leaves out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.docker.operators.docker import DockerOperator
from docker.types import DeviceRequest, LogConfig, Mount

from airflow_mlpipe.engine.container_mounts import Bind
from airflow_mlpipe.engine.docker_engine import DockerEngine, refusals
from airflow_mlpipe.errors import UnreachableError
from airflow_mlpipe.model.compute import Resources

if TYPE_CHECKING:
    from docker import APIClient

_NANO = 1_000_000_000
_HIDDEN_BYTES = 1 << 16


class StepContainer(DockerOperator):
    """Makes, starts and ends one container. It is never executed as a task: it is the hand of one that is.

    Unlike its base it sets a limit of processors, not a weight; it keeps the container's log whole for as long as the
    container is there, whatever the engine's own settings are; it lets no process of the container become another
    user; and it returns nothing of what the container prints.

    Args:
        limits: how much of the machine it gets.
        binds: what it sees of the machine.
        groups: further groups of its user.
        **kwargs: DockerOperator's: ``image``, ``command``, ``entrypoint``, ``environment``, ``user``, ...
    """

    # User text is never a template, and a command that ends in .sh names no file to be read as one.
    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()

    def __init__(self, *, limits: Resources, binds: Sequence[Bind], groups: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(task_id="container", mount_tmp_dir=False, auto_remove="force", **kwargs)
        self._limits = limits
        self._binds = list(binds)
        self._groups = list(groups)
        self._pid = 0

    @cached_property
    def engine(self) -> DockerEngine:
        """The engine, once it has answered.

        Raises:
            UnreachableError: if it does not.
        """
        return DockerEngine.at(str(self.docker_url))

    @property
    def cli(self) -> APIClient:
        """The engine's client, which is closed with it."""
        return self.engine.client

    @property
    def id(self) -> str:
        """The container's id."""
        return str(self.container["Id"])

    def create(self) -> None:
        """Make the container.

        Raises:
            ServiceError: if the engine refuses; the cause is its own error.
        """
        limits = self._limits
        with refusals(self.engine.url):
            self.container = self.cli.create_container(
                image=self.image,
                name=self.container_name,
                entrypoint=self.entrypoint,
                command=self.command,
                environment=self.environment,
                user=self.user,
                working_dir=self.working_dir,
                labels=self.labels,
                host_config=self.cli.create_host_config(
                    mounts=[_mount(bind) for bind in self._binds],
                    network_mode=self.network_mode,
                    nano_cpus=None if limits.cpus is None else round(limits.cpus * _NANO),
                    mem_limit=limits.memory_bytes,
                    # Without this the same again would go to the disk, and the step crawl instead of end.
                    memswap_limit=limits.memory_bytes,
                    shm_size=limits.shm_size_bytes,
                    device_requests=_gpus(limits.gpus),
                    # Else a program of the image could leave files that this user cannot remove.
                    security_opt=["no-new-privileges"],
                    group_add=self._groups or None,
                    # An engine's own default may drop lines, or keep none.
                    log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "1p", "mode": "blocking"}),
                ),
            )

    def start(self) -> None:
        """Start it.

        Raises:
            ServiceError: if the engine refuses; the cause is its own error.
        """
        with refusals(self.engine.url):
            self.cli.start(self.id)
        # It runs: an engine that is away from now on is for whoever follows it.
        with suppress(UnreachableError):
            self._pid = int(self.state()["Pid"])

    def state(self) -> Mapping[str, Any]:
        """Return the engine's ``State`` of it: ``Running``, ``ExitCode``, ``OOMKilled``, ``Pid``, ...

        Raises:
            ServiceError: if it is gone, or the engine does not answer.
        """
        with refusals(self.engine.url):
            state: Mapping[str, Any] = self.cli.inspect_container(self.id)["State"]
            return state

    def end(self, grace_s: int) -> None:
        """Ask it to end, as its image wants to be asked, and end it with all its processes after the grace.

        Raises:
            ServiceError: if the engine does not answer.
        """
        with refusals(self.engine.url):
            self.cli.stop(self.id, timeout=grace_s)

    def remove(self) -> None:
        """End it at once and remove it; where the engine does not answer, at least end its processes.

        Raises:
            ServiceError: if the engine refuses, or does not answer.
        """
        try:
            self.engine.remove(self.id)
        except UnreachableError:
            self._kill()
            raise

    def _kill(self) -> None:
        """Kill its first process, and with it all others, if this machine and this user can."""
        with suppress(OSError):
            # The number may be another's by now, and of an engine elsewhere it says nothing.
            if self._pid and self.id in Path(f"/proc/{self._pid}/cgroup").read_text():
                os.kill(self._pid, signal.SIGKILL)


class Ending:
    """The end of a container, waited for in a thread of its own.

    Attributes:
        came: set when the container has ended, or nobody can tell.
    """

    def __init__(self, container: StepContainer) -> None:
        """Prepare to wait for `container`; see :meth:`start`."""
        self._container = container
        self.came = threading.Event()
        self.trouble: BaseException | None = None

    def start(self) -> Ending:
        """Begin to wait."""
        self.came.clear()
        self.trouble = None
        threading.Thread(target=self._run, name=f"end of {self._container.id[:12]}", daemon=True).start()
        return self

    def _run(self) -> None:
        try:
            with refusals(self._container.engine.url):
                self._container.cli.wait(self._container.id)
        except BaseException as error:
            self.trouble = error
        finally:
            self.came.set()


def _mount(bind: Bind) -> Mount:
    if bind.source is None:
        return Mount(str(bind.target), None, "tmpfs", tmpfs_size=_HIDDEN_BYTES)
    return Mount(str(bind.target), str(bind.source), "bind", read_only=not bind.writable)


def _gpus(count: int | None) -> list[DeviceRequest] | None:
    return [DeviceRequest(count=count, capabilities=[["gpu"]])] if count else None
