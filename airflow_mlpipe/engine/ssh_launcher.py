"""Runs steps on another machine by SSH: their files go there, their outputs come back."""

from __future__ import annotations

import posixpath
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.engine.ssh_session import SshSession, ssh_session
from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.execution.aside import FOLDER as ASIDE
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.command import command
from airflow_mlpipe.execution.contract import StepContext, StepJob
from airflow_mlpipe.execution.direct import FOLDER, copies_of
from airflow_mlpipe.execution.launch import GRACE_S, STOP_CHECK_S, Exit
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import Software
from airflow_mlpipe.execution.tail import Tail
from airflow_mlpipe.execution.variables import variables
from airflow_mlpipe.model.compute import ComputeSpec

if TYPE_CHECKING:
    from paramiko import Channel

FETCH_S = 1.0
"""How often what a step prints is fetched."""

_KILL = "kill -s {signal} -- -$(cat {pid} 2>/dev/null) 2>/dev/null; true"

_SCRIPT = """\
echo $$ > {base}/pid
{exports}
cd {base}/code || exit 1
exec 3<&0
# The worker holds the other end: when it is gone, so is the step.
( cat <&3; kill -s KILL -- -$$ ) >/dev/null 2>&1 &
exec 3<&-
{command} </dev/null >{base}/stdout.txt 2>{base}/stderr.txt
code=$?
trap '' TERM
kill -s TERM -- -$$ 2>/dev/null
exit $code
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a try of a step has its files on the machine."""

    base: str

    def of(self, *words: str) -> str:
        """Return a path below it."""
        return posixpath.join(self.base, *words)


