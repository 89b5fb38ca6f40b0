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


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a socket in a folder of its own, without a network port, and yield its URL."""
    binaries = _binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-pg-"))
    as_owner = []
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER)
        as_owner = ["runuser", "-u", OWNER, "--"]

    def call(program: str, *arguments: str) -> None:
        # Output goes nowhere: a server that inherited a pipe would keep its reader waiting.
        subprocess.run(
            [*as_owner, str(binaries / program), *arguments],
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data = str(folder / "data")
    call("initdb", "-D", data, "-U", OWNER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
    call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://{OWNER}@/postgres?host={folder}"
    finally:
        call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    """Return the folder of the newest server: Debian keeps it off the PATH."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    usable = [folder for folder in found if (folder / "pg_ctl").exists()]
    return max(usable, key=lambda folder: folder.parent.name, default=None)
