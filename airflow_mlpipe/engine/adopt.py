"""The run of the catalog that a DAG run stands for: the one that a submit has stored, or one that is made here.

A run that no submit made - triggered in Airflow's UI or on its command line, by a schedule or a backfill - gets an id
that follows from its DAG run, so that every task finds the same one, however often it is tried or cleared.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, FINAL_STEP_STATUSES, RunRow, StepRow
from airflow_mlpipe.engine.bookkeeping import WITHOUT_A_WORD, close_run, end_running_steps
from airflow_mlpipe.engine.names import AIRFLOW_RUN, CLEARED, CONF_KEY
from airflow_mlpipe.errors import NotFoundError, ParameterError, UsageError
from airflow_mlpipe.model.digest import Digest, short
from airflow_mlpipe.model.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow_mlpipe.engine.room import Room
    from airflow_mlpipe.engine.runs import EngineRun

_NAMESPACE = uuid.UUID("6d1f7f52-3a0f-5c8e-9c64-2f3d5d0a7b11")

Publish = Callable[[], Digest]
"""Packs the pipeline of a DAG file and stores it; returns the digest of its spec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A pipeline's share of a DAG.

    Attributes:
        room: its workspace.
        part: what its task ids begin with: empty for a DAG of its own, else ``<group>.``.
        spec_digest: of the spec that the DAG was built from; None for a DAG file, whose spec is made when a run starts.
    """

    room: Room
    part: str = ""
    spec_digest: Digest | None = None

    def run_id(self, dag_run: Any) -> str:
        """Return the id of the run that a DAG run stands for."""
        return str(_submitted(dag_run).get("run_id") or self._derived("run", dag_run))

    def find(self, dag_run: Any) -> EngineRun:
        """Return the run that a DAG run stands for, taken up again if its tasks were cleared.

        Raises:
            UsageError: if the run is of another spec than the DAG, or was never planned.
        """
        run_id = self.run_id(dag_run)
        try:
            run = self.room.run(run_id)
        except NotFoundError:
            raise UsageError(
                f"DAG run '{dag_run.run_id}' has no run in workspace '{self.room.folder}' yet: "
                "its reuse_check makes one; clear that task with what is downstream of it"
            ) from None
        if self.spec_digest is not None and run.row.spec_digest != self.spec_digest:
            raise UsageError(
                f"run {run_id} is of spec {short(run.row.spec_digest)}, but the DAG that was loaded for it is of "
                f"{short(self.spec_digest)}; submit again once Airflow has read the new version"
            )
        if run.row.engine == "embedded":
            # Nobody can clear its tasks; what its planner has learned is kept.
            return run
        row = self.room.catalog.get_run(run_id)
        if _cleared(row, dag_run):
            self._resume(row, [], (), dag_run)
        self.room.forget(run_id)
        return self.room.run(run_id)

    def begin(
        self, dag_run: Any, params: Mapping[str, Any], publish: Publish | None, unstarted: Callable[[], Collection[str]]
    ) -> EngineRun:
        """Return the run that a DAG run stands for, ready to be planned; it is made if there is none.

        Args:
            dag_run: the DAG run.
            params: the values of the DAG's form, as Airflow has checked them.
            publish: stores the pipeline, for one whose spec is made now.
            unstarted: tells which steps have no task that has started; asked only if the run has been there before.

        Raises:
            UsageError: if the run is of another spec than the DAG, or a parameter is not right.
        """
        rows: list[StepRow] = []
        if _submitted(dag_run).get("run_id"):
            run = self.find(dag_run)
            if run.row.engine == "embedded":
                return run
            row = run.row
        else:
            digest = self.spec_digest if publish is None else publish()
            if digest is None:
                raise UsageError(f"DAG '{dag_run.dag_id}': its reuse_check has neither a spec nor a pipeline")
            row = self._row(dag_run, self.room.spec(digest), params)
            rows = self._steps(row, dag_run)
            if self.room.catalog.adopt_run(row, rows):
                return self.room.run(row.id)
            kept = self.room.catalog.get_run(row.id)
            row.properties[CLEARED] = kept.properties.get(CLEARED, "0")
        steps = self.room.catalog.steps(row.id, brief=True)
        ended = [step.step_id for step in steps if step.status in FINAL_STEP_STATUSES]
        if rows or ended:
            again = set(ended).intersection(unstarted()) if ended else ()
            self._resume(row, rows, again, dag_run)
        return self.room.run(row.id)

    def refuse(self, dag_run: Any, reason: str) -> None:
        """Note why the run that a DAG run stands for cannot be planned, if it was ever stored."""
        # A conf that is not right names none.
        with suppress(NotFoundError, ParameterError):
            self.room.catalog.request_stop(self.run_id(dag_run), "failure", reason)

    def close(self, dag_run: Any, said: str | None) -> dict[str, str] | None:
        """Give the run its last status, now that its DAG run has ended. One that has it already keeps it.

        Returns:
            what each of its reused tasks was reused from, by task id; None if there is no run, or it is one of an
            embedded engine, which ends its runs itself.

        Args:
            dag_run: the DAG run.
            said: why it ended, for a run whose own steps do not tell; None for "by itself".
        """
        catalog = self.room.catalog
        try:
            row = catalog.get_run(self.run_id(dag_run))
        except NotFoundError:
            # Nothing was planned: a branch did not choose the pipeline, or something before it failed.
            return None
        if row.engine != "server":
            return None
        if row.status not in FINAL_RUN_STATUSES:
            self._end(row, said)
        steps = catalog.steps(row.id, brief=True)
        return {f"{self.part}{step.step_id}": step.reason for step in steps if step.status == "reused"}

    def _end(self, row: RunRow, said: str | None) -> None:
        catalog = self.room.catalog
        end_running_steps(catalog, row.id, said or WITHOUT_A_WORD)
        complete = all(step.status in ("completed", "reused") for step in catalog.steps(row.id, brief=True))
        close_run(catalog, row.id, self.room.spec(row.spec_digest), error=None if complete else said)

    def _resume(self, row: RunRow, rows: list[StepRow], again: Collection[str], dag_run: Any) -> None:
        reopen = _cleared(row, dag_run)
        row.properties = {**row.properties, CLEARED: str(dag_run.clear_number or 0)}
        self.room.catalog.resume_run(row, rows, again, reopen=reopen)
        self.room.forget(row.id)

    def _row(self, dag_run: Any, spec: PipelineSpec, params: Mapping[str, Any]) -> RunRow:
        now = datetime.now(UTC)
        flags = _submitted(dag_run)
        run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
        return RunRow(
            id=self.run_id(dag_run),
            experiment=spec.name,
            pipeline=spec.name,
            spec_digest=spec.digest,
            status="Running",
            engine="server",
            created_at=now,
            started_at=now,
            parameters=dict(self._bound(dag_run, spec, params)),
            regenerate=bool(flags.get("regenerate_outputs", False)),
            continue_on_step_failure=bool(flags.get("continue_on_step_failure", False)),
            properties={AIRFLOW_RUN: dag_run.run_id, "airflow.run_type": str(run_type)},
            user="airflow",
            dag_id=dag_run.dag_id,
        )

    def _bound(self, dag_run: Any, spec: PipelineSpec, params: Mapping[str, Any]) -> Mapping[str, Any]:
        known = {parameter.name for parameter in spec.parameters}
        if not self.part:
            # A DAG of the pipeline's own has no use for other names; a misspelt one must not train with the default.
            unknown = sorted(set(dag_run.conf or {}) - known - {CONF_KEY} - set(params))
            if unknown:
                spec.bind({unknown[0]: None})
        values = {name: value for name, value in params.items() if name in known and value is not None}
        for parameter in spec.parameters:
            # Also of a run that somebody has triggered for a logical date: Airflow knows the interval of that.
            moment = getattr(dag_run, f"data_interval_{parameter.interval}", None)
            if moment is not None:
                values.setdefault(parameter.name, moment)
        return self.room.catalog.pin_parameters(spec.parameters, spec.bind(values))

    def _steps(self, run: RunRow, dag_run: Any) -> list[StepRow]:
        return [
            StepRow(
                run_id=run.id,
                step_id=step.id,
                step_run_id=self._derived(f"step {step.id}", dag_run),
                name=step.name,
                position=position,
            )
            for position, step in enumerate(self.room.spec(run.spec_digest).steps)
        ]

    def _derived(self, what: str, dag_run: Any) -> str:
        names = [self.room.config.get("id", ""), dag_run.dag_id, dag_run.run_id, self.part, what]
        return str(uuid.uuid5(_NAMESPACE, json.dumps(names)))


def _submitted(dag_run: Any) -> Mapping[str, Any]:
    """Return what of a DAG run's conf is ours.

    Raises:
        ParameterError: if somebody has put something else there.
    """
    ours = (dag_run.conf or {}).get(CONF_KEY) or {}
    if not isinstance(ours, Mapping):
        raise ParameterError(
            f"DAG run '{dag_run.run_id}': '{CONF_KEY}' in its conf is {ours!r}; give an object such as "
            '{"regenerate_outputs": true}, or leave it out'
        )
    return ours


def _cleared(row: RunRow, dag_run: Any) -> bool:
    """Whether a person has cleared tasks of the DAG run since the run was last taken up."""
    return int(dag_run.clear_number or 0) > int(row.properties.get(CLEARED, "0"))
