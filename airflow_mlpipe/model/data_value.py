"""Data as the value of a pipeline parameter: a text, so that it travels everywhere a value can be given.

A place is ``datastore:/path``. A dataset is its definition as JSON, with the id and the label of its registered
version; towards people it is also ``name``, ``name:version`` or the id of a version, which the catalog turns into that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, normalise_path


class NamedData(NamedTuple):
    """Data that a value means.

    Attributes:
        source: what is read.
        label: how it is called towards people.
        dataset_id: id of the registered dataset version, or None.
    """

    source: DatasetSpec | DatastorePath
    label: str
    dataset_id: str | None = None


def path_text(value: object) -> str | None:
    """Return a place as text, from text, a mapping (v1's REST form too) or a DatastorePath; None if it is none.

    Raises:
        ParameterError: if the path leaves its datastore.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json(value)
    if isinstance(value, DatastorePath):
        return f"{value.datastore}:/{value.path}"
    if isinstance(value, Mapping):
        store = value.get("datastore", value.get("DataStoreName"))
        path = value.get("path", value.get("RelativePath", ""))
        return f"{store}:/{normalise_path(path)}" if isinstance(store, str) and isinstance(path, str) else None
    if isinstance(value, str):
        store, separator, path = value.partition(":/")
        return f"{store}:/{normalise_path(path)}" if store and separator else None
    return None


def dataset_text(value: object) -> str | None:
    """Return a dataset as text, from text, a mapping (v1's REST form too) or a definition; None if it is none."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return value.strip() or None
    if isinstance(value, str):
        value = _json(value)
    if isinstance(value, DatasetSpec):
        value = {"spec": value.model_dump(mode="json", exclude_defaults=True)}
    if not isinstance(value, Mapping):
        return None
    saved = value.get("SavedDataSetReference", value.get("savedDataSetReference", value))
    known = saved.get("Id", saved.get("id")) if isinstance(saved, Mapping) and "spec" not in value else None
    if isinstance(known, str):
        return known
    try:
        spec = DatasetSpec.model_validate(value.get("spec"))
    except ValidationError:
        return None
    return text_of(spec, value.get("id"), value.get("label"))


def text_of(spec: DatasetSpec, dataset_id: str | None, label: str | None) -> str:
    """Return the value that stands for a dataset."""
    document = {"spec": spec.model_dump(mode="json", exclude_defaults=True), "id": dataset_id, "label": label}
    return json.dumps({name: each for name, each in document.items() if each}, sort_keys=True)


def is_pinned(text: str) -> bool:
    """Whether the value of a dataset is a definition, and not a name that the catalog has to be asked for."""
    return text.lstrip().startswith("{")


def read_path(text: str) -> NamedData:
    """Return the place that a value means."""
    store, _, path = text.partition(":/")
    return NamedData(DatastorePath(datastore=store, path=path), text)


def read_dataset(text: str) -> NamedData:
    """Return the dataset that a value means.

    Raises:
        ParameterError: if it is a name; see :func:`is_pinned`.
    """
    if not is_pinned(text):
        raise ParameterError(f"dataset '{text}' has not been looked up; give it to a run of its workspace")
    document = json.loads(text)
    spec = DatasetSpec.model_validate(document["spec"])
    first = spec.sources[0]
    return NamedData(spec, document.get("label") or f"{first.datastore}:/{first.path}", document.get("id"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
