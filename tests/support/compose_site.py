"""docker-compose.yaml brought up from a copy of this working copy, with images that are made on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import emulators

ROOT = Path(__file__).parents[2]
SWITCH = "MLPIPE_COMPOSE"
BASE = "mlpipe-local/python:3.11"
IMAGE = "mlpipe-tests/compose:0.1.0"
PROJECT = "mlpipe-tests-compose"
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "bench", "docs")


def missing() -> str | None:
    """Return why it cannot be brought up here, or None."""
    if os.environ.get(SWITCH) != "1":
        return f"it builds images of 3 GB and takes minutes: {SWITCH}=1 runs it, as CI does in a part of its own"
    if os.geteuid() != 0:
        return "a base image without a registry needs root"
    for program in ("mmdebstrap", "docker", "docker-compose", "make"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install {program}"
    return None


class ComposeSite:
    """A newcomer's clone, and what runs from it.

    Attributes:
        folder: the clone.
        port: of the UI.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.port = emulators.free_port()
        self._bin = folder / "bin"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
        shutil.copy(ROOT / ".dockerignore", self.folder)
        self._make_docker()
        self._env = {
            **os.environ,
            "COMPOSE_FILE": "docker-compose.yaml:deploy/local/compose.yaml",
            "COMPOSE_PROJECT_NAME": PROJECT,
            "MLPIPE_IMAGE": IMAGE,
            "MLPIPE_PORT": str(self.port),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
        }

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a line of bash in the clone; returns all that it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-6000:]}"
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of each container that runs, by its service; of several, of the last."""
        ids = self.run(f"docker ps --quiet --filter label=com.docker.compose.project={PROJECT}").split()
        told = json.loads(self.run(f"docker inspect {' '.join(ids)}"))
        return {about["Config"]["Labels"]["com.docker.compose.service"]: about for about in told}

    def unconnected(self) -> str | None:
        """Return why this engine connects no containers with each other, or None."""
        name = f"{PROJECT}-probe"
        said = self.run(
            f"docker network create {name} && docker run --rm --network {name} {BASE} true && echo connected; "
            f"docker network rm {name} || true",
            check=False,
        )
        return None if "connected" in said.split() else f"the engine makes no network: {' '.join(said.split())[-300:]}"

    def secret(self, name: str) -> str:
        """A value of ``.env``."""
        found = re.search(rf"^{name}=(.*)$", (self.folder / ".env").read_text(), re.M)
        assert found, name
        return found[1]

    def ask(self, path: str, body: Any = None, token: str = "") -> Any:
        """Ask the API server, as somebody on this machine; returns its JSON, or its text."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
            return json.loads(text) if "json" in answer.headers["Content-Type"] else text

    def set(self, **values: str) -> None:
        """Add lines to ``.env``."""
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in values.items())

    def remove(self) -> None:
        """End and remove what this project has on the engine; for the next time the images of stand-ins stay.

        So do, for a day, the stages of builds.
        """
        if (self.folder / ".env").exists():
            self.run("docker compose down --volumes --remove-orphans --timeout 5", check=False)
        self.run(f"docker rmi --force {IMAGE}", check=False)
        self.run("docker image prune --force --filter label=airflow-mlpipe.stage=build --filter until=24h", check=False)

    def _make_docker(self) -> None:
        """Let ``docker compose`` mean Debian's docker-compose where the plugin is not there."""
        docker = shutil.which("docker")
        if subprocess.run([str(docker), "compose", "version"], capture_output=True, check=False).returncode == 0:
            return
        self._bin.mkdir()
        program = self._bin / "docker"
        program.write_text(
            f'#!/bin/sh\nif test "$1" = compose; then shift; exec docker-compose "$@"; fi\nexec {docker} "$@"\n'
        )
        program.chmod(0o755)


@contextmanager
def running(folder: Path) -> Iterator[ComposeSite]:
    """Make the base image and a clone; `make compose-demo` in it is for who takes this."""
    site = ComposeSite(folder)
    site.run("deploy/local/base.sh")
    try:
        yield site
    finally:
        site.remove()
