"""What is done to a dataset when it is read: frozen, in order, part of its definition and of its identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.expression import check, names_in
from airflow_mlpipe.model.nearest import nearest


class Take(Frozen):
    """Keep the first rows (or files).

    Attributes:
        kind: ``take``.
        count: how many.
    """

    kind: Literal["take"]
    count: int = Field(ge=0)


class Skip(Frozen):
    """Leave the first rows (or files) out.

    Attributes:
        kind: ``skip``.
        count: how many.
    """

    kind: Literal["skip"]
    count: int = Field(ge=0)


class Sample(Frozen):
    """Keep each row (or file) with a probability, or those that :class:`Sample` of the same seed does not keep.

    Attributes:
        kind: ``sample``.
        probability: from 0 to 1.
        seed: of the random numbers, one for each row in order.
        rest: whether the others are kept; a random split is a sample and its rest.
    """

    kind: Literal["sample"]
    probability: float = Field(ge=0, le=1)
    seed: int
    rest: bool = False


class Filter(Frozen):
    """Keep the rows (or files) for which a condition is true.

    Attributes:
        kind: ``filter``.
        expression: see :mod:`airflow_mlpipe.model.expression`.
    """

    kind: Literal["filter"]
    expression: JsonValue

    @field_validator("expression")
    @classmethod
    def _is_one(cls, value: JsonValue) -> JsonValue:
        return check(value)


class KeepColumns(Frozen):
    """Keep these columns, in this order.

    Attributes:
        kind: ``keep``.
        columns: their names.
    """

    kind: Literal["keep"]
    columns: tuple[str, ...]


class DropColumns(Frozen):
    """Leave these columns out.

    Attributes:
        kind: ``drop``.
        columns: their names.
    """

    kind: Literal["drop"]
    columns: tuple[str, ...]


class Timestamps(Frozen):
    """Say which columns hold the time of a row. Rows stay as they are.

    Attributes:
        kind: ``timestamps``.
        fine: column with the time of each row, or None.
        coarse: column with the day, or the like, of each row's file, or None.
    """

    kind: Literal["timestamps"]
    fine: str | None = None
    coarse: str | None = None


class Window(Frozen):
    """Keep the rows of a span of time.

    Attributes:
        kind: ``window``.
        column: the column of times; those without a zone are in UTC.
        start: ISO 8601 with a zone, or None for no limit.
        end: likewise.
        include_boundary: whether rows at `start` and at `end` belong to it.
    """

    kind: Literal["window"]
    column: str
    start: str | None = None
    end: str | None = None
    include_boundary: bool = True


Operation = Annotated[
    Take | Skip | Sample | Filter | KeepColumns | DropColumns | Timestamps | Window, Field(discriminator="kind")
]

FILE_OPERATIONS = frozenset({"take", "skip", "sample", "filter"})
"""Kinds of operations that a dataset of files may have."""


def columns_read(operation: Operation) -> Iterator[str]:
    """Yield the columns that an operation needs to exist."""
    if isinstance(operation, (KeepColumns, DropColumns)):
        yield from operation.columns
    elif isinstance(operation, Filter):
        yield from names_in(operation.expression)
    elif isinstance(operation, Timestamps):
        yield from (name for name in (operation.fine, operation.coarse) if name is not None)
    elif isinstance(operation, Window):
        yield operation.column


def declared_columns(operations: Sequence[Operation]) -> tuple[str, ...] | None:
    """Return the columns that are left after `operations`, or None where only the data can tell.

    Raises:
        ParameterError: if an operation speaks of a column that an earlier one has taken away.
    """
    kept: list[str] | None = None
    dropped: set[str] = set()
    for operation in operations:
        for name in columns_read(operation):
            if name in dropped or (kept is not None and name not in kept):
                left = "" if kept is None else f"; there are: {', '.join(kept)}{nearest(name, kept)}"
                raise ParameterError(
                    f"column '{name}' is not there: an earlier keep_columns or drop_columns has taken it away{left}"
                )
        if isinstance(operation, KeepColumns):
            kept = list(operation.columns)
        elif isinstance(operation, DropColumns):
            dropped.update(operation.columns)
            kept = None if kept is None else [name for name in kept if name not in dropped]
    return None if kept is None else tuple(kept)


def columns_needed(operations: Sequence[Operation]) -> tuple[str, ...] | None:
    """Return the columns that have to be read for `operations`, or None for all."""
    needed: dict[str, None] = {}
    for operation in operations:
        if isinstance(operation, DropColumns):
            continue
        needed.update(dict.fromkeys(columns_read(operation)))
        if isinstance(operation, KeepColumns):
            return tuple(needed)
    return None


def rows_needed(operations: Sequence[Operation]) -> int | None:
    """Return how many rows have to be read for `operations`, or None for all."""
    skipped = 0
    for operation in operations:
        if isinstance(operation, Take):
            return skipped + operation.count
        if isinstance(operation, Skip):
            skipped += operation.count
        elif isinstance(operation, (Sample, Filter, Window)):
            return None
    return None
