"""Columns made of parts of a file's path: v1's ``partition_format``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import unquote

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue

_EXAMPLE = "e.g. '{region}/{day:yyyy/MM/dd}/data.csv'"
_FIELD = re.compile(r"\{([A-Za-z_]\w*)(?::([^{}]+))?\}")
_DATE_PARTS = {"yyyy": ("%Y", r"\d{4}"), "MM": ("%m", r"\d{2}"), "dd": ("%d", r"\d{2}")} | {
    "HH": ("%H", r"\d{2}"),
    "mm": ("%M", r"\d{2}"),
    "ss": ("%S", r"\d{2}"),
}


class PartitionFormat:
    """A format such as ``{region}/{day:yyyy/MM/dd}/data.csv``, matched against the end of a path."""

    def __init__(self, text: str, *, quoted: bool = False) -> None:
        """Parse a format.

        Args:
            quoted: whether parts of paths are percent-encoded.
            text: ``{name}`` for a part of the path as text, ``{name:yyyy/MM/dd/HH/mm/ss}`` for a date.

        Raises:
            ParameterError: if it has no field, one twice, a brace without its partner, or a date without date parts.
        """
        self.text = text
        self._quoted = quoted
        self.dates: dict[str, str] = {}
        names = [match[1] for match in _FIELD.finditer(text)] if isinstance(text, str) else []
        if not names or len(set(names)) < len(names):
            raise ParameterError(f"partition_format {text!r} is not allowed; use each field once, {_EXAMPLE}")
        if re.search(r"[{}]", _FIELD.sub("", text)):
            raise ParameterError(
                f"partition_format {text!r} is not allowed: a brace of it encloses no field name; write {_EXAMPLE}"
            )
        self.names = tuple(names)
        pattern, at = "", 0
        for match in _FIELD.finditer(text):
            pattern += _literal(text[at : match.start()]) + f"(?P<{match[1]}>{self._field(match[1], match[2])})"
            at = match.end()
        self._regex = re.compile("(?:.*/)?" + (pattern + _literal(text[at:])).lstrip("/"))

    def values(self, path: str) -> dict[str, str | datetime]:
        """Return the columns of a file.

        Args:
            path: relative to its datastore.

        Raises:
            ParameterError: if the path does not fit, or names a date that does not exist.
        """
        match = self._regex.fullmatch(path)
        try:
            found = match.groupdict() if match else {}
            values = {
                name: datetime.strptime(value, self.dates[name]) if name in self.dates else self._plain(value)
                for name, value in found.items()
            }
        except ValueError:
            values = {}
        if not values:
            raise ParameterError(
                f"file '{path}' does not fit partition_format '{self.text}'; give the dataset a path or pattern that "
                "matches only files that do"
            )
        return values

    @classmethod
    def of(cls, options: Mapping[str, JsonValue]) -> PartitionFormat | None:
        """Return the format that the options of a dataset hold, or None."""
        text = options.get("partition_format")
        return None if text is None else cls(str(text), quoted=bool(options.get("partition_quoted", False)))

    def _plain(self, value: str) -> str:
        return unquote(value) if self._quoted else value

    def _field(self, name: str, date_format: str | None) -> str:
        if date_format is None:
            return "[^/]+"
        if not any(part in date_format for part in _DATE_PARTS):
            raise ParameterError(
                f"partition_format {self.text!r} is not allowed: '{date_format}' of '{name}' has none of "
                f"{', '.join(_DATE_PARTS)}; write {_EXAMPLE}"
            )
        pattern = code = ""
        for piece in re.split(r"(yyyy|MM|dd|HH|mm|ss)", date_format):
            part_code, part_pattern = _DATE_PARTS.get(piece, (piece.replace("%", "%%"), re.escape(piece)))
            code, pattern = code + part_code, pattern + part_pattern
        self.dates[name] = code
        return pattern


def _literal(text: str) -> str:
    # v1's formats may hold wildcards, as its paths do.
    return re.escape(text).replace(r"\*", "[^/]*")
