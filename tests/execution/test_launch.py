from __future__ import annotations

import os
import re
import resource
import select
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlpipe.errors import PipelineError, StorageError
from airflow_mlpipe.execution import launch as module
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.tail import LINES
from airflow_mlpipe.model.step import Argument, StepSpec

# A script that starts a child and an orphan in a session of its own, and tells all pids through a named pipe.
FAMILY = """
import os, signal, subprocess, sys, time
{prelude}
script, child = os.getpid(), subprocess.Popen(["sleep", "600"]).pid
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "w") as pipe:
            pipe.write(f"{{script}} {{child}} {{os.getpid()}}")
        os.write(tell, b".")
        time.sleep(600)
    os._exit(0)
os.wait()
# The orphan may be slow, and must not be ended before it has spoken.
os.read(told, 1)
{after}
"""


def family_step(bench, pipe: Path, prelude: str = "", after: str = "time.sleep(600)") -> StepSpec:
    return bench.python(FAMILY.format(prelude=prelude, after=after), arguments=(Argument(value=str(pipe)),))


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that a script writes to, opened for reading."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, descriptor
    os.close(descriptor)


def read_pids(descriptor: int) -> list[int]:
    assert select.select([descriptor], [], [], 30)[0], "the script never told its pids"
    return [int(word) for word in os.read(descriptor, 200).split()]


