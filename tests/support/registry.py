"""A registry of images on 127.0.0.1, which a Docker engine talks to without TLS."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from container_engine import Engine

PROGRAM = "docker-registry"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """A registry, empty at first.

    Attributes:
        host: its name in images' names: ``127.0.0.1:PORT``.
        login: who may use it and with what password, or None for anybody.
    """

    def __init__(self, host: str, login: tuple[str, str] | None, process: subprocess.Popen[bytes], log: Path) -> None:
        self.host, self.login = host, login
        self._process, self._log = process, log

    def connection(self, password: str | None = None) -> str:
        """An Airflow connection to its folder ``team``, as JSON; `password` is another one than the right one."""
        known: dict[str, Any] = {"conn_type": "docker", "host": f"http://{self.host}/team"}
        if self.login is not None:
            known |= {"login": self.login[0], "password": password or self.login[1]}
        return json.dumps(known)

    def put(self, engine: Engine, image: str, name: str) -> str:
        """Let ``REPOSITORY:TAG`` mean an image of an engine from now on, and return its digest.

        It is pushed under another name and copied in here: the engine knows nothing of `name` afterwards.
        """
        repository, _, tag = name.rpartition(":")
        place, api = f"{self.host}/pushed/{repository}", engine.client.api
        api.tag(image, place, tag)
        try:
            for entry in api.push(place, tag=tag, stream=True, decode=True, auth_config=self._auth()):
                assert "error" not in entry, entry["error"]
        finally:
            api.remove_image(f"{place}:{tag}")
        manifest, _ = self._ask("GET", f"pushed/{repository}/manifests/{tag}")
        parts = json.loads(manifest)
        for blob in (parts["config"], *parts["layers"]):
            self._ask("POST", f"{repository}/blobs/uploads/?mount={blob['digest']}&from=pushed/{repository}")
        return self._ask("PUT", f"{repository}/manifests/{tag}", manifest)[1]

    def digest(self, name: str) -> str | None:
        """What ``REPOSITORY:TAG`` means, or None if there is no such image."""
        try:
            return self._ask("HEAD", "/manifests/".join(name.rsplit(":", 1)))[1]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def asked(self) -> list[str]:
        """The calls that it has answered, ``METHOD PATH CODE``."""
        found = []
        for line in self._log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            if "http.response.status" in entry:
                method, place = entry["http.request.method"], entry["http.request.uri"]
                found.append(f"{method} {place} {entry['http.response.status']}")
        return found

    def stop(self) -> None:
        """End it; nobody answers from then on."""
        self._process.terminate()
        self._process.wait()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[bytes, str]:
        """Call it; returns what it answers, and the digest that it names."""
        headers = {"Accept": MANIFEST, "Content-Type": MANIFEST}
        if self.login is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}"
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", body, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.read(), str(answer.headers.get("Docker-Content-Digest"))

    def _auth(self) -> dict[str, str] | None:
        return None if self.login is None else dict(zip(("username", "password"), self.login, strict=True))


def missing() -> str | None:
    """Return why there can be no registry here, or None."""
    if shutil.which(PROGRAM) is None:
        return f"no registry of images: apt-get install {PROGRAM}"
    if find_spec("bcrypt") is None:
        return "bcrypt is not installed: pip install bcrypt"
    return None


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def registry(
    folder: Path, login: tuple[str, str] | None = None, *, read_only: bool = False, port: int | None = None
) -> Iterator[Registry]:
    """Run a registry in this block.

    Args:
        folder: where its images, its settings and its log lie; they stay.
        login: a name and its password, which it then asks everybody for.
        read_only: whether it refuses to be pushed to.
        port: on 127.0.0.1; by default a free one.
    """
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": read_only}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of-a-test"},
    }
    if login is not None:
        import bcrypt

        user, password = login
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        (folder / "users").write_text(f"{user}:{hashed}\n")
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "users")}}
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(folder / "config.yml")], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    found = Registry(f"127.0.0.1:{port}", login, process, log)
    try:
        _listening(port, process, log)
        yield found
    finally:
        found.stop()


def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
