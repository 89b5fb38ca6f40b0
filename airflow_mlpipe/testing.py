"""Public fakes for users' own tests: run a pipeline in a test, without Airflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.flight import StepWaits
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.engine.run_record import is_final
from airflow_mlpipe.engine.runs import EngineRun, StepNotNeeded
from airflow_mlpipe.errors import MlpipeError, NotSupportedError
from airflow_mlpipe.model.graph import dependencies
from airflow_mlpipe.model.parameter import ParameterValue
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec

_WAIT_POLL_S = 0.1


class InlineEngine:
    """An engine that runs the steps of a run one after the other, in the process that submits it.

    Steps are real subprocesses with their real inputs, outputs and reuse; only scheduling is left out: no overlap,
    no pools, no delay between tries. ``submit`` returns when the run has ended.

    Use it through a workspace's configuration, where ``"engine"`` names it::

        {"workspace_name": "tests", "engine": "airflow_mlpipe.testing:InlineEngine"}

    or for one workspace object: ``workspace.engine = InlineEngine(workspace.dir)``.

    Attributes:
        name: ``inline``.
    """

    name = "inline"

    def __init__(self, workspace_dir: Path) -> None:
        """Serve the workspace whose ``.mlpipe`` folder is `workspace_dir`."""
        self._folder = Path(workspace_dir)

    def check(self, spec: PipelineSpec, parameters: Mapping[str, ParameterValue]) -> None:
        """Refuse operators of Airflow: there is none here.

        Raises:
            NotSupportedError: if a step is one.
        """
        for step in spec.steps:
            if step.operator is not None:
                raise NotSupportedError(f"step '{step.name}': InlineEngine has no Airflow to run its operator in")

    def submit(self, run_id: str) -> None:
        """Carry the run, whose row is in the catalog with status ``Queued``, to its end.

        Raises:
            NotFoundError: if there is no such run.
        """
        # A room of its own: what a process learned of an earlier run may be out of date.
        room = Room(self._folder)
        try:
            self._carry(room, run_id)
        finally:
            room.catalog.close()

    def _carry(self, room: Room, run_id: str) -> None:
        run = room.run(run_id)
        if not room.catalog.update_run(run_id, status="Running", started_at=utc_now()):
            close_run(room.catalog, run_id, run.spec)
            return
        try:
            fine = set(run.plan())
        except MlpipeError as error:
            close_run(room.catalog, run_id, run.spec, error=error.message)
            return
        for step in run.spec.steps:
            # Those behind a failed step stay; closing the run says why.
            if step.id not in fine and fine.issuperset(dependencies(step)):
                fine.update(_carry(run, step))
        close_run(room.catalog, run_id, run.spec)

    def cancel(self, run_id: str) -> None:
        """Do nothing: the steps look for the cancellation themselves."""

    def is_alive(self, run_id: str) -> bool:
        """False: when anybody can ask, the run has ended."""
        return False

    def log_hint(self, run_id: str) -> str:
        """Say where to look when a run fails without a step to blame."""
        return "the steps' own logs: 'mlpipe logs RUN STEP'"


def _carry(run: EngineRun, step: StepSpec) -> list[str]:
    """Run a step, again while it fails and tries are left; return the steps that are fine after it."""
    for number in range(1, step.retries + 2):
        try:
            return [step.id, *_step(run, step, Attempt(number=number, last=number > step.retries))]
        except StepNotNeeded:
            return []
        except MlpipeError as error:
            if is_final(error):
                return []
    return []


def _step(run: EngineRun, step: StepSpec, attempt: Attempt) -> list[str]:
    """Do one try, once nobody else computes the same."""
    while True:
        try:
            return run.step(step.id, attempt)
        except StepWaits:
            time.sleep(_WAIT_POLL_S)
