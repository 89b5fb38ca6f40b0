"""Experiments, specs and runs: what was submitted, how it stands, and who asked it to stop."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from airflow_mlpipe.catalog.columns import FLAG, JSON, PLAIN, TEXT, TIME, RowMap, loaded_text, stored_text, stored_time
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part, counted, has_tags
from airflow_mlpipe.catalog.pins import check_pins
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, RunRow, StepRow, Stop
from airflow_mlpipe.catalog.steps import FORGET, STEPS
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.digest import Digest

RUNS = RowMap(
    RunRow,
    "runs",
    {
        "id": TEXT,
        "experiment": TEXT,
        "pipeline": TEXT,
        "spec_digest": PLAIN,
        "status": PLAIN,
        "engine": PLAIN,
        "created_at": TIME,
        "started_at": TIME,
        "ended_at": TIME,
        "parameters": JSON,
        "regenerate": FLAG,
        "continue_on_step_failure": FLAG,
        "tags": JSON,
        "properties": JSON,
        "user": TEXT,
        "source": TEXT,
        "dag_id": TEXT,
        "error": TEXT,
        "number": PLAIN,
    },
    renamed={"user": "submitted_by"},
)

STOPS = RowMap(
    Stop, "stops", {"by": PLAIN, "reason": TEXT, "at": TIME}, renamed={"by": "stopped_by", "at": "stopped_at"}
)

_PAGE = 200

_BLOCKING = ", ".join(f"'{status}'" for status in sorted(FINAL_RUN_STATUSES))
# A run that was asked to stop may only go on to its end.
_AFTER_CANCEL = FINAL_RUN_STATUSES | {"CancelRequested", "Finalizing"}


class RunPart(Part):
    """Experiments, specs, runs and stops."""

    def ensure_experiment(self, name: str) -> None:
        """Make an experiment if there is none of that name."""
        with self._database.transaction() as session:
            self._ensure_experiment(session, name)

    def _ensure_experiment(self, session: Session, name: str) -> None:
        session.run(
            "INSERT INTO experiments (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
            (stored_text(name), stored_time(self._now())),
        )

    def list_experiments(self) -> list[str]:
        """Return the names of all experiments, oldest first."""
        return [
            loaded_text(name)
            for (name,) in self._database.rows("SELECT name FROM experiments ORDER BY created_at, name")
        ]

    def put_spec(self, digest: Digest, json_text: str) -> None:
        """Keep a spec. A digest that is kept already is left as it is."""
        with self._database.transaction() as session:
            session.run(
                "INSERT INTO specs (digest, body, created_at) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                (digest, stored_text(json_text), stored_time(self._now())),
            )

    def get_spec(self, digest: Digest) -> str:
        """Return the JSON text of a spec.

        Raises:
            NotFoundError: if it is not kept.
        """
        row = self._database.row("SELECT body FROM specs WHERE digest = ?", (digest,))
        if row is None:
            raise NotFoundError(f"there is no pipeline spec {digest} in this workspace")
        return loaded_text(row[0])

    def start_run(self, run: RunRow, steps: Sequence[StepRow]) -> int:
        """Record a run with all its steps, and its experiment if that is new, at once or not at all.

        Returns:
            its number among the runs of its experiment, from 1, which is written to ``run.number`` as well.

        Raises:
            ResultGoneError: if a step takes a result that is doubtful or collected by now.
        """
        with self._database.transaction() as session:
            check_pins(session, [step.result_id for step in steps])
            self._ensure_experiment(session, run.experiment)
            run.number = counted(session, f"runs of {run.experiment}")
            session.run(RUNS.insert, RUNS.values(run))
            session.run_many(STEPS.insert, [STEPS.values(step) for step in steps])
        return run.number

    def adopt_run(self, run: RunRow, steps: Sequence[StepRow]) -> bool:
        """Record a run as :meth:`start_run` does, unless there is one of that id. Returns whether there was none."""
        key = stored_text(run.id)
        with self._database.transaction() as session:
            session.lock(f"run {key}")
            if session.row("SELECT 1 FROM runs WHERE id = ?", (key,)) is not None:
                return False
            self._ensure_experiment(session, run.experiment)
            run.number = counted(session, f"runs of {run.experiment}")
            session.run(RUNS.insert, RUNS.values(run))
            session.run_many(STEPS.insert, [STEPS.values(step) for step in steps])
        return True

    def resume_run(self, run: RunRow, steps: Sequence[StepRow], again: Collection[str], *, reopen: bool) -> None:
        """Take a run up once more, because its engine was told to run tasks of it again.

        The only way back from a final status, of a run and of its steps. What the run has of results stays with the
        steps that are not named in `again`.

        Args:
            run: the run; its spec, parameters and properties replace those that are kept.
            steps: its steps; those that it does not have yet are added.
            again: ids of the steps that are as if they had never started.
            reopen: whether a person asked for it: then a final status and a request to stop are gone, and so is the end
                of steps that never ran. Otherwise both stay as they are.
        """
        key = stored_text(run.id)
        fields: dict[str, Any] = {name: getattr(run, name) for name in ("spec_digest", "parameters", "properties")}
        if reopen:
            fields |= {"status": "Running", "ended_at": None, "error": None}
        with self._database.transaction() as session:
            session.lock(f"run {key}")
            session.run(f"UPDATE runs SET {RUNS.assignments(list(fields))} WHERE id = ?", [*RUNS.changed(fields), key])
            known = {row[0] for row in session.rows("SELECT step_id FROM steps WHERE run_id = ?", (key,))}
            new = [STEPS.values(step) for step in steps if stored_text(step.step_id) not in known]
            session.run_many(STEPS.insert, new)
            if reopen:
                session.run("DELETE FROM stops WHERE run_id = ?", (key,))
                session.run(f"{FORGET} AND status = 'not_run'", (key,))
            session.run_many(f"{FORGET} AND step_id = ?", [(key, stored_text(step_id)) for step_id in again])

    def get_run(self, run_id: str) -> RunRow:
        """Return a run.

        Raises:
            NotFoundError: if there is none with that id.
        """
        row = self._database.row(f"{RUNS.select} WHERE id = ?", (stored_text(run_id),))
        if row is None:
            raise NotFoundError(f"there is no run '{run_id}' in this workspace")
        return RUNS.row(row)

    def list_runs(
        self,
        experiment: str | None = None,
        limit: int | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> list[RunRow]:
        """Return runs, newest first.

        Args:
            experiment: only those of this experiment.
            limit: at most so many; None for all.
            tags: only those that have all of these tags, set at submission or written since; None as the value
                stands for any.
        """
        found: list[RunRow] = []
        for page in self._pages(experiment, _PAGE if tags or limit is None else min(limit, _PAGE)):
            found += self._tagged(page, tags) if tags else page
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def _pages(self, experiment: str | None, size: int) -> Iterator[list[RunRow]]:
        condition, parameters = ("", []) if experiment is None else (" AND experiment = ?", [stored_text(experiment)])
        sql = f"SELECT seq, {RUNS.names} FROM runs WHERE seq < ?{condition} ORDER BY seq DESC LIMIT {size:d}"
        below: int | None = 2**62
        while below is not None:
            rows = self._database.rows(sql, [below, *parameters])
            yield [RUNS.row(row[1:]) for row in rows]
            below = rows[-1][0] if len(rows) == size and size else None

    def _tagged(self, page: list[RunRow], wanted: Mapping[str, str | None]) -> list[RunRow]:
        now_tags = {stored_text(run.id): dict(run.tags) for run in page}
        bodies = self._database.rows(
            "SELECT w.owner_id, w.body FROM {each} CROSS JOIN written AS w WHERE w.owner_id = k.value ORDER BY w.seq",
            (self._database.each(now_tags),),
        )
        for owner_id, body in bodies:
            now_tags[owner_id].update(json.loads(body).get("tags", {}))
        return [run for run in page if has_tags(now_tags[stored_text(run.id)], wanted)]

    def queued_runs(self) -> list[RunRow]:
        """Return the runs whose status is ``Queued``, oldest first."""
        rows = self._database.rows(f"{RUNS.select} WHERE status = 'Queued' ORDER BY seq")
        return [RUNS.row(row) for row in rows]

    def update_run(self, run_id: str, **columns: Any) -> bool:
        """Change fields of a run.

        A final status stays: an update that gives another one is refused as a whole. So is one that would take a
        run back from ``CancelRequested`` to an earlier state.

        Args:
            run_id: the run.
            **columns: fields of :class:`RunRow` and their new values.

        Returns:
            whether it was changed.

        Raises:
            NotFoundError: if there is no such run.
            ValueError: for a name that is not a field.
        """
        sql = f"UPDATE runs SET {RUNS.assignments(list(columns))} WHERE id = ?"
        parameters = [*RUNS.changed(columns), stored_text(run_id)]
        if "status" in columns:
            status = columns["status"]
            blocking = _BLOCKING if status in _AFTER_CANCEL else f"{_BLOCKING}, 'CancelRequested'"
            sql += f" AND (status NOT IN ({blocking}) OR status = ?)"
            parameters.append(status)
        with self._database.transaction() as session:
            changed = session.run(sql, parameters) > 0
        if not changed:
            self.get_run(run_id)
        return changed

    def request_stop(self, run_id: str, by: str, reason: str) -> bool:
        """Ask a run to end before its time. The first request stands; a run that has ended takes none.

        Args:
            run_id: the run.
            by: ``cancel`` (which sets its status to ``CancelRequested``) or ``failure``.
            reason: what to tell people.

        Returns:
            whether this request is the one that stands.

        Raises:
            NotFoundError: if there is no such run.
        """
        if by not in ("cancel", "failure"):
            raise ValueError(f"by={by!r}; allowed are 'cancel' and 'failure'")
        key = stored_text(run_id)
        with self._database.transaction() as session:
            session.lock(f"run {key}")
            row = session.row("SELECT status FROM runs WHERE id = ?", (key,))
            if row is None:
                raise NotFoundError(f"there is no run '{run_id}' in this workspace")
            if row[0] in FINAL_RUN_STATUSES:
                return False
            won = session.run(
                "INSERT INTO stops (run_id, stopped_by, reason, stopped_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (run_id) DO NOTHING",
                (key, by, stored_text(reason), stored_time(self._now())),
            )
            if won and by == "cancel":
                session.run(
                    f"UPDATE runs SET status = 'CancelRequested' WHERE id = ? AND status NOT IN ({_BLOCKING})", (key,)
                )
        return won > 0

    def stop_of(self, run_id: str) -> Stop | None:
        """Return the request to stop that stands for a run, or None. One read by key: meant to be polled."""
        row = self._database.row(f"{STOPS.select} WHERE run_id = ?", (stored_text(run_id),))
        return None if row is None else STOPS.row(row)
