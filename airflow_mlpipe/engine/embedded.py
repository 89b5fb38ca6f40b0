"""Runs without a server: the client's side. Imports nothing of Airflow, so that a submit returns at once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from airflow_mlpipe.engine.home import Home
from airflow_mlpipe.errors import UnreachableError

_MAX_REVIVALS = 3
"""How often one client starts a dispatcher for a run that dispatchers leave untaken: one that cannot start at all,
and cannot even say so in the catalog because the disk is full, would be started for ever."""

_SITE_FOLDERS = ("site-packages", "dist-packages")

_LOG_BYTES = 1 << 20
"""Size at which the dispatcher's log is put aside for a new one."""


class EmbeddedEngine:
    """Hands runs of a workspace to its dispatcher, a background process that is started when there is none.

    Attributes:
        name: ``embedded``.
    """

    name = "embedded"

    def __init__(self, workspace_dir: Path) -> None:
        """Serve the workspace whose ``.mlpipe`` folder is `workspace_dir`.

        Raises:
            ModuleNotFoundError: if Airflow is not installed; found out here, since the dispatcher is on its own.
        """
        if find_spec("airflow") is None:
            raise ModuleNotFoundError("No module named 'airflow'", name="airflow")
        self._home = Home(Path(workspace_dir).resolve())
        self._revivals = 0

    def submit(self, run_id: str) -> None:
        """See that a dispatcher takes the run, whose row is in the catalog with status ``Queued``.

        Returns at once. A live dispatcher finds the row by itself; it looks a last time before it leaves,
        under the gate, so a run that was stored before this call is never left behind.
        """
        with self._gate():
            lock = self._take_lock()
            if lock is None:
                return
            try:
                self._spawn(lock)
            finally:
                # The dispatcher holds the lock through its own copy of the descriptor.
                os.close(lock)

    def cancel(self, run_id: str) -> None:
        """See that the run's cancellation, which is in the catalog already, is acted on.

        The dispatcher and the tasks look for it themselves; only a run that no dispatcher has taken needs help.
        """
        from airflow_mlpipe.engine.bookkeeping import close_run
        from airflow_mlpipe.engine.room import Room

        room = Room(self._home.workspace)
        row = room.catalog.get_run(run_id)
        if row.status == "CancelRequested" and row.started_at is None:
            close_run(room.catalog, run_id, room.spec(row.spec_digest))
        else:
            self.reap()

    def is_alive(self, run_id: str | None = None) -> bool:
        """Whether a dispatcher is there to carry on the workspace's runs."""
        with self._gate():
            lock = self._take_lock()
            if lock is None:
                return True
            os.close(lock)
            return False

    def reap(self) -> None:
        """Mark runs whose dispatcher died as failed, and start a dispatcher for runs that none has taken yet.

        Does nothing while a dispatcher lives.

        Raises:
            UnreachableError: if dispatchers keep ending before they take a run; the message names their log.
        """
        from airflow_mlpipe.engine.bookkeeping import close_dead_runs
        from airflow_mlpipe.engine.container_sweep import sweep
        from airflow_mlpipe.engine.room import Room

        with self._gate():
            lock = self._take_lock()
            if lock is None:
                return
            try:
                catalog = Room(self._home.workspace).catalog
                close_dead_runs(catalog)
                sweep(self._home.workspace, catalog)
                # Not dead but orphaned: its submit is still on its way here, or was killed.
                if any(row.engine == self.name for row in catalog.queued_runs()):
                    self._revive(lock)
            finally:
                os.close(lock)

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""
        return f"the dispatcher's log: {self._home.dispatcher_log}"

    def _revive(self, lock: int) -> None:
        if self._revivals == _MAX_REVIVALS:
            raise UnreachableError(
                f"the dispatcher of workspace '{self._home.workspace}' ended {self._revivals} times before it took a "
                f"run; its log says why: {self._home.dispatcher_log}"
            )
        self._revivals += 1
        self._spawn(lock)

    def _spawn(self, lock: int) -> None:
        self._home.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow_mlpipe.engine.dispatcher", str(self._home.workspace), str(lock)]
        log_file = self._home.dispatcher_log
        if log_file.exists() and log_file.stat().st_size > _LOG_BYTES:
            log_file.replace(log_file.with_suffix(".old.log"))
        with log_file.open("ab") as log:
            # Through a shell that leaves at once: the dispatcher is nobody's child then, and a client that
            # lives on has no zombie to bury.
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                cwd=self._home.folder,
                env={**os.environ, "PYTHONPATH": python_path()},
                check=True,
            )

    def _take_lock(self) -> int | None:
        """Return a descriptor that holds the dispatcher's lock, or None if a dispatcher has it."""
        lock = os.open(self._home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    @contextmanager
    def _gate(self) -> Iterator[None]:
        with hold(self._home.gate):
            yield


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it."""
    gate = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield
    finally:
        os.close(gate)


def python_path() -> str:
    """Return PYTHONPATH for a process that runs in another folder: absolute, and with this package on it."""
    entries = [str(Path(part).resolve()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    parent = Path(__file__).resolve().parents[2]
    # An installed package is found anyway, a source checkout too if it was installed as editable. The folder must not
    # come before the standard library, and packages on another path would be another environment to the reuse keys.
    if parent.name not in _SITE_FOLDERS and not _is_installed_as_editable():
        entries.append(str(parent))
    return os.pathsep.join(dict.fromkeys(entries))


def _is_installed_as_editable() -> bool:
    """Whether a folder of installed packages leads to this source checkout."""
    return any(
        Path(entry).name in _SITE_FOLDERS and next(Path(entry).glob("airflow_mlpipe-*.dist-info"), None) is not None
        for entry in sys.path
    )
