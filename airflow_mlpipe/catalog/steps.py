"""The steps of runs: what was planned for each and how it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlpipe.catalog.columns import JSON, PLAIN, TEXT, TIME, RowMap, loaded_text, stored_text
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.pins import check_pins, check_place
from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, StepRow
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.result import StepResult

STEPS = RowMap(
    StepRow,
    "steps",
    {
        "run_id": TEXT,
        "step_id": TEXT,
        "step_run_id": TEXT,
        "name": TEXT,
        "position": PLAIN,
        "status": PLAIN,
        "decision": PLAIN,
        "reason": TEXT,
        "fingerprint": PLAIN,
        "derivation": PLAIN,
        "components": JSON,
        "result_id": PLAIN,
        "reused_from": TEXT,
        "saved_s": PLAIN,
        "started_at": TIME,
        "ended_at": TIME,
        "exit_code": PLAIN,
        "error": TEXT,
        "try_number": PLAIN,
        "written": JSON,
    },
)

_BRIEF = STEPS.select_without("components", "written")

_PLANNED = (
    "status", "decision", "reason", "fingerprint", "derivation", "components", "result_id", "reused_from", "saved_s",
    "started_at", "ended_at",
)  # fmt: skip

_FINAL = ", ".join(f"'{status}'" for status in sorted(FINAL_STEP_STATUSES))


FORGET = (
    "UPDATE steps SET status = 'not_started', decision = 'later', reason = '', result_id = NULL, reused_from = NULL,"
    " saved_s = NULL, started_at = NULL, ended_at = NULL, exit_code = NULL, error = NULL WHERE run_id = ?"
)
"""Makes steps of a run as if they had never started; their tries go on being counted."""


class StepPart(Part):
    """The steps of runs."""

    def steps(self, run_id: str, *, brief: bool = False) -> list[StepRow]:
        """Return the steps of a run in the order of its spec; none for a run that does not exist.

        Args:
            run_id: the run.
            brief: leave out ``components`` and ``written``, which make most of the work of reading many.
        """
        select = _BRIEF if brief else STEPS.select
        rows = self._database.rows(f"{select} WHERE run_id = ? ORDER BY position", (stored_text(run_id),))
        return [STEPS.row(row) for row in rows]

    def has_all_results(self, run_id: str) -> bool:
        """Whether every step of a run is ``completed`` or ``reused``; True for a run without steps."""
        sql = "SELECT 1 FROM steps WHERE run_id = ? AND status NOT IN ('completed', 'reused') LIMIT 1"
        return self._database.row(sql, (stored_text(run_id),)) is None

    def step(self, run_id: str, step_id: str) -> StepRow:
        """Return a step of a run.

        Raises:
            NotFoundError: if there is no such run or it has no such step.
        """
        row = self._database.row(
            f"{STEPS.select} WHERE run_id = ? AND step_id = ?", (stored_text(run_id), stored_text(step_id))
        )
        if row is None:
            raise NotFoundError(f"there is no step '{step_id}' of a run '{run_id}' in this workspace")
        return STEPS.row(row)

    def step_by_id(self, step_run_id: str) -> StepRow:
        """Return the step of a run by its own id.

        Raises:
            NotFoundError: if there is none with that id.
        """
        row = self._database.row(f"{STEPS.select} WHERE step_run_id = ?", (stored_text(step_run_id),))
        if row is None:
            raise NotFoundError(f"there is no step run '{step_run_id}' in this workspace")
        return STEPS.row(row)

    def put_plan(self, run_id: str, steps: Sequence[StepRow]) -> None:
        """Write what was decided for the steps of a run. Those that have started, or have ended, stay as they are.

        A step whose decision is ``reuse`` is ``reused`` from then on, and has ended now unless its row says when.

        Raises:
            ResultGoneError: if a step takes a result that is doubtful or collected by now; nothing is written then.
        """
        ended_at = self._now()
        sql = (
            f"UPDATE steps SET {STEPS.assignments(_PLANNED)}"
            " WHERE run_id = ? AND step_id = ? AND status = 'not_started'"
        )
        rows = []
        for step in steps:
            changes = {field: getattr(step, field) for field in _PLANNED}
            if step.decision == "reuse":
                changes |= {"status": "reused", "ended_at": step.ended_at or ended_at}
            rows.append([*STEPS.changed(changes), stored_text(run_id), stored_text(step.step_id)])
        with self._database.transaction() as session:
            check_pins(session, [step.result_id for step in steps])
            session.run_many(sql, rows)

    def update_step(self, run_id: str, step_id: str, *, of_try: int | None = None, **columns: Any) -> bool:
        """Change fields of a step.

        A final status stays: an update that gives another one is refused as a whole, and so is another result for a
        completed step. The one exception is another try: ``status="running"`` with a higher ``try_number`` after
        ``failed`` or ``canceled``, which an earlier try may say while the next one begins. A step that starts to run
        has no end, exit code or error unless they are given.

        Args:
            run_id: the run.
            step_id: the step.
            of_try: the try that says so; refused once a later one has begun, which may be while this one ends.
            **columns: fields of :class:`StepRow` and their new values.

        Returns:
            whether it was changed.

        Raises:
            NotFoundError: if there is no such step.
            ResultGoneError: if it takes a result that is doubtful or collected by now.
            StorageError: if it starts, and what it has written is collected as garbage: its run had ended.
            ValueError: for a name that is not a field.
        """
        with self._database.transaction() as session:
            check_pins(session, [columns.get("result_id")])
            if columns.get("status") == "running":
                _check_start(session, run_id, step_id)
            changed = update_step(session, run_id, step_id, columns, of_try)
        if not changed:
            self.step(run_id, step_id)
        return changed


def _check_start(session: Session, run_id: str, step_id: str) -> None:
    key = (stored_text(run_id), stored_text(step_id))
    row = session.row("SELECT step_run_id, name FROM steps WHERE run_id = ? AND step_id = ?", key)
    if row is not None:
        check_place(session, loaded_text(row[0]), loaded_text(row[1]))


def completed_by(result: StepResult) -> dict[str, Any]:
    """Return the fields of a step that is completed with this result."""
    return {
        "status": "completed",
        "result_id": result.id,
        "fingerprint": result.fingerprint,
        "derivation": result.derivation,
        "components": result.components,
        "ended_at": result.ended_at,
        "exit_code": 0,
        "error": None,
    }


def update_step(
    session: Session, run_id: str, step_id: str, columns: Mapping[str, Any], of_try: int | None = None
) -> bool:
    """Do what :meth:`StepPart.update_step` says in a transaction; False also if there is no such step."""
    status = columns.get("status")
    if status == "running":
        columns = {"ended_at": None, "exit_code": None, "error": None, **columns}
    sql = f"UPDATE steps SET {STEPS.assignments(list(columns))} WHERE run_id = ? AND step_id = ?"
    parameters = [*STEPS.changed(columns), stored_text(run_id), stored_text(step_id)]
    if status is not None:
        sql += f" AND (status NOT IN ({_FINAL}) OR status = ?"
        parameters.append(status)
        if status == "completed" and "result_id" in columns:
            # The run has gone on with the result it took first; one of a try that was given up must not replace it.
            sql += " AND result_id = ?"
            parameters.append(columns["result_id"])
        if status == "running" and "try_number" in columns:
            sql += " OR (status IN ('failed', 'canceled') AND try_number < ?)"
            parameters.append(columns["try_number"])
        sql += ")"
    if of_try is not None:
        sql += " AND (try_number IS NULL OR try_number <= ?)"
        parameters.append(of_try)
    return session.run(sql, parameters) > 0
