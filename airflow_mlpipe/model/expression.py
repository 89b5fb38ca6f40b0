"""Conditions on rows or files, as plain values: what ``dataset['age'] > 30`` writes into a definition.

An expression is a list: its name, then its operands.

======================================================= ===========================================================
``["column", NAME]``, ``["metadata", NAME]``            a column of the row; a fact of the file (see :data:`METADATA`)
``["value", X]``, ``["moment", ISO]``                   a text, number or truth value; a moment
``["eq"|"ne"|"lt"|"le"|"gt"|"ge", A, B]``               comparisons
``["and"|"or", A, B]``, ``["not", A]``                  as in SQL: with something missing the answer may be missing
``["is_null", A]``                                      whether it is missing
``["in", A, [X, ...]]``                                 whether it is one of these values
``["starts_with"|"ends_with"|"contains", A, TEXT]``     texts
======================================================= ===========================================================

A row is kept if the answer is true; a missing answer keeps it out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue

METADATA = ("Size", "LastModifiedTime", "Extension", "StreamName")
"""v1's facts of a file: bytes, a moment, ``.csv`` and the like, the path in its datastore."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": str.__contains__,
}
TEXT_TESTS = tuple(_TEXTS)

_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|"}
_ARITY = {**dict.fromkeys(COMPARISONS, 2), "and": 2, "or": 2, "not": 1, "is_null": 1}


def check(expression: JsonValue) -> JsonValue:
    """Return `expression` if it is one.

    Raises:
        ValueError: if it is not.
    """
    match expression:
        case ["column", str()] | ["value", str() | bool() | int() | float()]:
            return expression
        case ["metadata", str(name)] if name in METADATA:
            return expression
        case ["moment", str(text)] if datetime.fromisoformat(text).tzinfo is not None:
            return expression
        case ["in", operand, [*values]] if all(isinstance(value, (str, bool, int, float)) for value in values):
            check(operand)
            return expression
        case [str(name), operand, str()] if name in _TEXTS:
            check(operand)
            return expression
        case [str(name), *operands] if _ARITY.get(name) == len(operands):
            for operand in operands:
                check(operand)
            return expression
    raise ValueError(f"{expression!r} is not an expression")


def names_in(expression: JsonValue, kind: str = "column") -> Iterator[str]:
    """Yield the columns that an expression speaks of, or with ``metadata`` the facts of files."""
    name, *operands = expression
    if name == kind:
        yield operands[0]
    elif name not in ("column", "metadata", "value", "moment"):
        for operand in operands:
            if isinstance(operand, (list, tuple)) and name != "in":
                yield from names_in(operand, kind)
        if name == "in":
            yield from names_in(operands[0], kind)


def text_of(expression: JsonValue) -> str:
    """Return an expression as its author wrote it, for people."""
    match expression:
        case ["column", name]:
            return f"dataset[{name!r}]"
        case ["metadata", name]:
            return f"dataset.file_metadata({name!r})"
        case ["value", value] | ["moment", value]:
            return repr(value)
        case ["not", operand]:
            return f"~({text_of(operand)})"
        case ["is_null", operand]:
            return f"{text_of(operand)}.is_null()"
        case ["in", operand, values]:
            return f"{text_of(operand)}.isin({values!r})"
        case [name, left, str(text)]:
            return f"{text_of(left)}.{name}({text!r})"
        case [name, left, right]:
            return f"({text_of(left)} {_SIGNS[name]} {text_of(right)})"
    return repr(expression)


def evaluate(expression: JsonValue, fact: Callable[[str, str], Any]) -> Any:
    """Return what an expression says of one thing; None if the answer is missing.

    Args:
        expression: the expression.
        fact: returns the value of ``column`` or ``metadata`` of that name, None if it is missing.

    Raises:
        ParameterError: if values cannot be compared.
    """
    match expression:
        case ["column" | "metadata" as kind, name]:
            return fact(kind, name)
        case ["value", value]:
            return value
        case ["moment", text]:
            return datetime.fromisoformat(text)
        case ["is_null", operand]:
            return evaluate(operand, fact) is None
        case ["not", operand]:
            answer = evaluate(operand, fact)
            return None if answer is None else not answer
        case ["and" | "or" as name, *operands]:
            return _joined(name, [evaluate(operand, fact) for operand in operands])
    name, left, right = expression
    value = evaluate(left, fact)
    if name in COMPARISONS:
        right = evaluate(right, fact)
    if value is None or right is None:
        return None
    try:
        if name == "in":
            return value in right
        return (COMPARISONS.get(name) or _TEXTS[name])(_aware(value), _aware(right))
    except TypeError:
        raise ParameterError(
            f"filter {text_of(expression)}: {value!r} is a {type(value).__name__}, {right!r} a {type(right).__name__}; "
            "compare values of one type"
        ) from None


def _joined(name: str, answers: list[Any]) -> bool | None:
    decisive = name == "or"
    if any(answer is not None and bool(answer) is decisive for answer in answers):
        return decisive
    return None if None in answers else not decisive


def _aware(value: Any) -> Any:
    # A moment without a zone is one of UTC, as everywhere here.
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
