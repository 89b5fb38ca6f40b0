"""From the rows that a database answers with to an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.sdk.delimited import unique

if TYPE_CHECKING:
    import pyarrow


def table_of(batches: Iterable[tuple[Sequence[str], list[tuple[Any, ...]]]]) -> pyarrow.Table:
    """Return the rows of `batches`, each with the names of the columns, as one table.

    Decimal numbers become floats, as data frames have them; what Arrow does not know becomes text.
    """
    import pyarrow

    tables: list[pyarrow.Table] = []
    for names, rows in batches:
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
        tables.append(pyarrow.table({n: _column(c) for n, c in zip(unique(names), columns, strict=True)}))
    return pyarrow.concat_tables(tables, promote_options="permissive")


def _column(values: Sequence[Any]) -> pyarrow.Array:
    import pyarrow

    if any(isinstance(value, Decimal) for value in values):
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([_text(value) for value in values])


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)
