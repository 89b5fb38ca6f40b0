"""What the parts of the catalog share: the database, the clock, and how an absent name is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from airflow_mlpipe.catalog.columns import stored_text
from airflow_mlpipe.catalog.connection import Database, Session
from airflow_mlpipe.errors import NotFoundError, ParameterError

_SHOWN = 10


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


class Part:
    """A set of the catalog's methods.

    Args:
        database: where the rows are.
        now: the clock; gives aware times.
    """

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now


def counted(session: Session, counter: str) -> int:
    """Return the next number of a counter, from 1, which nobody else gets.

    It is given back if the transaction is undone.
    """
    rows = session.rows(
        "INSERT INTO counters (name, value) VALUES (?, 1)"
        " ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
        (stored_text(counter),),
    )
    return int(rows[0][0])


def absent(kind: str, name: str, known: Iterable[str]) -> NotFoundError:
    """Return the error for a name that is not registered."""
    names = sorted(known)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return NotFoundError(f"{kind} '{name}' is not registered in this workspace; registered: {shown or 'none'}")


def has_tags(tags: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Tell whether `tags` has every wanted one; None stands for any value."""
    return all(name in tags and value in (None, tags[name]) for name, value in wanted.items())


def version_number(kind: str, name: str, version: int | str | None) -> int | None:
    """Return the number that a version given by a user stands for, or None for the latest.

    Raises:
        ParameterError: if it is neither a number nor ``latest``.
    """
    if version is None or version == "latest":
        return None
    try:
        return int(version)
    except ValueError:
        raise ParameterError(
            f"{kind} '{name}': version {version!r} is not a version; give a number or 'latest'"
        ) from None