class Stopper:
    """Asks to stop once the script has told its pids, and holds a descriptor of each process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.watched: list[int] = []

    def look(self) -> bool:
        if not self.watched and select.select([self.descriptor], [], [], 0)[0]:
            self.watched = [os.pidfd_open(pid) for pid in read_pids(self.descriptor)]
        return bool(self.watched)

    def all_dead(self) -> bool:
        ended = [bool(select.select([each], [], [], 20)[0]) for each in self.watched]
        for each in self.watched:
            os.close(each)
        return len(ended) == 3 and all(ended)


def test_exit_code_streams_and_times(bench):
    clock = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in (10, 14))
    job = bench.stage(bench.python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    exit = launch(job, now=lambda: next(clock))
    assert (exit.code, exit.stopped, exit.timed_out, exit.leftovers) == (3, None, False, ())
    assert (exit.ended_at - exit.started_at).total_seconds() == 4
    assert (job.stdout.read_text(), job.stderr.read_text()) == ("out\n", "err\n")


def test_a_signal_is_a_negative_code(bench):
    assert launch(bench.stage(bench.shell("kill -SEGV $$"))).code == -signal.SIGSEGV


def test_an_exit_is_noticed_at_once(bench, monkeypatch):
    monkeypatch.setattr(module, "STOP_CHECK_S", 600)
    assert launch(bench.stage(bench.shell("exit 0"))).code == 0


def test_standard_input_is_empty(bench):
    assert bench.printed(bench.shell("cat; echo end")) == "end\n"


def test_the_process_stays_in_the_group_of_the_task(bench):
    step = bench.python("import os; print(os.getpgrp())")
    assert bench.printed(step) == f"{os.getpgrp()}\n"


def test_lines_are_handed_on_while_the_step_runs(bench, tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    seen = []

    def on_line(stream, line):
        seen.append((stream, line))
        if line == "first":
            # Nobody would ever read this line if lines came at the end only: the script waits here.
            threading.Thread(target=go.write_text, args=("go",)).start()

    script = "import sys; print('first'); open(sys.argv[1]).read(); print('é', file=sys.stderr); print('rest', end='')"
    exit = launch(bench.stage(bench.python(script, arguments=(Argument(value=str(go)),))), on_line=on_line)
    assert exit.code == 0
    assert sorted(seen) == [("stderr", "é"), ("stdout", "first"), ("stdout", "rest")]


def test_a_step_that_prints_faster_than_lines_are_taken_is_stopped_in_time(bench):
    asked = iter([None, None, "enough"])
    taken = []

    def on_line(stream, line):
        # Stands for a slow log: no step may keep the launch here for as long as it can print.
        taken.append(line)
        assert len(taken) < 10 * LINES, "the launch never looked whether to stop"

    exit = launch(
        bench.stage(bench.shell("yes | head -c 20000000; sleep 600")),
        stop=lambda: next(asked),
        on_line=on_line,
        grace_s=0.1,
    )
    assert exit.stopped == "enough"
    assert any("bytes are not shown here" in line for line in taken)


def test_stop_ends_the_whole_tree_with_its_orphans(bench, pipe):
    path, descriptor = pipe
    stopper = Stopper(descriptor)
    job = bench.stage(family_step(bench, path))
    exit = launch(job, stop=lambda: "because" if stopper.look() else None)
    assert (exit.stopped, exit.code) == ("because", -signal.SIGTERM)
    assert stopper.all_dead()


def test_a_step_that_ignores_sigterm_is_killed(bench, pipe):
    path, descriptor = pipe
    stopper = Stopper(descriptor)
    job = bench.stage(family_step(bench, path, prelude="signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    exit = launch(job, stop=lambda: "now" if stopper.look() else None, grace_s=0.1)
    assert exit.code == -signal.SIGKILL
    assert stopper.all_dead()


def test_sigterm_leaves_time_to_say_goodbye(bench, pipe):
    path, descriptor = pipe
    # The orphan inherits the handler; only the script itself says goodbye.
    mine = "(print('bye'), sys.exit(5)) if os.getpid() == script else os._exit(0)"
    bye = f"signal.signal(signal.SIGTERM, lambda *_: {mine})"
    stopper = Stopper(descriptor)
    job = bench.stage(family_step(bench, path, prelude=bye))
    exit = launch(job, stop=lambda: "now" if stopper.look() else None)
    assert (exit.code, exit.stopped) == (5, "now")
    assert job.stdout.read_text() == "bye\n"
    assert stopper.all_dead()


def test_timeout(bench):
    exit = launch(bench.stage(bench.shell("sleep 600", timeout_s=0.3)))
    assert (exit.timed_out, exit.stopped) == (True, None)
    assert exit.code < 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupt_of_the_wait_ends_the_tree_and_goes_on(bench, pipe, error):
    path, descriptor = pipe
    stopper = Stopper(descriptor)

    def stop():
        if stopper.look():
            raise error("from a signal handler")

    with pytest.raises(error, match="from a signal handler"):
        launch(bench.stage(family_step(bench, path)), stop=stop)
    assert stopper.all_dead()


def test_leftovers_of_a_normal_end_are_ended_and_named(bench, pipe):
    path, descriptor = pipe
    exit = launch(bench.stage(family_step(bench, path, after="print('done')")))
    told = read_pids(descriptor)
    assert exit.code == 0
    assert exit.stopped is None
    assert len(exit.leftovers) == 2
    assert f"sleep ({told[1]})" in exit.leftovers
    for pid in told:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_of_others_are_left_alone(bench):
    other = subprocess.Popen(["sleep", "600"])
    try:
        assert launch(bench.stage(bench.shell("exit 0"))).code == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_missing_command_is_the_users_mistake(bench):
    step = StepSpec(id="s", name="my step", kind="command", arguments=(Argument(value="no-such-tool"),))
    with pytest.raises(PipelineError, match="step 'my step': command 'no-such-tool' is neither"):
        launch(bench.stage(step))


def test_a_command_of_the_snapshot(bench):
    tool = bench.source / "tool.sh"
    tool.write_text("#!/bin/sh\necho tool $1")
    tool.chmod(0o755)
    snapshot = bench.python("pass").snapshot
    words = (Argument(value="./tool.sh"), Argument(value="a b"))
    step = StepSpec(id="s", name="s", kind="command", arguments=words, snapshot=snapshot)
    assert bench.printed(step) == "tool a b\n"


RUNNER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from airflow_mlpipe.execution.contract import RunIdentity
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.execution.stage import stage
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import LocalStore
root = Path({workspace!r})
store = LocalStore("workspaceblobstore", root / "stores/workspaceblobstore")
step = StepSpec.model_validate_json({step!r})
run = RunIdentity(run_id="r", step_run_id="sr", experiment="e", pipeline="p", workspace=root, parameters={{}})
launch(stage(step, run, {{}}, store=lambda name: store, default=store, work=root / "work/sr/try-1"))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_step_dies_with_a_runner_that_is_killed(bench, pipe, number):
    path, descriptor = pipe
    step = family_step(bench, path)
    code = textwrap.dedent(RUNNER).format(
        path=[p for p in sys.path if p], workspace=str(bench.workspace), step=step.model_dump_json()
    )
    runner = subprocess.Popen([sys.executable, "-c", code])
    try:
        watched = [os.pidfd_open(pid) for pid in read_pids(descriptor)]
        runner.send_signal(number)
        assert runner.wait(30) == -number
        ended = [bool(select.select([each], [], [], 20)[0]) for each in watched]
        assert ended == [True, True, True]
        for each in watched:
            os.close(each)
    finally:
        runner.kill()
        runner.wait()


@pytest.mark.parametrize("step", ["python", "shell"])
def test_an_argument_that_is_longer_than_the_system_allows(bench, step: str):
    word = Argument(value="x" * 200_000)
    made = bench.python("", arguments=(word,)) if step == "python" else bench.shell(word)
    job = bench.stage(made)
    with pytest.raises(PipelineError) as caught:
        launch(job)
    assert caught.value.message == (
        f"step 'my step' cannot be started: its argument {'x' * 20!r}... has 200,000 bytes, the system allows 131,071 "
        "in one; write long values to a file and pass its path"
    )


def test_a_variable_that_is_longer_than_the_system_allows(bench):
    job = bench.stage(bench.python("", parameters={"long": Argument(value="x" * 131_072)}))
    with pytest.raises(PipelineError, match=r"its variable AML_PARAMETER_long has 131,091 bytes, the system allows"):
        launch(job)


def test_a_command_line_that_is_longer_than_the_system_allows(bench):
    job = bench.stage(bench.python("", arguments=tuple(Argument(value=f"{i:0100000}") for i in range(64))))
    with pytest.raises(PipelineError, match=r"its \d+ arguments and variables have 6,4\d\d,\d\d\d bytes, .* in all;"):
        launch(job)


def test_the_longest_argument_that_the_system_allows(bench):
    word = Argument(value="x" * 131_071)
    assert bench.printed(bench.python("import sys; print(len(sys.argv[1]))", arguments=(word,))) == "131071\n"


def test_a_process_that_the_system_refuses_to_start(bench):
    """No descriptor is left for it. What was opened until then is closed."""
    job = bench.stage(bench.python("print('fine')"))
    # What is imported late is there from here on.
    assert launch(job).code == 0
    before = sorted(Path("/proc/self/fd").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Those below are open.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StorageError) as caught:
            launch(job)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert re.fullmatch(
        r"step 'my step' cannot be started: '/.*': Too many open files \(EMFILE\)", caught.value.message
    )
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert launch(job).code == 0
