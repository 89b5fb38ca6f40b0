"""Conditions as they are written: ``dataset['age'] > 30``, joined by ``&``, ``|`` and ``~``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from numbers import Integral, Real
from typing import Any, NoReturn

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.expression import METADATA, text_of
from airflow_mlpipe.model.nearest import nearest


class Expression:
    """A column, or a condition on columns, of a dataset. Made by ``dataset['name']``; used by ``dataset.filter``.

    Conditions are compared and joined with operators: ``(ds['age'] > 30) & ~ds['name'].is_null()``. What is compared
    with a missing value is neither true nor false, as in SQL, and is filtered out.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, form: JsonValue) -> None:
        """Wrap the form in which a definition keeps it; see :mod:`airflow_mlpipe.model.expression`."""
        self.form = form

    @staticmethod
    def column(name: object) -> Expression:
        """Return the column of that name.

        Raises:
            ParameterError: if it is not a text.
        """
        if not isinstance(name, str):
            raise ParameterError(f"dataset[{name!r}]: give the name of one column, e.g. dataset['age']")
        return Expression(["column", name])

    @staticmethod
    def metadata(name: str) -> Expression:
        """Return a fact of each file.

        Raises:
            ParameterError: if there is none of that name.
        """
        if name not in METADATA:
            raise ParameterError(
                f"file_metadata({name!r}) is not known; there are: {', '.join(METADATA)}{nearest(str(name), METADATA)}"
            )
        return Expression(["metadata", name])

    def is_null(self) -> Expression:
        """Whether the value is missing."""
        return Expression(["is_null", self.form])

    def isin(self, values: Iterable[Any]) -> Expression:
        """Whether the value is one of `values`."""
        return Expression(["in", self.form, [_literal(value)[1] for value in values]])

    def starts_with(self, text: str) -> Expression:
        """Whether the text begins with `text`."""
        return self._tested("starts_with", text)

    def ends_with(self, text: str) -> Expression:
        """Whether the text ends with `text`."""
        return self._tested("ends_with", text)

    def contains(self, text: str) -> Expression:
        """Whether `text` is in the text."""
        return self._tested("contains", text)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self._compared("eq", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self._compared("ne", other)

    def __lt__(self, other: object) -> Expression:
        return self._compared("lt", other)

    def __le__(self, other: object) -> Expression:
        return self._compared("le", other)

    def __gt__(self, other: object) -> Expression:
        return self._compared("gt", other)

    def __ge__(self, other: object) -> Expression:
        return self._compared("ge", other)

    def __and__(self, other: object) -> Expression:
        return self._with("and", other)

    def __or__(self, other: object) -> Expression:
        return self._with("or", other)

    def __invert__(self) -> Expression:
        return Expression(["not", self.form])

    def __bool__(self) -> NoReturn:
        raise ParameterError(
            f"{text_of(self.form)} has no truth value of its own; join conditions with & | ~ instead of and, or, not, "
            "in parentheses, and give them to dataset.filter(...)"
        )

    def __repr__(self) -> str:
        return text_of(self.form)

    def _compared(self, name: str, other: object) -> Expression:
        if other is None:
            raise ParameterError(f"{text_of(self.form)} is compared with None; write {text_of(self.form)}.is_null()")
        return Expression([name, self.form, other.form if isinstance(other, Expression) else _literal(other)])

    def _with(self, name: str, other: object) -> Expression:
        if not isinstance(other, Expression):
            raise ParameterError(
                f"{text_of(self.form)} {'&' if name == 'and' else '|'} {other!r}: the right side is a "
                f"{type(other).__name__}, not a condition; put each comparison into parentheses"
            )
        return Expression([name, self.form, other.form])

    def _tested(self, name: str, text: object) -> Expression:
        if not isinstance(text, str):
            raise ParameterError(f"{name}({text!r}): give a text")
        return Expression([name, self.form, text])


def moment_text(value: date) -> str:
    """Return a moment, in UTC unless it says otherwise, as definitions hold it."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _literal(value: object) -> JsonValue:
    if isinstance(value, (str, bool)):
        return ["value", value]
    if isinstance(value, date):
        return ["moment", moment_text(value)]
    if isinstance(value, Integral):
        return ["value", int(value)]
    if isinstance(value, Real) and float(value) - float(value) == 0:
        return ["value", float(value)]
    item = getattr(value, "item", None)
    if callable(item) and not isinstance(item(), type(value)):
        return _literal(item())
    raise ParameterError(
        f"a condition compares with {value!r}, a {type(value).__name__}; give a text, a finite number, a truth value, "
        "a date or a datetime"
    )
