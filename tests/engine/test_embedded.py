"""Whole runs through the embedded engine: real Airflow, no server, no port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from engine_site import Site, eventually, shell

from airflow_mlpipe.model.compute import ComputeSpec
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec
from airflow_mlpipe.model.step import Argument, StepSpec

pytestmark = pytest.mark.airflow


def wait_for(mark: Path) -> str:
    """Shell text that waits for a file."""
    return f"until [ -e {mark} ]; do sleep 0.02; done"


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def test_a_chain_passes_data_on_and_airflow_shows_it(site: Site):
    run = site.run(
        shell("a", "echo one > @out"),
        shell("b", "cat @a > @out ; echo two >> @out ; echo step b speaks", reads=("a",)),
        shell("c", "cat @b > @out ; echo three >> @out", reads=("b",)),
        name="chain",
    )

    assert (run.status, run.error, run.dag_id) == ("Completed", None, "chain")
    assert site.statuses(run) == {"a": "completed", "b": "completed", "c": "completed"}
    assert site.output(run, "c") == "one\ntwo\nthree\n"
    assert set(site.tasks(run).values()) == {"success"}
    assert "step b speaks" in site.task_log(run, "b")
    assert "why: no earlier result of this step" in site.task_log(run, "b")
    assert site.notes(run)["b"] == "no earlier result of this step"
    assert run.started_at < run.ended_at


def test_a_second_run_is_one_task_and_the_rest_is_skipped(site: Site):
    steps = (shell("x", "echo reuse-me > @out"), shell("y", "cat @x > @out", reads=("x",)))
    first = site.run(*steps, name="again")
    second = site.run(*steps, name="again")

    assert second.status == "Completed"
    assert site.statuses(second) == {"x": "reused", "y": "reused"}
    assert [row.reused_from for row in site.catalog.steps(second.id)] == [first.id, first.id]
    assert site.tasks(second) == {"reuse_check": "success", "x": "skipped", "y": "skipped"}
    assert site.notes(second)["x"].startswith(f"reused from {first.id}, saved ")
    assert site.output(second, "y") == "reuse-me\n"


def test_steps_side_by_side_overlap(site: Site, marks: Path):
    # Each waits for the other: one after the other they would never end.
    run = site.run(
        shell("left", f"touch {marks}/left ; {wait_for(marks / 'right')}"),
        shell("right", f"touch {marks}/right ; {wait_for(marks / 'left')}"),
    )

    assert run.status == "Completed"


def test_a_failure_stops_the_running_siblings_and_what_has_not_started(site: Site, marks: Path):
    run = site.run(
        shell("slow", f"echo $$ > {marks}/slow ; sleep 300"),
        shell("bad", f"{wait_for(marks / 'slow')} ; echo it broke >&2 ; exit 3"),
        shell("made", "sleep 300 ; touch @out", after=("slow",)),
        shell("below", "cat @made", reads=("made",)),
    )
    rows = {row.step_id: row for row in site.catalog.steps(run.id)}

    assert run.status == "Failed"
    assert "step 'bad' exited with code 3" in run.error
    assert site.statuses(run) == {"slow": "canceled", "bad": "failed", "below": "not_run", "made": "not_run"}
    assert rows["slow"].error == "stopped because step 'bad' failed"
    assert rows["bad"].exit_code == 3
    assert "it broke" in rows["bad"].error
    assert rows["below"].reason == "step 'slow' did not succeed"
    assert ended(pid_in(marks / "slow"))
    assert (run.ended_at - rows["bad"].ended_at).total_seconds() < 5
    assert site.tasks(run)["bad"] == "failed"


def test_going_on_past_a_failure_runs_what_does_not_depend_on_it(site: Site, marks: Path):
    run = site.run(
        shell("bad", "exit 1"),
        shell("below", "true", after=("bad",)),
        shell("other", f"{wait_for(marks / 'go')} ; echo fine > @out"),
        shell("signal", f"sleep 0.3 ; touch {marks}/go"),
        shell("more", "cat @other", reads=("other",)),
        continue_on_step_failure=True,
    )

    assert run.status == "Failed"
    assert site.statuses(run) == {
        "bad": "failed",
        "below": "not_run",
        "other": "completed",
        "signal": "completed",
        "more": "completed",
    }
    assert site.tasks(run)["below"] == "upstream_failed"


def test_a_failed_try_is_tried_again(site: Site, marks: Path):
    line = f"[ -e {marks}/once ] && echo done > @out || {{ touch {marks}/once ; exit 1 ; }}"
    run = site.run(shell("flaky", line, retries=1, retry_delay_s=0.1), shell("after", "cat @flaky", reads=("flaky",)))
    row = site.catalog.step(run.id, "flaky")

    assert run.status == "Completed"
    assert (row.status, row.try_number, row.error) == ("completed", 2, None)
    assert "exited with code 1" in site.task_log(run, "flaky", 1)
    assert site.task_log(run, "flaky", 2)


def test_a_users_mistake_is_one_line_and_not_tried_again(site: Site, marks: Path):
    run = site.run(shell("forgot", f"echo . >> {marks}/tries ; true @out", retries=3, retry_delay_s=0.1))

    assert run.status == "Failed"
    assert "did not write its output 'out'" in run.error
    assert (marks / "tries").read_text() == ".\n"


def test_a_timeout_ends_the_script_and_what_it_started(site: Site, marks: Path):
    run = site.run(shell("endless", f"setsid sleep 300 & echo $! > {marks}/child ; wait", timeout_s=1))

    assert run.status == "Failed"
    assert "timeout of 1 s" in run.error
    assert ended(pid_in(marks / "child"))


def test_cancel_ends_a_running_step_and_starts_no_other(site: Site, marks: Path):
    run_id = site.submit(shell("long", f"echo $$ > {marks}/long ; sleep 300"), shell("never", "true", after=("long",)))
    pid = pid_in(marks / "long")
    asked = time.monotonic()
    site.catalog.request_stop(run_id, "cancel", "cancelled by somebody")
    site.engine.cancel(run_id)
    run = site.end_of(run_id)

    assert time.monotonic() - asked < 5
    assert (run.status, run.error) == ("Canceled", "cancelled by somebody")
    assert site.statuses(run) == {"long": "canceled", "never": "not_run"}
    assert ended(pid)


def test_a_run_cancelled_before_a_dispatcher_took_it_is_closed(site: Site):
    run_id = site.enqueue(shell("a", "true"))
    site.catalog.request_stop(run_id, "cancel", "not this one")
    site.engine.cancel(run_id)
    run = site.catalog.get_run(run_id)

    assert run.status == "Canceled"
    assert site.statuses(run) == {"a": "not_run"}


def test_a_killed_worker_costs_one_try(site: Site, marks: Path):
    first = f"touch {marks}/again ; echo $PPID > {marks}/worker ; sleep 300"
    line = f"[ -e {marks}/again ] || {{ {first} ; }} ; echo ok > @out"
    run_id = site.submit(shell("victim", line, retries=1, retry_delay_s=0.1))
    os.kill(pid_in(marks / "worker"), signal.SIGKILL)
    run = site.end_of(run_id)
    row = site.catalog.step(run_id, "victim")

    assert run.status == "Completed"
    assert row.try_number == 2


def test_a_killed_worker_without_a_try_left_fails_the_run(site: Site, marks: Path):
    run_id = site.submit(shell("victim", f"sleep 300 & echo $PPID $! > {marks}/pids ; wait"))
    worker, child = eventually(lambda: (marks / "pids").exists() and (marks / "pids").read_text().split())
    os.kill(int(worker), signal.SIGKILL)
    run = site.end_of(run_id)

    assert run.status == "Failed"
    assert "was killed" in run.error
    eventually(lambda: ended(int(child)), 10)


def test_runs_submitted_at_once_share_a_dispatcher_and_overlap(site: Site, marks: Path):
    first = site.submit(shell("a", f"touch {marks}/one ; {wait_for(marks / 'two')}"), name="first")
    second = site.submit(shell("a", f"touch {marks}/two ; {wait_for(marks / 'one')}"), name="second")

    ends = [site.end_of(first), site.end_of(second)]

    assert [run.status for run in ends] == ["Completed", "Completed"]
    assert [site.tasks(run) for run in ends] == [{"reuse_check": "success", "a": "success"}] * 2


def test_a_run_handed_over_while_the_dispatcher_leaves_is_not_lost(site: Site):
    for turn in range(4):
        # Each is submitted the moment the one before is seen to have ended: the dispatcher is leaving then.
        assert site.run(shell("a", f"true {turn}"), name="turns").status == "Completed"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_leaving_dispatcher_lets_go_of_its_lock_before_the_gate(site: Site, marks: Path, tmp_path: Path):
    """Else a submit that waits at the gate finds the lock held by a process that is as good as gone."""
    eventually(lambda: not site.engine.is_alive())
    run_id = site.submit(shell("wait", wait_for(marks / "go")))
    dispatcher = eventually(lambda: [p for p in psutil.process_iter(["cmdline"]) if _dispatches(p, site)])[0]
    lock, log = dispatcher.cmdline()[-1], tmp_path / "calls.txt"
    command = ["strace", "-p", str(dispatcher.pid), "-e", "trace=flock,exit_group", "-o", str(log)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with tracer.stderr:
        if "attached" not in tracer.stderr.readline():
            tracer.wait(60)
            pytest.skip("processes cannot be traced here")
        (marks / "go").touch()
        tracer.wait(60)
    assert site.end_of(run_id).status == "Completed"
    calls = [line.split("=")[0].strip() for line in log.read_text().splitlines()]
    assert calls.index(f"flock({lock}, LOCK_UN)") < calls.index("exit_group(0)")


def _dispatches(process: psutil.Process, site: Site) -> bool:
    words = process.info["cmdline"] or []
    return "airflow_mlpipe.engine.dispatcher" in words and str(site.dir) in words


def test_a_step_that_makes_the_same_bytes_stops_the_wave(site: Site, marks: Path):
    def chain(first: str) -> list:
        steps = [shell("s0", f"{first} > @out")]
        for i in range(1, 8):
            steps.append(shell(f"s{i}", f"cat @s{i - 1} > @out ; echo {i} >> {marks}/ran", reads=(f"s{i - 1}",)))
        return steps

    site.run(*chain("echo same"), name="cutoff")
    (marks / "ran").unlink()
    run = site.run(*chain("printf same\\\\n"), name="cutoff")

    assert run.status == "Completed"
    assert site.statuses(run) == {"s0": "completed"} | {f"s{i}": "reused" for i in range(1, 8)}
    assert not (marks / "ran").exists()
    assert {task for task, state in site.tasks(run).items() if state == "skipped"} == {f"s{i}" for i in range(1, 8)}


def test_a_compute_target_runs_no_more_steps_at_once_than_it_has_nodes(site: Site, marks: Path):
    site.catalog.put_compute(ComputeSpec(name="single", max_nodes=1))
    line = f"mkdir {marks}/lock && sleep 0.2 && rmdir {marks}/lock"
    run = site.run(*(shell(f"s{i}", line, compute="single") for i in range(3)))

    assert run.status == "Completed"


def test_a_step_that_many_need_starts_before_those_that_found_no_slot_earlier(site: Site, marks: Path):
    site.catalog.put_compute(ComputeSpec(name="narrow", max_nodes=1))

    def noted(name: str, after: tuple[str, ...] = ()) -> StepSpec:
        return shell(name, f"echo {name} >> {marks}/order", compute="narrow", after=after)

    run = site.run(
        *(noted(f"leaf{i}") for i in range(3)), noted("head"), noted("body", ("head",)), noted("tail", ("body",))
    )

    assert run.status == "Completed"
    order = (marks / "order").read_text().split()
    # A leaf and the tail weigh the same.
    assert order[:2] == ["head", "body"]
    assert sorted(order[2:]) == ["leaf0", "leaf1", "leaf2", "tail"]


def test_a_step_that_found_no_slot_is_not_started_once_its_run_is_cancelled(site: Site, marks: Path):
    site.catalog.put_compute(ComputeSpec(name="slot", max_nodes=1))
    line = f"echo $$ >> {marks}/started ; sleep 300"
    run_id = site.submit(*(shell(f"s{i}", line, compute="slot") for i in range(3)))
    eventually(lambda: (marks / "started").exists())
    site.catalog.request_stop(run_id, "cancel", "enough")
    run = site.end_of(run_id)

    assert run.status == "Canceled"
    assert sorted(site.statuses(run).values()) == ["canceled", "not_run", "not_run"]
    assert len((marks / "started").read_text().split()) == 1
    # Not even handed to a worker, which would have refused it.
    assert sorted(site.tasks(run).values()) == ["failed", "skipped", "skipped", "success"]


def reading(path: str) -> StepSpec:
    """A step that reads a dataset of the store."""
    data = DatasetSpec(kind="file", sources=(DatastorePath(datastore="store", path=path),))
    return shell("read", "cat @data/* > @out").model_copy(
        update={
            "arguments": (Argument(value="cat"), Argument(kind="input", value="data"), Argument(value=">"))
            + (Argument(kind="output", value="out"),),
            "inputs": (InputSpec(name="data", source=data, as_dataset=True),),
            "outputs": (OutputSpec(name="out", datastore="store"),),
        }
    )


def test_data_that_does_not_exist_fails_the_run_with_its_name(site: Site):
    run = site.run(reading("absent.txt"))

    assert run.status == "Failed"
    assert "absent.txt" in run.error
    assert site.statuses(run) == {"read": "not_run"}


def test_the_plan_of_a_run_is_tried_again_when_a_store_could_not_be_read(site: Site, tmp_path: Path):
    folder = site.dir / "stores" / "store" / "moved"
    folder.symlink_to(tmp_path)
    run_id = site.submit(reading("moved/in.txt"))
    asked = site.catalog.get_run(run_id)

    def refused() -> bool:
        # Airflow makes its database and its logs only now.
        with suppress(FileNotFoundError):
            return "leads out of datastore 'store'" in site.task_log(asked, "reuse_check", 1)
        return False

    eventually(refused)
    folder.unlink()
    folder.mkdir()
    (folder / "in.txt").write_text("back")
    run = site.end_of(run_id)

    assert run.status == "Completed"
    assert site.output(run, "read") == "back"
    assert site.task_log(run, "reuse_check", 2)


def test_a_run_can_wait_for_its_data_without_a_slot(site: Site):
    config = json.loads((site.dir / "config.json").read_text())
    config["settings"]["wait_for_inputs_s"] = 60
    (site.dir / "config.json").write_text(json.dumps(config))
    eventually(lambda: not site.engine.is_alive())
    run_id = site.submit(reading("late.txt"))
    eventually(
        lambda: (run := site.catalog.get_run(run_id)) and site.tasks(run).get("reuse_check") == "up_for_reschedule"
    )
    (site.dir / "stores" / "store" / "late.txt").write_text("at last")
    run = site.end_of(run_id)

    assert run.status == "Completed"
    assert site.output(run, "read") == "at last"


def test_a_run_whose_pipeline_cannot_be_read_fails_alone(site: Site):
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database, database:
        bad = site.enqueue(shell("a", "true unreadable"))
        database.execute("UPDATE specs SET body = '{}' WHERE digest = ?", (site.catalog.get_run(bad).spec_digest,))
    good = site.submit(shell("a", "true"))

    assert site.end_of(bad).status == "Failed"
    assert site.end_of(good).status == "Completed"


def test_a_killed_dispatcher_leaves_no_script_behind_and_its_run_is_found_dead(site: Site, marks: Path):
    run_id = site.submit(shell("orphan", f"sleep 300 & echo $! > {marks}/child ; wait"))
    child = pid_in(marks / "child")
    site.dispatcher().kill()
    eventually(lambda: ended(child), 10)
    eventually(lambda: not site.engine.is_alive(run_id), 10)
    site.engine.reap()
    run = site.catalog.get_run(run_id)

    assert (run.status, run.error) == ("Failed", "step 'orphan': the dispatcher died")
    assert site.statuses(run) == {"orphan": "failed"}
    assert site.run(shell("next", "true")).status == "Completed"


def test_a_dispatcher_that_is_told_to_end_says_so_at_once(site: Site, marks: Path):
    run_id = site.submit(shell("cut", f"sleep 300 & echo $! > {marks}/child ; wait"))
    child = pid_in(marks / "child")
    site.dispatcher().terminate()
    run = site.end_of(run_id)

    assert (run.status, run.error) == ("Failed", "step 'cut': the dispatcher died")
    eventually(lambda: ended(child), 10)


def test_a_run_whose_submit_was_cut_short_is_carried_out_all_the_same(site: Site):
    run_id = site.enqueue(shell("a", "true"))
    eventually(lambda: not site.engine.is_alive())
    site.engine.reap()

    assert site.end_of(run_id).status == "Completed"


def test_a_dispatcher_that_cannot_start_fails_its_runs(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    eventually(lambda: not site.engine.is_alive())
    broken = tmp_path / "airflow"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('this Airflow is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = site.run(shell("a", "true"))

    assert run.status == "Failed"
    assert run.error == "the dispatcher could not start: this Airflow is broken"
    assert site.statuses(run) == {"a": "not_run"}


def test_the_clients_side_costs_no_import_of_airflow():
    code = "import sys, airflow_mlpipe.engine.embedded; print({'airflow', 'sqlalchemy', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"


def test_a_damaged_metadata_database_is_made_anew(site: Site):
    eventually(lambda: not site.engine.is_alive())
    database = site.dir / "airflow" / "airflow.db"
    for file in database.parent.glob("airflow.db-*"):
        file.unlink()
    database.write_bytes(b"not a database" * 1000)

    assert site.run(shell("a", "true")).status == "Completed"
    assert (database.parent / "damaged-airflow.db").exists()
