"""Types of a table's columns: v1's DataType."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue

KINDS = ("string", "long", "float", "bool", "datetime")


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of a column.

    Attributes:
        kind: ``string``, ``long``, ``float``, ``bool`` or ``datetime``.
        formats: for ``datetime``, how dates are written (``strftime`` codes), tried in order; empty to guess. For
            ``float``, the decimal mark, if it is another than ``.``.
    """

    kind: str
    formats: tuple[str, ...] = ()

    @staticmethod
    def to_string() -> DataType:
        """Text."""
        return DataType("string")

    @staticmethod
    def to_long() -> DataType:
        """Integers."""
        return DataType("long")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> DataType:
        """Numbers, written with this decimal mark, ``.`` or ``,``; with ``,`` points group thousands.

        Raises:
            ParameterError: for another mark.
        """
        if decimal_mark not in (".", ","):
            raise ParameterError(
                f"DataType.to_float: decimal_mark={decimal_mark!r} is not allowed; allowed are '.' and ','"
            )
        return DataType("float", () if decimal_mark == "." else (decimal_mark,))

    @staticmethod
    def to_bool() -> DataType:
        """True and False, in any case, and 1 and 0."""
        return DataType("bool")

    @staticmethod
    def to_datetime(formats: str | list[str] | None = None) -> DataType:
        """Dates and times, written in `formats` (``strftime`` codes); by default they are guessed."""
        return DataType("datetime", (formats,) if isinstance(formats, str) else tuple(formats or ()))

    @staticmethod
    def of(given: DataType | str) -> DataType:
        """Return the type of that name, or the type itself.

        Raises:
            ParameterError: if there is none.
        """
        if isinstance(given, DataType):
            return given
        if given in KINDS:
            return DataType(given)
        raise ParameterError(f"column type {given!r} is not allowed; allowed are {', '.join(KINDS)} and DataType")

    def to_json(self) -> JsonValue:
        """Return what :meth:`from_json` reads."""
        return [self.kind, list(self.formats)]

    @staticmethod
    def from_json(document: JsonValue) -> DataType:
        """Read what :meth:`to_json` wrote."""
        return DataType(document[0], tuple(document[1]))
