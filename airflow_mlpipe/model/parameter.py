"""Pipeline parameters: typed by their default, converted at every border."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.data_value import NamedData, dataset_text, path_text, read_dataset, read_path

ParameterValue = bool | int | float | str

_DATA_FORMS = {
    "data_path": "is no place; give a DataPath, or a text such as 'workspaceblobstore:/folder'",
    "dataset": "is no dataset; give a dataset, or the name of a registered one, such as 'images' or 'images:3'",
}
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class ParameterSpec(Frozen):
    """A parameter of a pipeline.

    Attributes:
        name: unique in the pipeline.
        type: taken from the default; every value is converted to it. ``data_path`` and ``dataset`` name data: see
            :mod:`airflow_mlpipe.model.data_value`.
        default: used when a run gives no value.
        interval: which end of the run's data interval its value is unless a run gives another one; None for other
            parameters. Such a value is a moment, as text: ISO 8601 in UTC. Its default may be empty: then a run that
            has no data interval must give it.
    """

    name: str
    type: Literal["string", "integer", "number", "boolean", "data_path", "dataset"]
    default: ParameterValue
    interval: Literal["start", "end"] | None = None

    @property
    def json_type(self) -> str:
        """JSON's name of the type; data is named by texts."""
        return "string" if self.is_data else self.type

    @property
    def is_data(self) -> bool:
        """Whether its value names data."""
        return self.type in ("data_path", "dataset")

    def data(self, value: ParameterValue) -> NamedData:
        """Return the data that a value names.

        Raises:
            ParameterError: if it is no data, another kind of dataset than the default, or has not been looked up.
        """
        if self.type == "data_path":
            return read_path(str(value))
        found = read_dataset(str(value))
        wanted = read_dataset(str(self.default)).source
        if isinstance(found.source, DatasetSpec) and isinstance(wanted, DatasetSpec):
            self._check_kind(found.source, wanted, found.label)
        return found

    def _check_kind(self, found: DatasetSpec, wanted: DatasetSpec, label: str) -> None:
        if found.kind != wanted.kind:
            raise ParameterError(
                f"parameter '{self.name}': {label} is a {found.kind} dataset, its default a {wanted.kind} dataset; "
                f"give a {wanted.kind} dataset"
            )

    @classmethod
    def of(cls, name: str, default: object) -> ParameterSpec:
        """Make the parameter that `default` describes.

        Raises:
            ParameterError: if `default` is not a str, int, float or bool, or no process could be given it.
        """
        # bool first: it is a subclass of int.
        if isinstance(default, bool):
            return cls(name=name, type="boolean", default=default)
        if isinstance(default, int):
            return cls(name=name, type="integer", default=default)
        if isinstance(default, float):
            return cls(name=name, type="number", default=default)
        if isinstance(default, str):
            _check_text(name, default)
            return cls(name=name, type="string", default=default)
        raise ParameterError(
            f"parameter '{name}': default {default!r} is a {type(default).__name__}; allowed are str, int, float, bool"
        )

    def convert(self, value: object) -> ParameterValue:
        """Return `value` as this parameter's type, from a Python value or from text (CLI, conf, REST).

        Raises:
            ParameterError: if it cannot be converted without losing something, or no process could be given it.
        """
        converted = self._converted(value) if self.interval is None else _as_moment(value)
        if converted is None and self.interval is not None:
            raise ParameterError(
                f"parameter '{self.name}': {value!r} is not a moment; give ISO 8601, such as 2026-01-31T00:00:00+00:00"
            )
        if converted is None:
            if self.is_data:
                raise ParameterError(f"parameter '{self.name}': {value!r} {_DATA_FORMS[self.type]}")
            article = "an" if self.type == "integer" else "a"
            raise ParameterError(
                f"parameter '{self.name}': {value!r} is not {article} {self.type}; its default is {self.default!r}"
            )
        if isinstance(converted, str):
            _check_text(self.name, converted)
        return converted

    def _converted(self, value: object) -> ParameterValue | None:
        if self.type == "data_path":
            return path_text(value)
        if self.type == "dataset":
            return dataset_text(value)
        if self.type == "boolean":
            return _as_bool(value)
        if self.type == "integer":
            return _as_int(value)
        if self.type == "number":
            return _as_float(value)
        return value if isinstance(value, str) else None if value is None else _as_text(value)


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise ParameterError(f"parameter '{name}': {value!r} holds a NUL character; remove it")


def _as_bool(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _as_int(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            return None
    return None


def _as_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    # NaN has no canonical form and equals nothing, itself included: a run with it could never be compared.
    return number if number - number == 0 else None


def _as_text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None


def is_unicode(text: str) -> bool:
    """Whether `text` can be written down: lone surrogates, which stand for bytes that are not UTF-8, cannot."""
    # Nearly all text is, and asking so costs next to nothing.
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _as_moment(value: object) -> str | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return None
    # One moment has one text, since it is part of the key.
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
