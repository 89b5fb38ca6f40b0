"""The dispatcher: one process per workspace that carries its embedded runs to their end, then leaves.

Run as ``python -m airflow_mlpipe.engine.dispatcher WORKSPACE LOCK_FD``; the lock is held already and comes as
an inherited descriptor (see :mod:`airflow_mlpipe.engine.embedded`).
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.rows import RunRow
from airflow_mlpipe.engine.bookkeeping import close_dead_runs, close_run
from airflow_mlpipe.engine.container_sweep import sweep
from airflow_mlpipe.engine.embedded import hold
from airflow_mlpipe.engine.home import Home, use_home
from airflow_mlpipe.engine.names import REUSE_CHECK
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.workers import Worker, WorkerPool
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_mlpipe.engine.airflow_private import FollowedRun, Outcome

LOOK_S = 0.25
"""How often new runs and requests to stop are looked for in the catalog."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Task:
    """A task of a run that a worker is busy with."""

    run: LiveRun
    instance: Any


class LiveRun:
    """One run: its row in the catalog and its DAG run in Airflow.

    Attributes:
        waiting: the steps that wait for another one to compute the same, with the key of it.
    """

    def __init__(self, row: RunRow, spec: PipelineSpec, followed: FollowedRun) -> None:
        """Tie the two together."""
        self.id = row.id
        self.spec = spec
        self.followed = followed
        self.stopped = False
        self.waiting: dict[str, Digest] = {}

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing is left to start."""
        return not self.followed.running and not self.followed.open_tasks


class Dispatcher:
    """Takes queued runs, gives ready tasks to workers, takes in what they came to."""

    def __init__(self, home: Home, lock: int) -> None:
        """Open the workspace, the metadata database and the pool of workers; `lock` is the lock's descriptor."""
        from airflow_mlpipe.engine import airflow_private

        self._home = home
        self._lock = lock
        self._airflow = airflow_private
        self._room = Room(home.workspace)
        self._catalog = self._room.catalog
        self._dags: dict[Digest, DAG] = {}
        self._pools: dict[str, float] = {}
        self._runs: list[LiveRun] = []
        self._looked_at = 0.0
        self._workers = WorkerPool(self._make_serve, self._room.max_active_steps)
        # The first worker gets ready on another core while this process opens the database.
        self._workers.fork()
        self._session = airflow_private.open_database(home.database)
        gc.freeze()
        gc.enable()

    def run(self) -> None:
        """Carry on until no run is left."""
        close_dead_runs(self._catalog)
        sweep(self._home.workspace, self._catalog)
        try:
            while self._look() or self._runs or not self._leave():
                self._turn()
        finally:
            # Only an error or a signal comes here; who waits for the runs must be told.
            self._workers.close()
            close_dead_runs(self._catalog)
            sweep(self._home.workspace, self._catalog)

    def _turn(self) -> None:
        """Start what can start, write it down, then wait for a worker to answer."""
        for run in list(self._runs):
            for instance in run.followed.ready():
                self._start(run, instance)
            if run.followed.stuck:
                _log.error("run %s: no rule lets these tasks start: %s", run.id, run.followed.open_tasks)
                self._stop(run)
            if run.done:
                self._finish(run)
        # After the workers have their tasks: the database is written while they work.
        self._session.commit()
        for worker, answer in self._workers.answers(self._patience_s()):
            self._take_in(worker, answer)

    def _patience_s(self) -> float:
        """Return how long the next turn may wait for a worker."""
        if not self._runs:
            return 0.0
        due = min((at for run in self._runs if (at := run.followed.next_due) is not None), default=None)
        wait = LOOK_S if due is None else min(LOOK_S, (due - datetime.now(UTC)).total_seconds())
        return max(wait, 0.0)

    # --- runs

    def _look(self) -> bool:
        """Look for new runs and for requests to stop, now and then. Returns whether a run was taken."""
        now = time.monotonic()
        if self._runs and now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        for run in self._runs:
            if not run.stopped and self._catalog.stop_of(run.id) is not None:
                self._stop(run)
        self._wake()
        queued = self._queued()
        for row in queued:
            self._begin(row)
        return bool(queued)

    def _queued(self) -> list[RunRow]:
        return [row for row in self._catalog.queued_runs() if row.engine == "embedded"]

    def _begin(self, row: RunRow) -> None:
        if not self._catalog.update_run(row.id, status="Preparing"):
            # Cancelled meanwhile; whoever did that has closed it.
            return
        try:
            spec = self._room.spec(row.spec_digest)
        except (MlpipeError, ValueError) as error:
            self._catalog.update_run(row.id, status="Failed", ended_at=datetime.now(UTC), error=str(error))
            return
        # What is known of other runs must not be undone if this one cannot begin.
        self._session.commit()
        try:
            self._pools = self._airflow.ensure_pools(self._session, self._room.pool_limits(spec))
            dag = self._airflow.write_dag(self._session, self._dag(row.spec_digest))
            self._room.registry.publish(spec)
            followed = self._airflow.FollowedRun(self._session, dag, row.id, self._room.conf(row))
        except Exception as error:
            # One run that cannot be started must not take the others down with it.
            _log.exception("run %s cannot be started", row.id)
            self._session.rollback()
            close_run(self._catalog, row.id, spec, error=f"the run could not be started: {error}")
            return
        self._runs.append(LiveRun(row, spec, followed))
        self._catalog.update_run(row.id, status="Running", started_at=datetime.now(UTC), dag_id=spec.name)

    def _stop(self, run: LiveRun) -> None:
        """Start nothing more of a run. What runs sees the request itself and ends."""
        run.stopped = True
        run.followed.stop()

    def _finish(self, run: LiveRun) -> None:
        self._runs.remove(run)
        plan = run.followed.tasks[REUSE_CHECK]
        error = None
        if plan.state == "failed" and self._catalog.stop_of(run.id) is None:
            log = self._airflow.log_path(self._home.logs, plan.dag_id, plan.run_id, plan.task_id, plan.try_number)
            error = f"the run could not be planned; see {log}"
        # Airflow's word first: who sees the run ended in the catalog sees it ended there as well.
        run.followed.close(failed=run.stopped or error is not None)
        close_run(self._catalog, run.id, run.spec, error)

    def _leave(self) -> bool:
        """Return whether there is nothing left to do; a run stored meanwhile is taken instead.

        Under the gate, as every submit is: a submit that found this dispatcher alive stored its run before.
        """
        with hold(self._home.gate):
            if self._queued():
                return False
            self._workers.close()
            # Before the end of the process, which lets go of the gate and of this in any order: a submit that came in
            # between would take this dispatcher for alive, and nobody would take its run.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os._exit(0)

    # --- tasks

    def _start(self, run: LiveRun, instance: Any) -> None:
        if run.stopped:
            return
        pool = self._pools.get(instance.pool, float("inf"))
        used = sum(w.task.instance.pool_slots for w in self._workers.busy if w.task.instance.pool == instance.pool)
        if not self._workers.has_room() or used + instance.pool_slots > pool:
            run.followed.put_back(instance)
            return
        run.waiting.pop(instance.task_id, None)
        worker = self._workers.free()
        details = run.followed.start(instance, worker.pid)
        worker.task = Task(run, instance)
        # A worker that died while it was idle is found out by its pipe: as one that died with the task.
        with suppress(OSError):
            worker.pipe.send((run.spec.digest, details))

    def _take_in(self, worker: Worker, outcome: Outcome | None) -> None:
        if worker.task is None:
            return
        task, worker.task = worker.task, None
        run: LiveRun = task.run
        if outcome is not None:
            run.followed.end(task.instance, outcome, self._notes(run, task.instance.task_id, outcome))
            self._note_wait(run, task.instance)
        else:
            _log.warning("the worker of task %s of run %s died", task.instance.task_id, run.id)
            final = not run.followed.lost(task.instance)
            self._room.run(run.id).lost(task.instance.task_id, final=final)
        if not run.stopped and self._catalog.stop_of(run.id) is not None:
            self._stop(run)
        self._wake()

    def _note_wait(self, run: LiveRun, instance: Any) -> None:
        """Remember what a step waits for that has given its slot back. One that runs waits for no other step."""
        if instance.state == "up_for_reschedule" and instance.task_id != REUSE_CHECK:
            row = self._catalog.step(run.id, instance.task_id)
            if row.fingerprint is not None and row.status != "running":
                run.waiting[instance.task_id] = row.fingerprint

    def _wake(self) -> None:
        """Let the steps start at once that waited for a lease which nobody holds any more."""
        wanted = {fingerprint for run in self._runs for fingerprint in run.waiting.values()}
        held = self._catalog.held_leases(wanted)
        for run in self._runs:
            for task_id in [task_id for task_id, fingerprint in run.waiting.items() if fingerprint not in held]:
                del run.waiting[task_id]
                run.followed.wake(task_id)

    def _notes(self, run: LiveRun, task_id: str, outcome: Outcome) -> dict[str, str]:
        """Return why a task ran, and why those that it skips do not."""
        if outcome.skips:
            return {row.step_id: row.reason for row in self._catalog.steps(run.id, brief=True)}
        if task_id in run.spec.step_by_id:
            return {task_id: self._catalog.step(run.id, task_id).reason}
        return {}

    def _dag(self, spec_digest: Digest) -> DAG:
        from airflow_mlpipe.engine.dag_factory import build_dag
        from airflow_mlpipe.engine.task_settings import SERVER_ONLY

        if spec_digest not in self._dags:
            self._dags[spec_digest] = build_dag(
                self._room.spec(spec_digest),
                workspace=self._home.workspace,
                wait_for_inputs_s=self._room.wait_for_inputs_s,
                passed_over=SERVER_ONLY,
            )
        return self._dags[spec_digest]

    def _make_serve(self) -> Callable[[tuple[str, dict[str, Any]]], Outcome]:
        """Return, in a worker, what runs the tasks it is given."""
        runner = self._airflow.TaskRunner(self._home.logs)

        def serve(request: tuple[str, dict[str, Any]]) -> Outcome:
            spec_digest, details = request
            return runner.run(self._dag(spec_digest), details)

        return serve


def main(workspace: str, lock: str) -> None:
    """Be the dispatcher of `workspace`, whose lock is held through descriptor `lock`."""
    # Nearly everything that is made until the first run begins stays: collecting would cost a sixth of the
    # start, and the first fork freezes it.
    gc.disable()
    _keep_lock(int(lock))
    home = Home(Path(workspace))
    use_home(home)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        dispatcher = Dispatcher(home, int(lock))
    except Exception as error:
        # Whoever waits for a run must hear of it; a new dispatcher would end the same way.
        close_dead_runs(Room(home.workspace).catalog, f"the dispatcher could not start: {error}", queued_too=True)
        raise
    dispatcher.run()


def _keep_lock(lock: int) -> None:
    """Keep the inherited lock to this process: a worker that outlived it would hold the workspace."""
    os.set_inheritable(lock, False)
    held = [lock]
    os.register_at_fork(after_in_child=lambda: os.close(held.pop()) if held else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
