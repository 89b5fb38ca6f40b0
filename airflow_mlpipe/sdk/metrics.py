"""How the calls of ``Run.log`` and its relatives add up to what ``get_metrics`` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.result import MetricRecord, Written


def fold(records: Iterable[MetricRecord]) -> dict[str, Any]:
    """Return metrics by name.

    A scalar logged once is itself, logged several times a list; lists are joined; rows and tables become one
    mapping from column to list; an image is its file's name.
    """
    groups: dict[str, list[MetricRecord]] = {}
    for record in records:
        groups.setdefault(record.name, []).append(record)
    return {name: _value(group) for name, group in groups.items()}


def merge(parts: Iterable[Written]) -> Written:
    """Return what several writers wrote to one run: metrics in order, later tags and files over earlier ones."""
    metrics: list[MetricRecord] = []
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    files = {}
    for part in parts:
        metrics.extend(part.metrics)
        tags.update(part.tags)
        properties.update(part.properties)
        files.update({file.name: file for file in part.files})
    return Written(metrics=tuple(metrics), tags=tags, properties=properties, files=tuple(files.values()))


def plain(value: object, what: str) -> JsonValue:
    """Return `value` as JSON says it: numpy scalars and arrays become numbers and lists.

    Args:
        value: what the user logged.
        what: what it is called in the error, e.g. ``metric 'accuracy'``.

    Raises:
        ParameterError: if JSON has no such value.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        # JSON has no NaN and no infinity; a diverging loss is a result that people want to see all the same.
        return float(value) if value - value == 0 else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each, what) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [plain(each, what) for each in value]
    for convert in ("tolist", "item"):
        if callable(method := getattr(value, convert, None)):
            return plain(method(), what)
    raise ParameterError(
        f"{what}: a value of type {type(value).__name__} cannot be logged; log numbers, text, bools or lists of them"
    )


def _value(group: Sequence[MetricRecord]) -> Any:
    kinds = {record.kind for record in group}
    if kinds == {"list"}:
        return [item for record in group for item in record.value]
    if kinds <= {"row", "table"}:
        return _columns(group)
    values = [record.value for record in group]
    return values[0] if len(values) == 1 else values


def _columns(group: Sequence[MetricRecord]) -> dict[str, list[JsonValue]]:
    columns: dict[str, list[JsonValue]] = {}
    for record in group:
        for name, value in record.value.items():
            columns.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    return columns
