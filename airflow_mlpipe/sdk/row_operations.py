"""Operations of a tabular dataset, done to an Arrow table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.expression import COMPARISONS, TEXT_TESTS, names_in, text_of
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.operation import (
    DropColumns,
    Filter,
    KeepColumns,
    Operation,
    Sample,
    Skip,
    Take,
    Window,
    columns_read,
)

if TYPE_CHECKING:
    import pyarrow

_COMPUTE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_TESTS = {"starts_with": "starts_with", "ends_with": "ends_with", "contains": "match_substring"}


def operated(table: pyarrow.Table, operations: Sequence[Operation], label: str) -> pyarrow.Table:
    """Return `table` after `operations`.

    Args:
        table: the rows as they were read.
        operations: in order.
        label: what the dataset is called in errors.

    Raises:
        ParameterError: if a column does not exist, or values cannot be compared.
    """
    for operation in operations:
        for name in columns_read(operation):
            check_column(name, table.column_names, label)
        table = _apply(operation, table, label)
    return table


def check_column(name: str, names: Sequence[str], label: str) -> None:
    """Refuse a column that does not exist.

    Raises:
        ParameterError: if `name` is none of `names`.
    """
    if name not in names:
        there = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise ParameterError(f"{label} has no column '{name}'{nearest(name, names)}; it has: {there or 'none'}")


def _apply(operation: Operation, table: pyarrow.Table, label: str) -> pyarrow.Table:
    if isinstance(operation, Take):
        return table.slice(0, operation.count)
    if isinstance(operation, Skip):
        return table.slice(operation.count)
    if isinstance(operation, Sample):
        return table.filter(_drawn(operation, table.num_rows))
    if isinstance(operation, KeepColumns):
        return table.select(list(operation.columns))
    if isinstance(operation, DropColumns):
        return table.drop_columns(list(operation.columns))
    if isinstance(operation, Filter):
        return table.filter(_mask(operation.expression, table, label))
    if isinstance(operation, Window):
        return table.filter(_within(operation, table, label))
    return table


def _drawn(operation: Sample, rows: int) -> pyarrow.Array:
    """Return for each row whether it is kept."""
    import numpy
    import pyarrow

    # The raw numbers of a bit generator never change between releases of numpy, those of a distribution may.
    random = (numpy.random.PCG64(operation.seed).random_raw(rows) >> numpy.uint64(11)) * 2.0**-53
    kept = random < operation.probability
    return pyarrow.array(~kept if operation.rest else kept)


def _within(operation: Window, table: pyarrow.Table, label: str) -> pyarrow.ChunkedArray:
    column = ["column", operation.column]
    equal = "e" if operation.include_boundary else "t"
    parts = []
    if operation.start is not None:
        parts.append([f"g{equal}", column, ["moment", operation.start]])
    if operation.end is not None:
        parts.append([f"l{equal}", column, ["moment", operation.end]])
    return _mask(parts[0] if len(parts) == 1 else ["and", *parts], table, label)


def _mask(expression: JsonValue, table: pyarrow.Table, label: str) -> Any:
    import pyarrow

    try:
        answer = _evaluated(expression, table)
        if isinstance(answer, pyarrow.Scalar):
            answer = pyarrow.chunked_array([pyarrow.array([answer.as_py()] * table.num_rows, pyarrow.bool_())])
        if not pyarrow.types.is_boolean(answer.type):
            raise ParameterError(
                f"{label}: filter({text_of(expression)}) is no condition; compare it, e.g. with == or >"
            )
        return answer
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError) as error:
        names = dict.fromkeys(names_in(expression))
        types = ", ".join(f"'{name}' holds {table.schema.field(name).type}" for name in names)
        raise ParameterError(
            f"{label}: filter({text_of(expression)}) does not fit the data: {types}; give the column another type with "
            "set_column_types, or compare with a value of its type"
        ) from error


def _evaluated(expression: JsonValue, table: pyarrow.Table) -> Any:
    import pyarrow
    import pyarrow.compute as compute

    match expression:
        case ["column", name]:
            return table.column(name)
        case ["value", value]:
            return pyarrow.scalar(value)
        case ["moment", text]:
            return datetime.fromisoformat(text)
        case ["is_null", operand]:
            return compute.is_null(_evaluated(operand, table), nan_is_null=True)
        case ["not", operand]:
            return compute.invert(_evaluated(operand, table))
        case ["and" | "or" as name, left, right]:
            joined = compute.and_kleene if name == "and" else compute.or_kleene
            return joined(_evaluated(left, table), _evaluated(right, table))
        case ["in", operand, values]:
            column = _evaluated(operand, table)
            return compute.if_else(
                compute.is_null(column), None, compute.is_in(column, pyarrow.array(values, column.type))
            )
        case [name, operand, text] if name in TEXT_TESTS:
            return getattr(compute, _TESTS[name])(_evaluated(operand, table), text)
    name, left, right = expression
    assert name in COMPARISONS
    one, other = _comparable(_evaluated(left, table), _evaluated(right, table))
    return getattr(compute, _COMPUTE[name])(one, other)


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Bring moments to one kind: columns without a zone are in UTC."""
    import pyarrow

    if isinstance(left, datetime) and isinstance(right, datetime):
        return pyarrow.scalar(left), pyarrow.scalar(right)
    if isinstance(left, datetime):
        right, left = _comparable(right, left)
        return left, right
    if isinstance(right, datetime):
        if pyarrow.types.is_date(left.type):
            left = left.cast(pyarrow.timestamp("us"))
        if not pyarrow.types.is_timestamp(left.type):
            raise pyarrow.ArrowInvalid("no moments")
        bare = right.replace(tzinfo=None)
        kind = pyarrow.timestamp("us", left.type.tz)
        return left.cast(kind, safe=False), pyarrow.scalar(bare, pyarrow.timestamp("us")).cast(kind)
    return left, right
