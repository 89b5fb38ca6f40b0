"""Putting back what a catalog has lost, from the records of a store. What is there stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from airflow_mlpipe.catalog.columns import loaded_text, stored_json, stored_text, stored_time
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.models import MODELS
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.results import INSERT, result_of, result_values
from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, ModelRow, RunRow, StepRow
from airflow_mlpipe.catalog.runs import RUNS
from airflow_mlpipe.catalog.steps import STEPS, completed_by, update_step
from airflow_mlpipe.model.result import StepResult

UNKNOWN_STEP = "not known: the catalog was rebuilt, and the store has no record of it"
"""The reason of a step of a restored run that no record tells of."""

_PAGE = 500


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A row of the results.

    Attributes:
        id: of the result.
        step_run_id: the step run that computed it.
        result: what it says, or None if its row cannot be read.
        doubtful: why no run may take it, or None.
    """

    id: str
    step_run_id: str
    result: StepResult | None
    doubtful: str | None


class RestorePart(Part):
    """Reading all of the results, and putting back what is missing."""

    def kept_results(self) -> Iterator[KeptResult]:
        """Yield every row of the results, doubtful ones too, oldest first."""
        above = -1
        while True:
            rows = self._database.rows(
                f"SELECT seq, id, step_run_id, doubtful, body FROM results WHERE seq > ? ORDER BY seq LIMIT {_PAGE:d}",
                (above,),
            )
            for _, result_id, step_run_id, doubtful, body in rows:
                try:
                    result = result_of(body)
                except ValueError:
                    result = None
                doubt = None if doubtful is None else loaded_text(doubtful)
                yield KeptResult(loaded_text(result_id), loaded_text(step_run_id), result, doubt)
            if len(rows) < _PAGE:
                return
            above = rows[-1][0]

    def restore_result(
        self, result: StepResult, run: RunRow, step: StepRow, others: Sequence[StepRow], created_at: datetime
    ) -> Literal["added", "known"] | str:
        """Put back a result, its run and its step, where they are missing.

        Args:
            result: the result.
            run: the run that computed it; used if the catalog does not know it.
            step: the step that computed it; used if the catalog does not know it.
            others: the other steps of the run; likewise.
            created_at: when it was committed.

        Returns:
            ``added``, ``known`` if it was there, or why the catalog contradicts it.
        """
        with self._database.transaction() as session:
            session.lock(f"run {stored_text(run.id)}")
            if session.row("SELECT 1 FROM results WHERE id = ?", (stored_text(result.id),)) is not None:
                return "known"
            collected = session.row("SELECT 1 FROM collected WHERE step_run_id = ?", (stored_text(step.step_run_id),))
            if collected is not None:
                return "it is collected as garbage"
            contradiction = self._restore_step(session, result, run, step, others)
            if contradiction is not None:
                return contradiction
            session.run(INSERT, result_values(result, created_at))
        return "added"

    def _restore_step(
        self, session: Session, result: StepResult, run: RunRow, step: StepRow, others: Sequence[StepRow]
    ) -> str | None:
        key = (stored_text(run.id), stored_text(step.step_id))
        if session.row("SELECT 1 FROM runs WHERE id = ?", key[:1]) is None:
            self._insert_run(session, run, others)
        row = session.row(f"{STEPS.select} WHERE run_id = ? AND step_id = ?", key)
        if row is None:
            session.run(STEPS.insert, STEPS.values(step))
        elif (there := STEPS.row(row)).reason == UNKNOWN_STEP and there.status == "not_run":
            session.run("DELETE FROM steps WHERE run_id = ? AND step_id = ?", key)
            session.run(STEPS.insert, STEPS.values(step))
        elif there.step_run_id != step.step_run_id:
            return f"step '{step.name}' of its run is another one in the catalog"
        elif there.status == "completed":
            return None
        elif there.status in FINAL_STEP_STATUSES:
            return f"its step '{step.name}' ended as '{there.status}'"
        else:
            # Its process died, or the catalog was saved, between the record and the row.
            update_step(session, run.id, step.step_id, completed_by(result))
            return None
        parent = result.parent_written.model_dump(exclude_defaults=True)
        if parent:
            session.run("INSERT INTO written (owner_id, body) VALUES (?, ?)", (key[0], stored_json(parent)))
        return None

    def _insert_run(self, session: Session, run: RunRow, steps: Sequence[StepRow]) -> None:
        session.run(
            "INSERT INTO experiments (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
            (stored_text(run.experiment), stored_time(run.created_at)),
        )
        session.run(RUNS.insert, RUNS.values(run))
        session.run_many(STEPS.insert, [STEPS.values(step) for step in steps])
        _count_to(session, f"runs of {run.experiment}", run.number)

    def close_restored_run(self, run_id: str) -> None:
        """Give a run that was put back its end, and say of how many of its steps nothing is known."""
        key = stored_text(run_id)
        with self._database.transaction() as session:
            rows = session.rows("SELECT reason, ended_at FROM steps WHERE run_id = ?", (key,))
            lost = sum(loaded_text(reason) == UNKNOWN_STEP for reason, _ in rows)
            error = f"the catalog was rebuilt: nothing is known of {lost} of its {len(rows)} steps" if lost else None
            ended_at = max((ended for _, ended in rows if ended is not None), default=None)
            session.run("UPDATE runs SET error = ?, ended_at = ? WHERE id = ?", (error, ended_at, key))

    def restore_model(self, row: ModelRow) -> bool:
        """Put back a version of a model; False if the catalog has one of its name and number."""
        with self._database.transaction() as session:
            _count_to(session, f"versions of model {row.name}", row.version)
            changed = session.run(f"{MODELS.insert} ON CONFLICT DO NOTHING", MODELS.values(row))
        return changed > 0

    def reserve_model_versions(self, name: str, up_to: int) -> None:
        """Let no version of a model up to this number be given again: its place in the store is taken."""
        with self._database.transaction() as session:
            _count_to(session, f"versions of model {name}", up_to)


def model_row(fields: dict[str, Any]) -> ModelRow:
    """Return the row that a record of a model tells of.

    Raises:
        TypeError, ValueError: if it does not tell of one.
    """
    row = ModelRow(**{**fields, "created_at": datetime.fromisoformat(fields["created_at"])})
    # All of it must be storable.
    json.dumps(MODELS.values(row))
    return row


def _count_to(session: Session, counter: str, number: int) -> None:
    session.run(
        "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value ="
        " CASE WHEN counters.value < excluded.value THEN excluded.value ELSE counters.value END",
        (stored_text(counter), number),
    )
