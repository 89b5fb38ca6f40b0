"""Results that runs rely on, and places that are collected: who takes the one sees the other.

A run that takes a result, a step that starts or commits, and the garbage collector decide in transactions that exclude
each other: the collector alone, the others side by side. So a result is either pinned before the collector looks, and
stays, or it is refused, and whoever wanted it computes. Rows of collected results stay, for history and comparison;
they are doubtful.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_mlpipe.catalog.columns import stored_text
from airflow_mlpipe.catalog.connection import Session
from airflow_mlpipe.errors import ResultGoneError, StorageError

LOCK = "pins and collected places"


def check_pins(session: Session, result_ids: Iterable[str | None]) -> None:
    """Make sure, until the transaction ends, that these results may be taken.

    Raises:
        ResultGoneError: if one is doubtful or collected by now, or gone.
    """
    wanted = {stored_text(result_id) for result_id in result_ids if result_id is not None}
    if not wanted:
        return
    session.share(LOCK)
    found = session.rows(
        "SELECT r.id FROM {each} CROSS JOIN results AS r WHERE r.id = k.value AND r.doubtful IS NULL",
        (session.each(wanted),),
    )
    if len(found) < len(wanted):
        lost = sorted(wanted - {row[0] for row in found})
        raise ResultGoneError(
            f"{len(lost)} of {len(wanted)} results that were to be reused are not there any more, the first is"
            f" {lost[0]}; plan again"
        )


def check_place(session: Session, step_run_id: str, name: str) -> None:
    """Make sure, until the transaction ends, that what a step run writes is not collected.

    Raises:
        StorageError: if it was: nothing that it has written counts.
    """
    session.share(LOCK)
    row = session.row("SELECT collected_at FROM collected WHERE step_run_id = ?", (stored_text(step_run_id),))
    if row is not None:
        raise StorageError(
            f"step '{name}' cannot be completed: its run had ended, and what it had written was collected as garbage"
            f" at {row[0]}; submit the pipeline again"
        )
