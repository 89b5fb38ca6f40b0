"""One run as its tasks see it: plan it, run a step of it, and look ahead from each step that has ended.

Knows nothing of Airflow; the sensor and the operators only carry what is decided here into task states.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.leases import waiting_reason
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.carriers import carrier_of, operator_carrier
from airflow_mlpipe.engine.container_sweep import sweep
from airflow_mlpipe.engine.flight import StepDetached, StepWaits, pause_s
from airflow_mlpipe.engine.run_record import RunRecord
from airflow_mlpipe.errors import (
    ExecutionError,
    MlpipeError,
    ResultGoneError,
    StepStoppedError,
    UsageError,
)
from airflow_mlpipe.execution.attempt import StepKey, begin_attempt, carry_out, finish_attempt, staged_inputs
from airflow_mlpipe.execution.carrier import Carrier, Detachable, Order, StepPaused
from airflow_mlpipe.execution.contract import RunIdentity, step_run_folder
from airflow_mlpipe.execution.distribution import check_place
from airflow_mlpipe.model.graph import consumers, producers
from airflow_mlpipe.model.result import StepResult
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.reuse.plan import Planner, StepDecision

if TYPE_CHECKING:
    from airflow_mlpipe.engine.room import Room

REPLANS = 5
"""How often a plan is made, when results that it wants to take are gone each time."""

_log = logging.getLogger(__name__)


class StepNotNeeded(Exception):
    """The step cannot or need not run, and that is no failure: a producer was skipped by somebody else."""


class EngineRun:
    """A run of a pipeline, seen from the processes that carry it out."""

    def __init__(self, room: Room, row: RunRow, spec: PipelineSpec) -> None:
        """Take a run from the catalog of `room`."""
        self.room = room
        self.row = row
        self.spec = spec.with_data(row.parameters)
        self._catalog = room.catalog
        self._consumers = consumers(spec.steps)
        self._record = RunRecord(room, row, self.spec)
        self._planner: Planner | None = None

    @property
    def planner(self) -> Planner:
        """What decides about reuse in this run; kept, with what it has learned."""
        if self._planner is None:
            rows = self._catalog.steps(self.row.id)
            known = {row.step_id: row.derivation for row in rows if row.derivation is not None}
            self._planner = Planner(
                self.spec,
                self.row.parameters,
                self.room.facts,
                regenerate=self.row.regenerate,
                derivations=known if len(known) == len(rows) else None,
            )
        return self._planner

    # --- the whole run

    def plan(self) -> list[str]:
        """Decide for every step, write it to the catalog and return the ids of the reused ones.

        Raises:
            MissingDataError: if a dataset that a step reads does not exist.
        """
        self.room.images.forget()
        rows = {row.step_id: row for row in self._catalog.steps(self.row.id)}
        replans = 0
        while True:
            # Planned from nothing: data may have changed since an earlier plan of this run.
            self._planner = Planner(self.spec, self.row.parameters, self.room.facts, regenerate=self.row.regenerate)
            plan = self._planner.plan()
            try:
                self._record.decided(plan.decisions, rows)
            except ResultGoneError:
                # Damage was found, or garbage collected, since the plan.
                replans += 1
                if replans == REPLANS:
                    raise
                continue
            return [decision.step for decision in plan.decisions if decision.decision == "reuse"]

    def fail(self, reason: str) -> None:
        """End the run as failed for a reason that is no step's."""
        self._catalog.request_stop(self.row.id, "failure", reason)

    def end_if_complete(self) -> None:
        """End a run whose every step has its result, whatever its DAG run has still to do.

        An embedded engine ends its runs itself.
        """
        if self.row.engine == "server" and self._catalog.has_all_results(self.row.id):
            close_run(self._catalog, self.row.id, self.spec)

    # --- a step

    def step(self, step_id: str, attempt: Attempt) -> list[str]:
        """Run a step, or take a result that has turned up since the plan.

        Returns:
            ids of the steps that need not run any more, given what this one produced.

        Raises:
            StepNotNeeded: if a producer has no result although nothing failed.
            StepWaits: if another step computes the same; nothing has been done, and it is to be called again.
            StepDetached: if the step goes on by itself; :meth:`resume` is to be called once it has ended.
            StepPaused: if the try goes on later; its lease is kept meanwhile.
            StepStoppedError: if the run was stopped or cancelled.
            UsageError, OutputMissingError, EnvironmentBuildError: another try would end the same way.
            MlpipeError: another try may help.
        """
        self.room.images.forget()
        step = self.spec.step_by_id[step_id]
        row = self._catalog.step(self.row.id, step_id)
        if row.status in ("completed", "reused") and row.result_id is not None:
            # Cleared by a person, or its task died between the commit and its own end.
            return self._ahead(step_id, self._catalog.get_result(row.result_id))
        if attempt.resumed is None:
            # Else the operator has to end what it has begun elsewhere.
            self._refuse_if_stopped(row)
        if row.status in ("failed", "canceled", "not_run"):
            # Its task was cleared: an engine starts no step by itself that has ended.
            self._catalog.resume_run(self.row, [], [step_id], reopen=False)
            row = self._catalog.step(self.row.id, step_id)
        results = self._inputs(step)
        return self._settled(row, attempt, lambda: self._reuse_or_run(step, row, results, attempt))

    def resume(self, step_id: str, attempt: Attempt, detached: StepDetached, waited: Mapping[str, Any]) -> list[str]:
        """Come back to a step that went on by itself: it has ended, or is to be ended.

        Args:
            step_id: the step.
            attempt: the try that has begun it.
            detached: what :meth:`step` has raised.
            waited: what whoever has waited for it knows.

        Returns and raises what :meth:`step` does.
        """
        step = self.spec.step_by_id[step_id]
        row = self._catalog.step(self.row.id, step_id)
        if row.status in ("completed", "reused") and row.result_id is not None:
            return self._ahead(step_id, self._catalog.get_result(row.result_id))

        def finished() -> StepResult:
            key = _begun_key(row)
            carrier = carrier_of(self.room.compute(step), self.room, attempt.context)
            if not isinstance(carrier, Detachable):
                raise UsageError(f"step '{row.name}': its compute target was changed while it ran; run it again")
            order = self._order(step, row, key, self._inputs(step), attempt)
            with self.room.leases.keeping(detached.token):
                carried = carrier.attach(order, self.room.site, detached.found_by, waited)
                return finish_attempt(order, key, carried, self.room.site)

        return self._settled(row, attempt, finished)

    def _settled(self, row: StepRow, attempt: Attempt, work: Callable[[], StepResult]) -> list[str]:
        """Do a step's work, note how it ended, and look ahead."""
        try:
            result = work()
        except (StepWaits, StepDetached, StepPaused):
            raise
        except StepStoppedError as error:
            self._record.ended(row, "canceled", self.stop_reason() or error.message, attempt.number)
            raise
        except MlpipeError as error:
            self._record.failed(row, error, attempt)
            raise
        except Exception as error:
            self._record.failed(row, MlpipeError(f"step '{row.name}': {type(error).__name__}: {error}"), attempt)
            raise
        return self._ahead(row.step_id, result)

    def _reuse_or_run(
        self, step: StepSpec, row: StepRow, results: Mapping[str, StepResult], attempt: Attempt
    ) -> StepResult:
        """Return the step's result: one that is there, or a new one that nobody else computes meanwhile."""
        if attempt.resumed is not None or _is_asked_again(step, row, attempt):
            # Whatever others have computed meanwhile: what this one has begun is brought to its end.
            key = _begun_key(row)
            taken = self._catalog.acquire_lease(key.fingerprint, self.row.id, row.step_run_id, self.room.leases.ttl_s)
            token = taken if isinstance(taken, str) else None
            with self.room.leases.keeping(token):
                order = replace(self._order(step, row, key, results, attempt), resumed=True)
                return carry_out(order, key, self.room.site, self._carrier(step, attempt, token))
        decision = self._decided(step, row, results, attempt)
        if decision.result is not None:
            return decision.result
        token = self._lease(step, row, decision)
        with self.room.leases.keeping(token):
            key = key_of(decision)
            if self._reads_cache(step) and self._catalog.by_fingerprint(key.fingerprint, limit=1):
                # The last holder of the lease may have committed between the question and the lease.
                decision = self._decided(step, row, results, attempt)
                if decision.result is not None:
                    return decision.result
            attempt.tell(decision)
            key = key_of(decision)
            order = self._order(step, row, key, results, attempt)
            carrier = self._carrier(step, attempt, token)
            if attempt.waits_elsewhere and isinstance(carrier, Detachable) and carrier.detaches:
                begin_attempt(order, key, self.room.site)
                raise StepDetached(carrier.detach(order, self.room.site), token)
            return carry_out(order, key, self.room.site, carrier)

    def _carrier(self, step: StepSpec, attempt: Attempt, token: str | None) -> Carrier:
        compute = self.room.compute(step)
        if step.operator is not None:
            return operator_carrier(compute, self.room, attempt, token)
        check_place(step, "local" if compute is None else compute.kind, self.row.parameters)
        return carrier_of(compute, self.room, attempt.context)

    def _order(
        self, step: StepSpec, row: StepRow, key: StepKey, results: Mapping[str, StepResult], attempt: Attempt
    ) -> Order:
        return Order(
            step=step,
            run=self._identity(row),
            inputs=staged_inputs(step, key, results),
            number=attempt.number,
            stop=lambda: attempt.killed() or self.stop_reason(),
            on_line=attempt.on_line,
        )

    def _decided(
        self, step: StepSpec, row: StepRow, results: Mapping[str, StepResult], attempt: Attempt
    ) -> StepDecision:
        """Decide for a step; a result that can be taken is the run's from then on."""
        replans = 0
        while True:
            decision = self.planner.decide(step, results)
            if decision.result is None:
                return decision
            try:
                self._record.decided([decision], {row.step_id: row})
            except ResultGoneError:
                # Damage was found, or garbage collected, since the planner asked.
                self.planner.forget_results()
                replans += 1
                if replans == REPLANS:
                    raise
                continue
            attempt.tell(decision)
            return decision

    def _lease(self, step: StepSpec, row: StepRow, decision: StepDecision) -> str | None:
        """Take the lease on the step's key and return its token.

        None if another step has it and this one does not wait: it would not take the other's result.

        Raises:
            StepWaits: if another step has it; the row says which.
        """
        fingerprint = key_of(decision).fingerprint
        taken = self._catalog.acquire_lease(fingerprint, self.row.id, row.step_run_id, self.room.leases.ttl_s)
        if isinstance(taken, str):
            return taken
        if not self._reads_cache(step):
            return None
        reason = waiting_reason(self._catalog.step_by_id(taken.step_run_id))
        if row.reason != reason:
            self._record.decided([replace(decision, reason=reason)], {step.id: row})
            _log.info("step '%s': %s", row.name, reason)
        raise StepWaits(reason, pause_s(taken, datetime.now(UTC)))

    def _reads_cache(self, step: StepSpec) -> bool:
        return step.allow_reuse and not self.row.regenerate

    def timed_out(self, step_id: str, attempt: Attempt) -> None:
        """Note that a try was ended because it took too long."""
        step = self.spec.step_by_id[step_id]
        limit_s = step.airflow.get("execution_timeout", step.timeout_s)
        error = ExecutionError(f"step '{step.name}' was ended after its timeout of {limit_s:g} s")
        self._record.failed(self._catalog.step(self.row.id, step_id), error, attempt)

    def has_failed(self, step_id: str) -> bool:
        """Whether the catalog knows that a step has failed for good; False if it cannot be asked."""
        try:
            return self._catalog.step(self.row.id, step_id).status == "failed"
        except MlpipeError:
            return False

    def lost(self, step_id: str, *, final: bool) -> None:
        """Note that the process that ran a step was killed.

        Args:
            step_id: the step, or the reuse check, which has no row.
            final: whether no try is left.
        """
        if step_id not in self.spec.step_by_id:
            self.fail("the process that plans the run was killed")
            return
        row = self._catalog.step(self.row.id, step_id)
        self._catalog.drop_leases(row.step_run_id)
        sweep(self.room.folder, self._catalog, tries=step_run_folder(self.room.folder, row.step_run_id))
        error = MlpipeError(f"step '{row.name}': the process that ran it was killed")
        self._record.failed(row, error, Attempt(row.try_number or 1, last=final))

    def stop_reason(self) -> str | None:
        """Return why the run is to end before its time, or None."""
        stop = self._catalog.stop_of(self.row.id)
        if stop is not None:
            return stop.reason if stop.by == "cancel" else f"stopped because {stop.reason}"
        return None

    def _identity(self, row: StepRow) -> RunIdentity:
        return RunIdentity(
            run_id=self.row.id,
            step_run_id=row.step_run_id,
            experiment=self.row.experiment,
            pipeline=self.spec.name,
            workspace=self.room.folder,
            parameters=self.row.parameters,
            about=self.room.about,
        )

    def _refuse_if_stopped(self, row: StepRow) -> None:
        if (reason := self.stop_reason()) is not None:
            self._record.ended(row, "not_run", reason)
            raise StepStoppedError(f"step '{row.name}' does not start: {reason}")

    def _inputs(self, step: StepSpec) -> dict[str, StepResult]:
        """Return the results of the step's producers."""
        results = {}
        for producer in producers(step):
            result = self._record.result(producer)
            if result is None:
                name = self.spec.step_by_id[producer].name
                raise StepNotNeeded(f"step '{step.name}' has no input: step '{name}' has no result")
            results[producer] = result
        return results

    # --- looking ahead

    def _ahead(self, step_id: str, result: StepResult) -> list[str]:
        """Decide for what comes behind a step that has its result; return what need not run.

        A step that ran again and produced the same bytes stops the wave here, however long the chain.
        """
        self._record.results[step_id] = result
        ready = [s for s in self._consumers[step_id] if step_id in producers(self.spec.step_by_id[s])]
        if not ready or self.row.regenerate:
            return []
        # First the next ones alone: without a hit among them nothing further can be one, and reading all
        # rows of a long run at each of its steps would make the run's cost grow with its square.
        above = {producer for s in ready for producer in producers(self.spec.step_by_id[s])}
        known = {producer: r for producer in above if (r := self._record.result(producer)) is not None}
        if not any(decision.result for decision in self.planner.advance(step_id, known, ready)):
            return []
        rows = {row.step_id: row for row in self._catalog.steps(self.row.id)}
        for row in rows.values():
            if row.result_id is not None and row.step_id not in self._record.results:
                self._record.results[row.step_id] = self._catalog.get_result(row.result_id)
        waiting = [row.step_id for row in rows.values() if row.status == "not_started"]
        hits = [d for d in self.planner.advance(step_id, self._record.results, waiting) if d.result is not None]
        try:
            self._record.decided(hits, rows)
        except ResultGoneError:
            # Each decides for itself when its turn comes.
            self.planner.forget_results()
            return []
        return [decision.step for decision in hits]


def key_of(decision: StepDecision) -> StepKey:
    """Return what the result of a step that `decision` says to run will answer to.

    Raises:
        ValueError: if its inputs are not known yet.
    """
    if decision.fingerprint is None or decision.derivation is None or decision.components is None:
        raise ValueError(f"step '{decision.step}' has no key yet: {decision.reason}")
    return StepKey(
        fingerprint=decision.fingerprint,
        derivation=decision.derivation,
        components=decision.components,
        reason=decision.reason,
    )


def _is_asked_again(step: StepSpec, row: StepRow, attempt: Attempt) -> bool:
    """Whether a try is that of an operator that wanted to be run again later: a sensor in mode ``reschedule``."""
    return step.operator is not None and row.status == "running" and row.try_number == attempt.number


def _begun_key(row: StepRow) -> StepKey:
    """Return the key of a try that was begun, as its row has it."""
    assert row.fingerprint is not None and row.derivation is not None and row.components is not None
    return StepKey(
        fingerprint=row.fingerprint, derivation=row.derivation, components=row.components, reason=row.reason or ""
    )
