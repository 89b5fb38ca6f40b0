"""Results, which alone are ever reused, and what was written to runs. Both are only ever added to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from airflow_mlpipe.catalog.columns import loaded_text, stored_json, stored_text, stored_time
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.pins import check_place
from airflow_mlpipe.catalog.steps import completed_by, update_step
from airflow_mlpipe.errors import NotFoundError, StorageError
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.memory import no_garbage
from airflow_mlpipe.model.result import StepResult, Written

CANDIDATES = 3
"""How many results of one key are fetched: the newest is the one wanted, unless its data is gone."""

_log = logging.getLogger(__name__)

INSERT = (
    "INSERT INTO results (id, fingerprint, derivation, pipeline, step, run_id, step_run_id, created_at, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)

# CROSS JOIN, because SQLite takes it as the order to follow: from the keys, through the index, to few rows.
_CANDIDATES = f"""
    SELECT r.id, r.body
    FROM (
        SELECT max(c.seq) AS seq, row_number() OVER (PARTITION BY c.derivation ORDER BY max(c.seq) DESC) AS place
        FROM {{each}} CROSS JOIN results AS c
        WHERE c.derivation = k.value AND c.doubtful IS NULL
        GROUP BY c.derivation, c.fingerprint
    ) AS newest CROSS JOIN results AS r
    WHERE newest.place <= {CANDIDATES} AND r.seq = newest.seq
    ORDER BY r.seq DESC
"""


class ResultPart(Part):
    """Results, and what was written to runs."""

    def commit_result(self, result: StepResult, run_id: str, step_id: str, **columns: Any) -> bool:
        """Record a result and that its step is completed, at once or not at all.

        Committing the same result again changes nothing. A step that has another final status by now, because its run
        was cancelled, keeps it, and one that is completed by another try keeps that one's result; this result is
        recorded all the same, for others.

        Args:
            result: what was computed; its bytes are in the store already.
            run_id: the run.
            step_id: the step.
            **columns: other fields of the :class:`StepRow` to set. Status, result, key, end, exit code 0 and no
                error are set without being given.

        Returns:
            whether the step is completed with this result.

        Raises:
            StorageError: if the step's run had ended and its bytes are collected as garbage.
        """
        with self._database.transaction() as session:
            check_place(session, result.step_run_id, result.step)
            session.run(INSERT, result_values(result, self._now()))
            return update_step(session, run_id, step_id, completed_by(result) | columns)

    def candidates(self, derivations: Sequence[Digest]) -> dict[Digest, list[StepResult]]:
        """Return results by derivation key, newest first, without doubtful ones. One query.

        Returns:
            for each key that has any, the newest result of each fingerprint, and of these the newest
            :data:`CANDIDATES`. The earlier ones of a fingerprint are left to :meth:`by_fingerprint`.
        """
        found: dict[Digest, list[StepResult]] = {}
        if derivations:
            rows = self._database.rows(_CANDIDATES, (self._database.each(dict.fromkeys(derivations)),))
            for result in _readable(rows):
                found.setdefault(result.derivation, []).append(result)
        return found

    def by_fingerprint(self, fingerprint: Digest, limit: int = CANDIDATES) -> list[StepResult]:
        """Return the results of a key, newest first, without doubtful ones."""
        rows = self._database.rows(
            "SELECT id, body FROM results WHERE fingerprint = ? AND doubtful IS NULL"
            f" ORDER BY seq DESC LIMIT {limit:d}",
            (fingerprint,),
        )
        return _readable(rows)

    def nearest(self, pipeline: str, step_name: str, limit: int = 1) -> list[StepResult]:
        """Return the latest results of a step whatever their key, newest first, doubtful ones too: to compare with."""
        rows = self._database.rows(
            "SELECT id, body FROM results WHERE pipeline = ? AND step = ?"
            f" ORDER BY created_at DESC, seq DESC LIMIT {limit:d}",
            (stored_text(pipeline), stored_text(step_name)),
        )
        return _readable(rows)

    def get_result(self, result_id: str) -> StepResult:
        """Return a result, doubtful or not.

        Raises:
            NotFoundError: if there is none with that id.
            StorageError: if its row cannot be read.
        """
        row = self._database.row("SELECT body FROM results WHERE id = ?", (stored_text(result_id),))
        if row is None:
            raise NotFoundError(f"there is no result '{result_id}' in this workspace")
        try:
            return result_of(row[0])
        except ValueError as error:
            raise StorageError(f"result '{result_id}' is not readable by this version of airflow-mlpipe") from error

    def mark_doubtful(self, result_id: str, reason: str) -> None:
        """Offer a result to no later run. The first reason stays."""
        with self._database.transaction() as session:
            session.run(
                "UPDATE results SET doubtful = ? WHERE id = ? AND doubtful IS NULL",
                (stored_text(reason), stored_text(result_id)),
            )

    def doubt_of(self, result_id: str) -> str | None:
        """Return why a result is doubtful, or None if it is not."""
        row = self._database.row("SELECT doubtful FROM results WHERE id = ?", (stored_text(result_id),))
        return None if row is None or row[0] is None else loaded_text(row[0])

    def add_written(self, owner_id: str, written: Written) -> None:
        """Add what a step or a user wrote to a run or a step run."""
        document = written.model_dump(exclude_defaults=True)
        if document:
            with self._database.transaction() as session:
                session.run(
                    "INSERT INTO written (owner_id, body) VALUES (?, ?)", (stored_text(owner_id), stored_json(document))
                )

    def written_of(self, owner_id: str) -> Written:
        """Return all that was written to a run or a step run, in order.

        Metrics follow each other; of tags and properties of one name the last is kept, as of files.
        """
        metrics: list[Any] = []
        tags: dict[str, str] = {}
        properties: dict[str, str] = {}
        files: dict[str, Any] = {}
        rows = self._database.rows("SELECT body FROM written WHERE owner_id = ? ORDER BY seq", (stored_text(owner_id),))
        for (body,) in rows:
            document = json.loads(body)
            metrics += document.get("metrics", ())
            tags |= document.get("tags", {})
            properties |= document.get("properties", {})
            files |= {file["name"]: file for file in document.get("files", ())}
        return Written.model_validate(
            {"metrics": metrics, "tags": tags, "properties": properties, "files": list(files.values())}
        )


def result_values(result: StepResult, created_at: datetime) -> tuple[object, ...]:
    """Return the column values of a result for :data:`INSERT`."""
    texts = (result.pipeline, result.step, result.run_id, result.step_run_id)
    return (
        stored_text(result.id),
        result.fingerprint,
        result.derivation,
        *map(stored_text, texts),
        stored_time(created_at),
        stored_json(result.model_dump()),
    )


def result_of(body: str) -> StepResult:
    """Return the result that the body of a row says.

    Raises:
        ValueError: if it is not one that this version can read.
    """
    try:
        return StepResult.model_validate_json(body)
    except ValidationError:
        # Pydantic's own parser, which is the fast one, does not take the lone surrogates of names that are not UTF-8.
        return StepResult.model_validate(json.loads(body))


def _readable(rows: Iterable[tuple[str, str]]) -> list[StepResult]:
    results = []
    with no_garbage():
        for result_id, body in rows:
            try:
                results.append(result_of(body))
            except ValueError as error:
                # Any doubt is a miss: a newer version may have written it.
                why = str(error).partition("\n")[0]
                _log.warning("result %s is passed over: its row is not readable (%s)", result_id, why)
    return results
