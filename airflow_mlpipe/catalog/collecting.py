"""What the garbage collector asks of the catalog, and what it takes away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_mlpipe.catalog.columns import loaded_text, stored_text, stored_time
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.pins import LOCK
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, FINAL_STEP_STATUSES

_RUN_ENDED = ", ".join(f"'{status}'" for status in sorted(FINAL_RUN_STATUSES))
_STEP_ENDED = ", ".join(f"'{status}'" for status in sorted(FINAL_STEP_STATUSES))
_DIGEST = re.compile(r"b3:[0-9a-f]{64}")
_OWN_PATH = re.compile(r'"path":\s?"(?:azureml|dataset)(?:"|/([^"/]*))')
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far the catalog had come when the collector began: what came later is not known to it."""

    run_seq: int
    result_seq: int


@dataclass(frozen=True, slots=True)
class AttemptState:
    """How a step run stands.

    Attributes:
        run_id: its run.
        ended: whether the run and the step have ended.
        completed: whether the step is completed.
        result_id: the result it made or took, or None.
        used_at: when its run was submitted.
        holds: whether the run has not ended, so that it may still need the result.
    """

    run_id: str
    ended: bool
    completed: bool
    result_id: str | None
    used_at: datetime
    holds: bool


@dataclass(frozen=True, slots=True)
class Doomed:
    """A place that is to be collected.

    Attributes:
        results: ids of the results that lie in it.
        sound: whether they are collected although they are in no doubt.
        reason: why, for people who ask for them later.
    """

    results: tuple[str, ...]
    sound: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Named:
    """Places that registered datasets and the pipelines of runs read by their path.

    Attributes:
        step_run_ids: those that are named.
        everything: whether a pattern or a whole folder is named, so that any place may be meant.
    """

    step_run_ids: frozenset[str]
    everything: bool


class CollectPart(Part):
    """Reads what refers to what; records what is collected."""

    def horizon(self) -> Horizon:
        """Return how far the catalog has come. To be asked first."""
        with self._database.transaction() as session:
            # Whoever is about to add a row is waited for: numbers are given before they are seen.
            session.lock(LOCK)
            runs = session.rows("SELECT coalesce(max(seq), 0) FROM runs")
            results = session.rows("SELECT coalesce(max(seq), 0) FROM results")
        return Horizon(int(runs[0][0]), int(results[0][0]))

    def attempts(self) -> dict[str, AttemptState]:
        """Return how every step run stands, by its id."""
        rows = self._database.rows(
            "SELECT s.step_run_id, s.run_id, s.status, s.result_id, r.status, r.created_at"
            " FROM steps AS s JOIN runs AS r ON r.id = s.run_id"
        )
        return {
            loaded_text(step_run_id): AttemptState(
                run_id=loaded_text(run_id),
                ended=run_status in FINAL_RUN_STATUSES and status in FINAL_STEP_STATUSES,
                completed=status == "completed",
                result_id=result_id,
                used_at=datetime.fromisoformat(created_at),
                holds=run_status not in FINAL_RUN_STATUSES,
            )
            for step_run_id, run_id, status, result_id, run_status, created_at in rows
        }

    def needed_digests(self) -> set[str]:
        """Return every digest that a result in no doubt, an unfinished run, a pipeline or a dataset names."""
        found: set[str] = set()
        for text in self._referring():
            found.update(_DIGEST.findall(text))
        return found

    def _referring(self) -> Iterator[str]:
        for sql in (
            "SELECT body FROM results WHERE doubtful IS NULL",
            "SELECT body FROM specs",
            "SELECT digest FROM datasets",
            "SELECT s.components FROM runs AS r JOIN steps AS s ON s.run_id = r.id"
            f" WHERE s.components IS NOT NULL AND r.status NOT IN ({_RUN_ENDED})",
        ):
            yield from (loaded_text(text) for (text,) in self._database.rows(sql))

    def named_places(self) -> Named:
        """Return the places that somebody reads by their path."""
        texts = [loaded_text(row[0]) for row in self._database.rows("SELECT spec FROM datasets")]
        texts += [loaded_text(row[0]) for row in self._database.rows("SELECT body FROM specs")]
        names = {name for text in texts for name in _OWN_PATH.findall(text)}
        return Named(frozenset(names), any(not name or _WILD.search(name) for name in names))

    def collect(self, doomed: Mapping[str, Doomed], seen: Horizon) -> set[str]:
        """Record that places are collected, unless something has come to need them. Their bytes are removed after it.

        Args:
            doomed: by step run id.
            seen: from :meth:`horizon`, before anything was looked at.

        Returns:
            the step runs whose places may be removed. No run can take a result of theirs any more, and they cannot
            commit one.
        """
        now = stored_time(self._now())
        keys = {stored_text(step_run_id): step_run_id for step_run_id in doomed}
        wanted = {stored_text(result_id) for each in doomed.values() for result_id in each.results}
        with self._database.transaction() as session:
            session.lock(LOCK)
            ended = session.rows(
                "SELECT s.step_run_id FROM {each} CROSS JOIN steps AS s JOIN runs AS r ON r.id = s.run_id"
                f" WHERE s.step_run_id = k.value AND s.status IN ({_STEP_ENDED}) AND r.status IN ({_RUN_ENDED})",
                (session.each(keys),),
            )
            pinned = session.rows(
                "SELECT s.result_id FROM runs AS r JOIN steps AS s ON s.run_id = r.id"
                f" WHERE s.result_id IS NOT NULL AND (r.status NOT IN ({_RUN_ENDED}) OR r.seq > ?)",
                (seen.run_seq,),
            )
            new = session.rows("SELECT step_run_id FROM results WHERE seq > ?", (seen.result_seq,))
            sound = session.rows(
                "SELECT r.step_run_id FROM {each} CROSS JOIN results AS r WHERE r.id = k.value AND r.doubtful IS NULL",
                (session.each(wanted),),
            )
            held, fresh, good = ({row[0] for row in rows} for rows in (pinned, new, sound))
            taken = [
                keys[key]
                for (key,) in ended
                if key not in fresh
                and (doomed[keys[key]].sound or key not in good)
                and not any(stored_text(result_id) in held for result_id in doomed[keys[key]].results)
            ]
            session.run_many(
                "INSERT INTO collected (step_run_id, collected_at) VALUES (?, ?) ON CONFLICT (step_run_id) DO NOTHING",
                [(stored_text(step_run_id), now) for step_run_id in taken],
            )
            session.run_many(
                "UPDATE results SET doubtful = ? WHERE id = ? AND doubtful IS NULL",
                [
                    (stored_text(doomed[step_run_id].reason), stored_text(result_id))
                    for step_run_id in taken
                    for result_id in doomed[step_run_id].results
                ],
            )
        return set(taken)

    def ended_leases(self, *, drop: bool) -> int:
        """Return how many leases are of steps that have ended or are no more; with `drop`, take them away."""
        of_nobody = (
            "FROM leases WHERE NOT EXISTS (SELECT 1 FROM steps AS s"
            f" WHERE s.step_run_id = leases.step_run_id AND s.status NOT IN ({_STEP_ENDED}))"
        )
        with self._database.transaction() as session:
            if drop:
                return session.run(f"DELETE {of_nobody}")
            return int(session.rows(f"SELECT count(*) {of_nobody}")[0][0])
