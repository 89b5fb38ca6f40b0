"""From the text of a column to values of the type that it was given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.sdk.column_types import DataType

if TYPE_CHECKING:
    import pyarrow

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_FIRST, _LAST = datetime(1677, 9, 22), datetime(2262, 4, 11)
"""What pandas' nanoseconds can say, whole days."""


@dataclass(frozen=True, slots=True)
class OnError:
    """What becomes of values that do not fit.

    Attributes:
        fail: whether a value that has not the type its column was given is an error; else it is missing.
        fail_dates: the same for moments outside of the years 1677 to 2262.
    """

    fail: bool = False
    fail_dates: bool = False

    @staticmethod
    def of(on_error: object, out_of_range_datetime: object) -> OnError:
        """Return what v1's two words say.

        Raises:
            ParameterError: for another word than ``null`` and ``fail``.
        """
        for name, word in (("on_error", on_error), ("out_of_range_datetime", out_of_range_datetime)):
            if word not in ("null", "fail"):
                raise ParameterError(
                    f"to_pandas_dataframe: {name}={word!r} is not allowed; allowed are 'null' and 'fail'"
                )
        return OnError(on_error == "fail", out_of_range_datetime == "fail")


def typed(column: pyarrow.ChunkedArray, kind: DataType, where: str, rule: OnError) -> pyarrow.ChunkedArray:
    """Return a column as the type it was given.

    Args:
        column: text, or what a file that has types holds.
        kind: the type.
        where: the file and the column, for errors.
        rule: what becomes of values that do not fit.

    Raises:
        ParameterError: for a value that does not fit, if `rule` says so; it names the row, from 1 without the header.
    """
    import pyarrow
    import pyarrow.compute as compute

    if not pyarrow.types.is_string(column.type) and not pyarrow.types.is_large_string(column.type):
        if kind.kind == "datetime" and pyarrow.types.is_temporal(column.type):
            return in_range(column.cast(pyarrow.timestamp("us", getattr(column.type, "tz", None))), where, rule)
        if pyarrow.types.is_nested(column.type) or pyarrow.types.is_binary(column.type):
            raise ParameterError(
                f"{where}: a {column.type} cannot become a {kind.kind}; leave it out of set_column_types"
            )
        column = _as_text(column)
    if kind.kind == "string":
        return column
    bare = compute.utf8_trim_whitespace(column)
    bare = compute.if_else(compute.equal(bare, ""), None, bare)
    converted = _converted(bare, kind)
    wrong = compute.and_(compute.is_null(converted), compute.is_valid(bare))
    if rule.fail and compute.any(wrong).as_py():
        row = compute.index(wrong, True).as_py()
        raise ParameterError(
            f"{where}, row {row + 1}: {column[row].as_py()!r} is not a {kind.kind}; give the column another type in "
            "set_column_types, or read with on_error='null'"
        )
    if kind.kind == "datetime":
        return in_range(converted, where, rule)
    return converted


def in_range(column: pyarrow.ChunkedArray, where: str, rule: OnError) -> pyarrow.ChunkedArray:
    """Return a column of moments in nanoseconds, as v1's frames had it, without those that these cannot say.

    Errors: see :func:`typed`.
    """
    import pyarrow

    return _within_range(column, where, rule).cast(pyarrow.timestamp("ns", column.type.tz))


def _within_range(column: pyarrow.ChunkedArray, where: str, rule: OnError) -> pyarrow.ChunkedArray:
    import pyarrow
    import pyarrow.compute as compute

    if column.null_count == len(column):
        return column
    kind = pyarrow.timestamp("s", column.type.tz)
    bounds = [pyarrow.scalar(moment, pyarrow.timestamp("s")).cast(kind) for moment in (_FIRST, _LAST)]
    seconds = column.cast(kind, safe=False)
    span = compute.min_max(seconds)
    if span["min"].as_py() is None or (
        compute.greater_equal(span["min"], bounds[0]).as_py() and compute.less_equal(span["max"], bounds[1]).as_py()
    ):
        return column
    far = compute.or_(compute.less(seconds, bounds[0]), compute.greater(seconds, bounds[1]))
    if rule.fail_dates:
        row = compute.index(far, True).as_py()
        raise ParameterError(
            f"{where}, row {row + 1}: {column[row]} is out of pandas' range, 1677 to 2262; read with "
            "out_of_range_datetime='null', or the column as string"
        )
    return compute.if_else(far, None, column)


