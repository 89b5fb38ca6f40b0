"""Servers that stand for the clouds' stores, on 127.0.0.1 and a free port; `make emulators` installs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EMULATORS = Path(__file__).parents[2] / ".venv" / "emulators"
MOTO = EMULATORS / "moto" / "bin" / "moto_server"
AZURITE = EMULATORS / "azurite" / "node_modules" / ".bin" / "azurite-blob"
GCS = EMULATORS / "gcs" / "bin" / "gcp-storage-emulator"
# The account that every installation of the emulator has.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def missing(program: Path) -> str | None:
    """Return why the emulator cannot be started, or None."""
    return None if program.exists() else f"{program.name} is not installed: make emulators"


@contextmanager
def running(command: list[str], port: int, path: str = "/") -> Iterator[str]:
    """Run a server until the body ends, and yield its URL once it answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _await_answer(process, port, path, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            # Its own group: some of them are started by a script.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def s3() -> Iterator[str]:
    """Run an S3 server and yield its endpoint."""
    port = free_port()
    with running([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], port) as url:
        yield url


@contextmanager
def azure() -> Iterator[str]:
    """Run a Blob server and yield the endpoint of its account."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mlpipe-azurite-") as folder:
        command = [
            str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--silent",
            "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip
        with running(command, port) as url:
            yield f"{url}/{AZURE_ACCOUNT}"


@contextmanager
def gcs() -> Iterator[str]:
    """Run a Google Cloud Storage server and yield its endpoint."""
    port = free_port()
    command = [str(GCS), "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with running(command, port) as url:
        yield url


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_answer(process: subprocess.Popen[bytes], port: int, path: str, log: object) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{port}{path}", timeout=5
            ):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise AssertionError(f"{process.args[0]} did not start: {log.read().decode()[-2000:]}") from None
        # The server tells nobody when it listens.
        time.sleep(0.05)
