"""Leases: who computes a result right now, so that nobody else computes the same.

A lease saves work; it guards nothing. Results are only ever added, and each run keeps the ones it took, so two holders
at once, after a mistaken takeover, cost a second computation and never a wrong result.

Clocks of different machines, and the clock of one machine before and after it slept or was set, are not compared. A
lease that looks overdue is only marked; it may be taken over when half its time has passed since, by the clock of
those who wait, and its holder has given no sign of life in between. Each sign of life takes the mark away.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from airflow_mlpipe.catalog.columns import PLAIN, TEXT, TIME, RowMap, stored_text, stored_time
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.catalog.part import Part
from airflow_mlpipe.catalog.rows import FINAL_STEP_STATUSES, Lease, StepRow
from airflow_mlpipe.model.digest import Digest

LEASES = RowMap(
    Lease,
    "leases",
    {
        "fingerprint": PLAIN,
        "run_id": TEXT,
        "step_run_id": TEXT,
        "token": PLAIN,
        "acquired_at": TIME,
        "heartbeat_at": TIME,
        "expires_at": TIME,
        "doubted_at": TIME,
    },
)

_WAITING = "waiting for step "

_ENDED = ", ".join(f"'{status}'" for status in sorted(FINAL_STEP_STATUSES))
# A step that has ended, or is no more, holds nothing, whatever became of the process that was to release its lease.
_HELD = (
    f"SELECT {', '.join(f'l.{name}' for name in LEASES.names.split(', '))} FROM {{each}} CROSS JOIN leases AS l"
    f" WHERE l.fingerprint = k.value AND EXISTS"
    f" (SELECT 1 FROM steps AS s WHERE s.step_run_id = l.step_run_id AND s.status NOT IN ({_ENDED}))"
)


class LeasePart(Part):
    """Leases on fingerprints."""

    def acquire_lease(self, fingerprint: Digest, run_id: str, step_run_id: str, ttl_s: float) -> str | Lease:
        """Take the right to compute a result, unless another step has it.

        A step's own earlier lease is taken over at once: it is of a try that was given up.

        Args:
            fingerprint: key of the result.
            run_id: the run that asks.
            step_run_id: its step that asks.
            ttl_s: for how long, in seconds, unless it is renewed.

        Returns:
            the token of the new lease, or the lease of whoever else holds it.
        """
        with self._database.transaction() as session:
            session.lock(f"lease {fingerprint}")
            for lease in self._held(session, [fingerprint]):
                if lease.step_run_id != step_run_id:
                    return lease
            now = self._now()
            mine = Lease(
                fingerprint=fingerprint,
                run_id=run_id,
                step_run_id=step_run_id,
                token=str(uuid.uuid4()),
                acquired_at=now,
                heartbeat_at=now,
                expires_at=now + timedelta(seconds=ttl_s),
            )
            session.run("DELETE FROM leases WHERE fingerprint = ?", (fingerprint,))
            session.run(LEASES.insert, LEASES.values(mine))
        return mine.token

    def renew_lease(self, token: str, ttl_s: float) -> bool:
        """Give a sign of life. An overdue lease that nobody has taken over is good again.

        Args:
            token: from :meth:`acquire_lease`.
            ttl_s: for how long from now, in seconds.

        Returns:
            whether the lease is still the caller's.
        """
        now = self._now()
        with self._database.transaction() as session:
            changed = session.run(
                "UPDATE leases SET heartbeat_at = ?, expires_at = ?, doubted_at = NULL WHERE token = ?",
                (stored_time(now), stored_time(now + timedelta(seconds=ttl_s)), token),
            )
        return changed > 0

    def release_lease(self, token: str) -> bool:
        """Give the lease back; that of somebody who took it over is left alone.

        Returns:
            whether it was still the caller's.
        """
        with self._database.transaction() as session:
            return session.run("DELETE FROM leases WHERE token = ?", (token,)) > 0

    def drop_leases(self, holder_id: str) -> None:
        """Take away what a step run, or a whole run, holds whose processes are known to be dead."""
        holder = stored_text(holder_id)
        with self._database.transaction() as session:
            session.run("DELETE FROM leases WHERE step_run_id = ? OR run_id = ?", (holder, holder))

    def held_leases(self, fingerprints: Collection[Digest]) -> dict[Digest, Lease]:
        """Return the leases on these keys that nobody may take over now. Meant to be polled: one query."""
        if not fingerprints:
            return {}
        return {lease.fingerprint: lease for lease in self._held(self._database.session(), fingerprints)}

    def _held(self, session: Session, fingerprints: Collection[Digest]) -> list[Lease]:
        rows = session.rows(_HELD, (session.each(fingerprints),))
        now = self._now()
        return [lease for lease in map(LEASES.row, rows) if not self._given_up(session, lease, now)]

    def _given_up(self, session: Session, lease: Lease, now: datetime) -> bool:
        """Tell whether the holder has shown no sign of life for so long that it is taken for dead."""
        # A beat from the future tells of a clock that was set, and says nothing of when it was.
        if lease.heartbeat_at <= now < lease.expires_at:
            return False
        if lease.doubted_at is not None and lease.doubted_at <= now:
            return now >= lease.doubted_at + (lease.expires_at - lease.heartbeat_at) / 2
        session.run(
            "UPDATE leases SET doubted_at = ? WHERE token = ? AND heartbeat_at = ?",
            (stored_time(now), lease.token, stored_time(lease.heartbeat_at)),
        )
        return False


def waiting_reason(step: StepRow) -> str:
    """Return the reason of a step that waits for `step` of another run, or of its own, to compute the same."""
    return f"{_WAITING}'{step.name}' of run {step.run_id[:8]} to compute the same"


def is_waiting(row: StepRow) -> bool:
    """Whether the step waits for another one to compute the same."""
    return row.status == "not_started" and row.reason.startswith(_WAITING)