def _as_text(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    import pyarrow

    if pyarrow.types.is_floating(column.type):
        # 3.0 is the 3 that a table without missing values would have.
        texts = [
            None if v is None or v != v else str(int(v)) if v.is_integer() else repr(v) for v in column.to_pylist()
        ]
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])
    return column.cast(pyarrow.string())


def _converted(column: pyarrow.ChunkedArray, kind: DataType) -> pyarrow.ChunkedArray:
    import pyarrow
    import pyarrow.compute as compute

    if kind.kind == "bool":
        lower = compute.utf8_lower(column)
        yes, no = (pyarrow.array([t for t, v in _BOOLEANS.items() if v is value]) for value in (True, False))
        known = compute.if_else(compute.is_in(lower, no), False, None)
        return compute.if_else(compute.is_in(lower, yes), True, known)
    if kind.kind == "datetime":
        return _moments(column, kind.formats)
    if kind.kind == "float" and kind.formats:
        column = compute.replace_substring(compute.replace_substring(column, ".", ""), kind.formats[0], ".")
    target = pyarrow.int64() if kind.kind == "long" else pyarrow.float64()
    try:
        return column.cast(target)
    except pyarrow.ArrowInvalid:
        # One by one: some of them are no numbers.
        number = _long if kind.kind == "long" else _float
        return pyarrow.chunked_array([pyarrow.array([number(text) for text in column.to_pylist()], target)])


def _long(text: str | None) -> int | None:
    with suppress(ValueError, TypeError, OverflowError):
        value = int(text)  # type: ignore[arg-type]
        return value if -(2**63) <= value < 2**63 else None
    number = _float(text)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else None


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _moments(column: pyarrow.ChunkedArray, formats: Sequence[str]) -> pyarrow.ChunkedArray:
    import pandas
    import pyarrow

    if not formats:
        with suppress(pyarrow.ArrowInvalid):
            return column.cast(pyarrow.timestamp("us"))
    texts = pandas.Series(column.to_pylist(), dtype="object")
    found: Any = None
    for each in formats or ["mixed"]:
        try:
            parsed = pandas.to_datetime(texts, errors="coerce", format=each)
        except ValueError:
            # Several zones in one column.
            parsed = pandas.to_datetime(texts, errors="coerce", format=each, utc=True)
        found = parsed if found is None else found.fillna(parsed)
    return pyarrow.chunked_array([_exact(texts, found, formats)])


def _exact(texts: Any, found: Any, formats: Sequence[str]) -> pyarrow.Array:
    """Return parsed moments in microseconds, with those that pandas' nanoseconds could not hold."""
    import pyarrow

    zone = getattr(found.dtype, "tz", None)
    kind = pyarrow.timestamp("us", None if zone is None else str(zone))
    array = pyarrow.array(found).cast(kind, safe=False)
    if zone is not None or not formats:
        return array
    values = array.to_pylist() if (found.isna() & texts.notna()).any() else None
    if values is None:
        return array
    return pyarrow.array(
        [_python_moment(text, formats) if value is None else value for value, text in zip(values, texts, strict=True)],
        kind,
    )


def _python_moment(text: object, formats: Sequence[str]) -> datetime | None:
    for each in formats:
        with suppress(ValueError, TypeError):
            return datetime.strptime(text, each).replace(tzinfo=None)  # type: ignore[arg-type]
    return None
