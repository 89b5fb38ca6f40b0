"""An S3 server and a PostgreSQL server for the demo, on this machine, ended with it.

They are started from what is installed: ``moto_server`` on the PATH or in ``.venv/emulators``, which ``make
emulators`` fills, and Debian's ``postgresql``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOTO = Path(__file__).resolve().parents[2] / ".venv" / "emulators" / "moto" / "bin" / "moto_server"
PATIENCE_S = 60


def missing() -> str | None:
    """Returns what is not installed, and how to install it; None if all is there."""
    if _moto() is None:
        return "no moto_server: make emulators, or pip install 'moto[s3,server]'"
    if _postgres() is None:
        return "no initdb and pg_ctl: apt-get install postgresql"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root and there is no runuser to run it as its own user: run this as a user"
    return None


@contextmanager
def s3() -> Iterator[str]:
    """Runs an S3 server and yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([_moto(), "-H", "127.0.0.1", "-p", str(port)], **quiet)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{_moto()} does not start; run it by hand to see why")
            time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait()


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, str]]:
    """Runs a PostgreSQL server in a new `folder` and yields its URL for SQLAlchemy and its password."""
    programs = _postgres()
    assert programs is not None
    folder.mkdir()
    as_owner = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]

    def call(program: str, *arguments: str) -> None:
        # Output goes nowhere: a server that inherited a pipe would keep its reader waiting.
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*as_owner, programs / program, *arguments], cwd=folder, check=True, **silent)

    password = secrets.token_urlsafe(16)
    secret = folder / "password"
    secret.write_text(password)
    if as_owner:
        shutil.chown(secret, "postgres")
    secret.chmod(0o600)
    data = str(folder / "data")
    call(
        "initdb", "-D", data, "-U", "crm", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--encoding=UTF8"
    )
    # A socket in the folder, no network port.
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://crm@/postgres?host={folder}", password
    finally:
        call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _moto() -> str | None:
    return str(MOTO) if MOTO.exists() else shutil.which("moto_server")


def _postgres() -> Path | None:
    """Returns the folder of the newest server's programs: Debian keeps them off the PATH."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    usable = [folder for folder in found if (folder / "pg_ctl").exists()]
    return max(usable, key=lambda folder: folder.parent.name, default=None)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except OSError:
        return False
