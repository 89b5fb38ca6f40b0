"""What a run's catalog is told of its steps: what was decided, how they ended, and what they have for results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.errors import (
    EnvironmentBuildError,
    MlpipeError,
    OutputMissingError,
    StepStoppedError,
    UnreachableError,
    UsageError,
)
from airflow_mlpipe.execution.deliver import publish
from airflow_mlpipe.model.result import StepResult
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.reuse.plan import StepDecision

if TYPE_CHECKING:
    from airflow_mlpipe.engine.room import Room


class RunRecord:
    """Writes down what becomes of the steps of a run.

    Attributes:
        row: of the run.
        spec: of its pipeline, with its data.
        results: of its steps, as far as they are known in this process.
    """

    def __init__(self, room: Room, row: RunRow, spec: PipelineSpec) -> None:
        """Write into the catalog of `room`."""
        self.room = room
        self.row = row
        self.spec = spec
        self.results: dict[str, StepResult] = {}
        self._catalog = room.catalog

    def result(self, step_id: str) -> StepResult | None:
        """Return the result that a step has in this run, or None."""
        if step_id not in self.results:
            row = self._catalog.step(self.row.id, step_id)
            if row.result_id is None:
                return None
            self.results[step_id] = self._catalog.get_result(row.result_id)
        return self.results[step_id]

    def decided(self, decisions: Iterable[StepDecision], rows: Mapping[str, StepRow]) -> None:
        """Note what was decided for steps that have not started; a result that is reused is the run's from then on.

        Args:
            decisions: what was decided.
            rows: of the run's steps, by their ids; brought up to date.

        Raises:
            ResultGoneError: if a result that is to be reused is gone, or in doubt.
            MlpipeError: if a copy of its outputs that a user asked for cannot be restored.
        """
        changed = []
        for decision in decisions:
            row = rows[decision.step]
            if row.status != "not_started":
                continue
            row.decision, row.reason = decision.decision, decision.reason
            row.fingerprint, row.derivation = decision.fingerprint, decision.derivation
            row.components = None if decision.components is None else dict(decision.components)
            if decision.result is not None:
                row.result_id, row.reused_from = decision.result.id, decision.result.run_id
                row.saved_s = decision.result.duration_s
            else:
                row.result_id, row.reused_from, row.saved_s = None, None, None
            changed.append((row, decision))
        self._catalog.put_plan(self.row.id, [row for row, _ in changed])
        for _, decision in changed:
            if decision.result is not None:
                self.results[decision.step] = decision.result
                # What the step once wrote to its parent run belongs to this run as well, and the copies of its
                # outputs that a user asked for may have been changed since.
                self._catalog.add_written(self.row.id, decision.result.parent_written)
                step = self.spec.step_by_id[decision.step]
                publish(step, decision.result.outputs, self.room.store, self.room.index)

    def ended(self, row: StepRow, status: str, error: str, of_try: int | None = None) -> None:
        """Note that a step ended without a result: its status, why, and that of which try; None for any."""
        now = datetime.now(UTC)
        self._catalog.update_step(
            self.row.id, row.step_id, of_try=of_try, status=status, error=error, reason=error, ended_at=now
        )

    def failed(self, row: StepRow, error: MlpipeError, attempt: Attempt) -> None:
        """Note a failed try; the last one of a step stops the run, unless the run goes on past failures."""
        last = attempt.last or is_final(error) or self._has_no_more(row, error, attempt)
        update = partial(
            self._catalog.update_step,
            self.row.id,
            row.step_id,
            of_try=attempt.number,
            error=error.message,
            try_number=attempt.number,
        )
        if not last:
            update(status="not_started", reason=f"try {attempt.number} failed, to be tried again")
            return
        counts = update(status="failed", ended_at=datetime.now(UTC))
        if counts and not self.row.continue_on_step_failure:
            self._catalog.request_stop(self.row.id, "failure", f"step '{row.name}' failed")

    def _has_no_more(self, row: StepRow, error: MlpipeError, attempt: Attempt) -> bool:
        """Count a failed try; returns whether the step has used up its own retries."""
        if attempt.own_retries is None or isinstance(error, UnreachableError):
            # A server that went away is lost to the step as its worker may be.
            return False
        return self._catalog.count_failure(f"{row.step_run_id} of {attempt.series}") > attempt.own_retries


def is_final(error: MlpipeError) -> bool:
    """Whether another try of the step would end the same way."""
    return isinstance(error, (UsageError, OutputMissingError, StepStoppedError, EnvironmentBuildError))
