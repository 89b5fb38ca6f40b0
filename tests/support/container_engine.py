"""The Docker engine of the tests: the machine's own, or a private one that a test may kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from docker import DockerClient

SOCKET = "unix:///var/run/docker.sock"


class Engine:
    """A Docker engine that answers.

    Attributes:
        url: where, as ``DOCKER_HOST`` has it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @cached_property
    def client(self) -> DockerClient:
        """A client of it, for this process."""
        from docker import DockerClient

        return DockerClient(base_url=self.url, timeout=60)


@cache
def missing() -> str | None:
    """Return why the machine's engine cannot be used, or None."""
    if find_spec("docker") is None:
        return "the docker library is not installed: pip install 'airflow-mlpipe[airflow]'"
    url = os.environ.get("DOCKER_HOST", SOCKET)
    try:
        Engine(url).client.ping()
    except Exception as error:  # whatever the transport says
        return f"no Docker engine answers at {url} (apt-get install docker.io, then start dockerd): {error}"
    return None


def machine() -> Engine:
    """Return the machine's engine: ``DOCKER_HOST``, else the usual socket."""
    return Engine(os.environ.get("DOCKER_HOST", SOCKET))


def private_missing() -> str | None:
    """Return why no private engine can be started here, or None."""
    if os.geteuid() != 0:
        return "a private Docker engine needs root"
    if shutil.which("dockerd") is None:
        return "dockerd is not installed: apt-get install docker.io"
    return missing()


class PrivateEngine(Engine):
    """An engine of one's own, in a folder of its own. Its containers have the networks ``none`` and ``host``.

    Its images are its own as well: make them with `images` after it has started. They outlive `kill` and `start`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"unix://{folder}/socket")
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder = self._folder
        command = [
            "dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
            "-p", str(folder / "pid"), "-H", self.url, "--iptables=false", "--bridge=none",
        ]  # fmt: skip
        # A killed engine leaves them, and the next one believes them where nobody reaps the dead.
        for pid in (folder / "pid", folder / "exec" / "containerd" / "containerd.pid"):
            pid.unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client.ping()
                return
            except Exception:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"dockerd did not start: {(folder / 'log').read_text()[-2000:]}") from None
            # It tells nobody when it listens.
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does: nobody answers, its containers run on until `start` or `close`."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it with all its containers, and leave nothing of it."""
        self.client.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        ours = [process for process in psutil.process_iter() if self._owns(process)]
        # The containers' own processes are children of what watches over them.
        for process in [child for parent in ours for child in _below(parent)] + ours:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ours, 10)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            point = line.split()[1]
            if point.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return any(f"{self._folder}/" in word for word in process.cmdline())
        except psutil.Error:
            return False


@contextmanager
def private() -> Iterator[PrivateEngine]:
    """Run an engine that the body may kill and start again."""
    # A socket's path has 107 characters at most: pytest's folders may be longer.
    engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="mlpipe-dockerd-")))
    try:
        yield engine
    finally:
        engine.close()


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
