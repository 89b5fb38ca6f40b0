"""A PostgreSQL server for one test session, made of whatever binaries the machine has."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

OWNER = "postgres"
"""Debian's user for it: the server refuses to run as root."""


def missing() -> str | None:
    """Return why no server can be started here, or None."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'airflow-mlpipe[postgres]'"
    if _binaries() is None:
        return "PostgreSQL's initdb and pg_ctl are not installed: apt-get install postgresql"
    if os.geteuid() == 0 and (
        shutil.which("runuser") is None or OWNER not in {user.pw_name for user in pwd.getpwall()}
    ):
        return f"PostgreSQL does not run as root, and there is no user '{OWNER}' to run it as"
    return None


class Server:
    """A server on a socket in a folder of its own, without a network port.

    Attributes:
        url: of its one database.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.url = f"postgresql://{OWNER}@/postgres?host={folder}"
        self._folder, self._binaries = folder, binaries
        self._as_owner = []
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER)
            self._as_owner = ["runuser", "-u", OWNER, "--"]
        data = str(folder / "data")
        self._call("initdb", "-D", data, "-U", OWNER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off -c max_connections=100"
        self._control("-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it at once, as a crash does: connections break, and it recovers when it is started again."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        self._call("pg_ctl", "-D", str(self._folder / "data"), "-w", *arguments)

    def _call(self, program: str, *arguments: str) -> None:
        # Output goes nowhere: a server that inherited a pipe would keep its reader waiting.
        subprocess.run(
            [*self._as_owner, str(self._binaries / program), *arguments],
            cwd=self._folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def running() -> Iterator[Server]:
    """Run a server that can be stopped and started again."""
    binaries = _binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-pg-"))
    server = Server(folder, binaries)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """Run a server and yield its URL."""
    with running() as found:
        yield found.url


def _binaries() -> Path | None:
    """Return the folder of the newest server: Debian keeps it off the PATH."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    usable = [folder for folder in found if (folder / "pg_ctl").exists()]
    return max(usable, key=lambda folder: folder.parent.name, default=None)
