"""How the values of a row are written into columns, in forms that SQLite and PostgreSQL both keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from airflow_mlpipe.model.digest import JsonValue

T = TypeVar("T")

_ESCAPED = "\x01"


def stored_text(text: str) -> str:
    """Return `text` in a form any database keeps; equal texts give equal forms, so it can be looked up.

    Names that are not UTF-8 (lone surrogates, PEP 383) and NUL characters are escaped.
    """
    if text.isascii():
        if "\0" not in text and not text.startswith(_ESCAPED):
            return text
    elif "\0" not in text and not text.startswith(_ESCAPED):
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _ESCAPED + json.dumps(text)


def loaded_text(stored: str) -> str:
    """Return the text that :func:`stored_text` was given."""
    return str(json.loads(stored[1:])) if stored.startswith(_ESCAPED) else stored


def stored_json(value: JsonValue) -> str:
    """Return `value` as JSON text in ASCII, in which lone surrogates survive. NaN and infinities are kept."""
    return json.dumps(value, separators=(",", ":"), default=_jsonable)


def stored_time(time: datetime) -> str:
    """Return an aware time as ISO text in UTC with microseconds, which sorts as time does.

    Raises:
        ValueError: if `time` is naive.
    """
    if time.tzinfo is None:
        raise ValueError(f"time {time!r} is naive; the catalog keeps aware times only")
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _jsonable(value: object) -> str:
    if isinstance(value, datetime):
        return stored_time(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type")


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of value is written and read. None is NULL in all of them."""

    store: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None


PLAIN = Codec()
"""Digests, our own words and numbers: as they are."""
TEXT = Codec(stored_text, loaded_text)
"""Anything a user named or wrote."""
JSON = Codec(stored_json, json.loads)
TIME = Codec(stored_time, datetime.fromisoformat)
FLAG = Codec(int, bool)


class RowMap(Generic[T]):
    """A row type and its table.

    Args:
        row_type: a dataclass.
        table: its table.
        codecs: for each field, in the order of the columns, how it is written.
        renamed: columns whose name differs from the field's (SQL keeps some words for itself).
    """

    def __init__(
        self, row_type: type[T], table: str, codecs: Mapping[str, Codec], renamed: Mapping[str, str] | None = None
    ) -> None:
        self.table = table
        self._row_type = row_type
        self._codecs = codecs
        self._fields = tuple(codecs)
        self._columns = {field: (renamed or {}).get(field, field) for field in codecs}
        self._stores = tuple((field, codec.store) for field, codec in codecs.items())
        self._loads = tuple((index, codec.load) for index, codec in enumerate(codecs.values()) if codec.load)
        self.names = ", ".join(self._columns.values())
        marks = ", ".join("?" for _ in codecs)
        self.insert = f"INSERT INTO {table} ({self.names}) VALUES ({marks})"
        self.select = f"SELECT {self.names} FROM {table}"

    def select_without(self, *fields: str) -> str:
        """Return :attr:`select` with None for these fields."""
        columns = ("NULL" if field in fields else column for field, column in self._columns.items())
        return f"SELECT {', '.join(columns)} FROM {self.table}"

    def values(self, row: T) -> list[object]:
        """Return the column values of `row` for :attr:`insert`."""
        values = []
        for field, store in self._stores:
            value = getattr(row, field)
            values.append(value if store is None or value is None else store(value))
        return values

    def row(self, values: Sequence[Any]) -> T:
        """Return the row of what :attr:`select` gave."""
        loaded = list(values)
        for index, load in self._loads:
            if loaded[index] is not None:
                loaded[index] = load(loaded[index])
        return self._row_type(**dict(zip(self._fields, loaded, strict=True)))

    def assignments(self, fields: Sequence[str]) -> str:
        """Return ``a = ?, b = ?`` for these fields.

        Raises:
            ValueError: if there is no such field.
        """
        unknown = [field for field in fields if field not in self._columns]
        if unknown:
            raise ValueError(
                f"table {self.table} has no column {', '.join(unknown)}; it has: {', '.join(self._fields)}"
            )
        return ", ".join(f"{self._columns[field]} = ?" for field in fields)

    def changed(self, changes: Mapping[str, object]) -> list[object]:
        """Return the column values for :meth:`assignments` of the same fields, in the same order."""
        return [self._stored(field, value) for field, value in changes.items()]

    def _stored(self, field: str, value: object) -> object:
        store = self._codecs[field].store
        return value if store is None or value is None else store(value)
