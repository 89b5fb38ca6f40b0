"""The processes of a server: started, watched, started again, and ended by their ids. Knows nothing of Airflow."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from airflow_mlpipe.errors import ServiceError
from airflow_mlpipe.execution.processes import dying_with_parent
from airflow_mlpipe.execution.report import tail

_LOG_BYTES = 8 << 20
_END_S = 5.0
_DEATHS, _DEATHS_S = 5, 120.0
_LAST_LINES = 12

# Reads the sessions of services until the other end of the pipe closes, then kills whatever is left in them.
_GUARD = r"""
while read -r leader; do leaders="$leaders $leader"; done
found=yes
while [ -n "$found" ]; do
    found=
    for file in /proc/[0-9]*/stat; do
        read -r line 2>/dev/null < "$file" || continue
        pid=${line%% *}
        set -- ${line##*) }
        case " $leaders " in *" $4 "*) [ "$1" = Z ] || { kill -9 "$pid" 2>/dev/null && found=yes; } ;; esac
    done
    sleep 0.1
done
"""


class Service:
    """One process with what it starts. It leads a session, by which all of them are found.

    Attributes:
        name: of the service.
        log: file with what it prints.
        process: the process now.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        log: Path,
        lock: int,
        kills_first: bool = False,
    ) -> None:
        """Describe a service; starts nothing.

        Args:
            name: of the service.
            argv: its command.
            env: its whole environment.
            folder: its working directory.
            log: file for what it prints.
            lock: descriptor that it keeps open: the workspace stays locked as long as one service lives.
            kills_first: whether to end what it started before itself: it would wait for that.
        """
        self.name = name
        self.log = log
        self._argv, self._env, self._folder, self._lock, self._kills_first = argv, env, folder, lock, kills_first
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. It ends when the thread that started it does, however that ends."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        argv, before_exec = dying_with_parent(self._argv)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._env),
                cwd=self._folder,
                start_new_session=True,
                pass_fds=[self._lock],
                preexec_fn=before_exec,
            )

    def revive(self) -> bool:
        """Start it again if it has ended. Returns whether it had.

        Raises:
            ServiceError: if it has ended too often; the message has the last lines it printed.
        """
        if self.process is None or self.process.poll() is None:
            return False
        self._deaths.append(time.monotonic())
        if len(self._deaths) == _DEATHS and self._deaths[-1] - self._deaths[0] < _DEATHS_S:
            raise ServiceError(self._told())
        kill_session(self.process.pid)
        self.start()
        return True

    def ask_to_end(self) -> None:
        """Begin to end it and what it started."""
        if self.process is not None and self.process.poll() is None:
            if self._kills_first:
                kill_session(self.process.pid, spare=self.process.pid)
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait until it has ended, up to `deadline` of the monotonic clock; what is left then is killed."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        kill_session(self.process.pid)
        self.process.wait()

    def _told(self) -> str:
        lines = "".join(f"\n    {line}" for line in tail(self.log)[-_LAST_LINES:])
        return f"Airflow's {self.name} ended {_DEATHS} times within {_DEATHS_S:g} s; its log: {self.log}{lines}"


class Guard:
    """Ends the services' processes if the process that watches over them is killed and cannot.

    The services themselves end with it, but what they have started is nobody's then, and would keep the workspace.
    """

    def __init__(self) -> None:
        """Start to watch over this process."""
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "mlpipe-guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, service: Service) -> None:
        """Remember the session of a service that has been started."""
        if self._process.stdin is not None and service.process is not None:
            self._process.stdin.write(b"%d\n" % service.process.pid)
            self._process.stdin.flush()

    def leave(self) -> None:
        """End watching, when no process is left."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def end_all(services: Sequence[Service]) -> None:
    """End services side by side."""
    for service in services:
        service.ask_to_end()
    deadline = time.monotonic() + _END_S
    for service in services:
        service.end(deadline)


def kill_session(leader: int, spare: int | None = None) -> None:
    """Kill the processes of a session, but for `spare`: what they leave starts no new ones."""
    while members := [pid for pid in _pids() if pid != spare and _session_of(pid) == leader and not _is_zombie(pid)]:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _pids() -> list[int]:
    import psutil

    return psutil.pids()


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _is_zombie(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