class SshLauncher:
    """Runs steps on the machine of a compute target; a :class:`~airflow_mlpipe.execution.here.Launcher`."""

    def __init__(self, compute: ComputeSpec) -> None:
        """Run steps on `compute`, of kind ``ssh``."""
        assert compute.ssh is not None
        self._compute = compute
        self._settings = compute.ssh
        self._software = Software(
            python=compute.ssh.python, shell="sh", sees_mounts=False, sees_catalog=False, sees_files=False
        )

    def software(self, order: Order, site: Site) -> Software:
        """Return the machine's own: the worker's interpreter and its variables are not there.

        Raises:
            NotSupportedError: if the step's environment asks for packages or an image.
        """
        asked = order.step.environment
        if asked.has_packages or asked.docker_image or asked.dockerfile:
            raise NotSupportedError(
                f"step '{order.step.name}': nothing is installed on compute target '{self._compute.name}', and its "
                "environment asks for packages or an image; install them there and leave them out"
            )
        return self._software

    def launch(self, job: StepJob, order: Order) -> Exit:
        """Lay the job's files there, run its command, and bring back what it leaves.

        Raises:
            ConfigError: if Airflow's provider for SSH is missing.
            ServiceError: if the machine cannot be reached, refuses, or is lost while the step runs.
        """
        with ssh_session(self._compute) as session:
            place = Place(posixpath.join(session.folder(self._settings.folder), *job.work.parts[-2:]))
            session.run(f"rm -rf {shlex.quote(place.base)}")
            try:
                self._lay(job, session, place)
                started_at = order.now()
                with _following(job, session, place, order.on_line) as follow:
                    channel = session.start("sh", place.of("run.sh"))
                    stopped, timed_out = self._wait(channel, job, session, place, order.stop, follow)
                    code = channel.exit_status
                    ended_at = order.now()
                self._bring_back(job, session, place, ended_well=code == 0)
            finally:
                session.run(f"rm -rf {shlex.quote(place.base)}")
        # A shell tells of a signal by a number above 128.
        code = 128 - code if code > 128 else code
        return Exit(code=code, started_at=started_at, ended_at=ended_at, stopped=stopped, timed_out=timed_out)

    def end_tries(self, tries: Path) -> None:
        """End what is left of earlier tries, and remove their files."""
        with ssh_session(self._compute) as session:
            folder = shlex.quote(posixpath.join(session.folder(self._settings.folder), tries.name))
            kill = _KILL.format(signal="KILL", pid='"$pid"')
            session.run(f"for pid in {folder}/*/pid; do {kill}; done; rm -rf {folder}")

    def _lay(self, job: StepJob, session: SshSession, place: Place) -> None:
        """Copy code and inputs there, and write the script that runs the command."""
        session.put(job.cwd, place.of("code"))
        inputs = {}
        for name, port in job.context.inputs.items():
            if port.path is None:
                inputs[name] = port
                continue
            # The name may mean something to the step.
            path = place.of("inputs", name, Path(port.path).name)
            if Path(port.path).exists():
                session.put(Path(port.path), path)
            inputs[name] = port.model_copy(update={"path": path, "value": path})
        stores = dict(job.context.stores)
        for name, copy in copies_of(stores, job.work).items():
            folder = place.of(FOLDER, copy.root.name)
            session.put(copy.root, folder)
            stores[name] = Path(folder).as_uri()
        outputs = {}
        for name, out in job.context.outputs.items():
            path = place.of("made", out.datastore, name)
            session.make(path if out.kind == "dataset" else posixpath.dirname(path))
            outputs[name] = out.model_copy(update={"path": path})
        context = job.context.model_copy(
            update={"inputs": inputs, "outputs": outputs, "stores": stores, "events": place.of("events.jsonl")}
        )
        session.write(context.model_dump_json(), place.of("context.json"))
        session.write(self._script(job, context, place), place.of("run.sh"))

    def _script(self, job: StepJob, context: StepContext, place: Place) -> str:
        environment = variables(job.step, context, Path(place.of("context.json")), self._software)
        words = command(job.step, context, environment.get("PATH", ""), self._software)
        # Not on a command line, where everybody on the machine could read them.
        exports = "\n".join(
            f"export {name}={shlex.quote(value)}" for name, value in environment.items() if _plain(name)
        )
        return _SCRIPT.format(base=shlex.quote(place.base), exports=exports, command=shlex.join(words))

    def _wait(
        self,
        channel: Channel,
        job: StepJob,
        session: SshSession,
        place: Place,
        stop: Callable[[], str | None],
        follow: Callable[[bool], None],
    ) -> tuple[str | None, bool]:
        """Wait for the end of the process, or end it: (why it should stop, whether its time is over)."""
        timeout_s = job.step.timeout_s
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        fetched = 0.0
        try:
            while not channel.status_event.wait(STOP_CHECK_S):
                if channel.closed or not channel.get_transport().is_active():
                    raise EOFError("the connection is lost")
                if time.monotonic() - fetched >= FETCH_S:
                    follow(False)
                    fetched = time.monotonic()
                reason, late = stop(), time.monotonic() >= deadline
                if reason is not None or late:
                    self._end(channel, session, place)
                    return reason, reason is None
            if channel.exit_status == -1:
                raise EOFError("the connection is lost")
        except BaseException:
            # Closing it ends the step as well, wherever that is.
            channel.close()
            raise
        return None, False

    def _end(self, channel: Channel, session: SshSession, place: Place) -> None:
        for signal in ("TERM", "KILL"):
            session.run(_KILL.format(signal=signal, pid=shlex.quote(place.of("pid"))))
            # Killed by a signal it has no exit status, and the channel is only closed.
            if channel.status_event.wait(GRACE_S) or channel.closed:
                break
        # If it has not even begun: it ends when this end is gone.
        channel.close()

    def _bring_back(self, job: StepJob, session: SshSession, place: Place, *, ended_well: bool) -> None:
        session.append_new(place.of("events.jsonl"), job.events)
        for name in ("outputs", "logs"):
            session.fetch(place.of("code", name), job.cwd / name)
        session.fetch(place.of(ASIDE), job.work / ASIDE)
        for name, out in job.context.outputs.items() if ended_well else ():
            session.fetch(place.of("made", out.datastore, name), Path(out.path))


@contextmanager
def _following(
    job: StepJob, session: SshSession, place: Place, on_line: Callable[[str, str], None] | None
) -> Iterator[Callable[[bool], None]]:
    """Give a function that fetches what was printed and hands on its lines; they are complete after the block."""
    files = {"stdout": job.stdout, "stderr": job.stderr}
    tails = {stream: Tail(path) for stream, path in files.items()}

    def follow(last: bool) -> None:
        for stream, path in files.items():
            session.append_new(place.of(path.name), path)
            for line in tails[stream].lines(last):
                if on_line is not None:
                    on_line(stream, line)

    try:
        yield follow
        follow(True)
    finally:
        for tail in tails.values():
            tail.close()


def _plain(name: str) -> bool:
    """Whether a shell can set a variable of this name."""
    return name.isidentifier() and name.isascii()
