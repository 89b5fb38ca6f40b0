"""The records that the default store keeps of results, pipelines and models: what a lost catalog is rebuilt from.

A result's record and a pipeline's spec lie among the manifests, a model's record beside the model. They are written
once and never changed. A damaged one counts as not there, with a warning; one of a newer version is left alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_bytes, hex_part
from airflow_mlpipe.model.record import ResultRecord
from airflow_mlpipe.storage.documents import Document, Documents

RESULTS, SPECS, MODELS = "manifests/results", "manifests/specs", "models"

MISSING, DAMAGED, NEWER = "missing", "damaged", "of a newer version"
"""What may be wrong with a record."""

_VERSION = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was found.

    Attributes:
        path: relative to the store.
        record: what it says, or None.
        problem: empty, or what is wrong with it: :data:`MISSING`, :data:`DAMAGED` or :data:`NEWER`.
        written_ns: when it was written, by the store's own clock, in ns since the epoch; 0 if it was not listed.
    """

    path: str
    record: ResultRecord | None = None
    problem: str = ""
    written_ns: int = 0


def result_path(result_id: str) -> str:
    """Return where the default store keeps the record of a result."""
    return f"{RESULTS}/{result_id}.json"


def write_result(record: ResultRecord, store: Documents, *, is_new: bool = False) -> None:
    """Keep the record of a result. One of a newer version under its id stays.

    Args:
        record: of the result.
        store: the default datastore.
        is_new: whether the result's id was made just now, so that there is none to be looked for.

    Raises:
        StorageError: if it cannot be written.
    """
    path = result_path(record.result.id)
    if is_new or _document(path, store)[1] in (MISSING, DAMAGED):
        store.write_bytes(path, _encoded(record.model_dump()))


def read_result(result_id: str, store: Documents) -> Found:
    """Return the record of a result.

    Raises:
        StorageError: if the store cannot be read.
    """
    return _found(Document(result_path(result_id), 0), result_id, store)


def list_results(store: Documents) -> Iterator[Found]:
    """Yield every record of a result, in the order in which they were written.

    Raises:
        StorageError: if the store cannot be read.
    """
    for document in _listed(store, RESULTS, "*.json"):
        yield _found(document, PurePosixPath(document.path).stem, store)


def write_spec(digest: Digest, text: str, store: Documents) -> None:
    """Keep the JSON text of a spec under its digest.

    Raises:
        StorageError: if it cannot be written.
    """
    store.write_bytes(spec_path(digest), text.encode("utf-8", "surrogateescape"))


def spec_path(digest: Digest) -> str:
    """Return where the default store keeps a spec."""
    return f"{SPECS}/{hex_part(digest)}.json"


def read_spec(digest: Digest, store: Documents) -> str | None:
    """Return the JSON text of a spec, or None if it is not kept or damaged.

    Raises:
        StorageError: if the store cannot be read.
    """
    try:
        data = store.read_bytes(spec_path(digest))
    except MissingDataError:
        return None
    if digest_bytes(data) != digest:
        _log.warning("the spec in %s: %s is damaged", store.name, spec_path(digest))
        return None
    return data.decode("utf-8", "surrogateescape")


def write_model(name: str, version: int, fields: Mapping[str, JsonValue], store: Documents) -> None:
    """Keep the record of a version of a model beside its bytes.

    Raises:
        StorageError: if it cannot be written.
    """
    store.write_bytes(_model_path(name, version), _encoded(dict(fields)))


def read_model(name: str, version: int, store: Documents) -> tuple[dict[str, JsonValue] | None, str]:
    """Return what the record of a version of a model says, or None, and what is wrong with it.

    Raises:
        StorageError: if the store cannot be read.
    """
    return _document(_model_path(name, version), store)


def list_models(store: Documents) -> Iterator[tuple[str, dict[str, JsonValue] | None, str]]:
    """Yield of each record of a model its path, its fields or None, and what is wrong with it, by age.

    Raises:
        StorageError: if the store cannot be read.
    """
    for document in _listed(store, MODELS, "*/*.json"):
        yield document.path, *_document(document.path, store)


def model_versions(store: Documents) -> dict[str, int]:
    """Return by name of a model the highest version that has a place in the store, registered or not.

    Raises:
        StorageError: if the store cannot be read.
    """
    newest: dict[str, int] = {}
    for document in store.listed(MODELS):
        _, name, version, *_ = (*document.path.split("/"), "", "")
        version = version.removesuffix(".json")
        if version.isdecimal():
            newest[name] = max(int(version), newest.get(name, 0))
    return newest


def _model_path(name: str, version: int) -> str:
    return f"{MODELS}/{name}/{version}.json"


def _listed(store: Documents, folder: str, pattern: str) -> list[Document]:
    whole = f"{folder}/{pattern}"
    depth = whole.count("/")
    return [
        document
        for document in store.listed(folder)
        if document.path.count("/") == depth and PurePosixPath(document.path).match(whole)
    ]


def _found(document: Document, result_id: str, store: Documents) -> Found:
    path = document.path
    fields, problem = _document(path, store)
    if fields is None:
        return Found(path, problem=problem)
    try:
        record = ResultRecord.model_validate(fields)
    except ValueError as error:
        _log.warning("the record in %s: %s cannot be read: %s", store.name, path, str(error).partition("\n")[0])
        return Found(path, problem=DAMAGED)
    if record.result.id != result_id:
        _log.warning("the record in %s: %s is of another result, %s", store.name, path, record.result.id)
        return Found(path, problem=DAMAGED)
    return Found(path, record, written_ns=document.written_ns)


def _encoded(fields: JsonValue) -> bytes:
    # The digest: a flipped bit may well leave a document that can be read.
    body = _text(fields)
    return f'{{"schema_version":{_VERSION},"digest":"{digest_bytes(body.encode())}","record":{body}}}'.encode()


def _document(path: str, store: Documents) -> tuple[dict[str, JsonValue] | None, str]:
    """Return what a record says, and what is wrong with it."""
    try:
        document = json.loads(store.read_bytes(path))
        if document["schema_version"] > _VERSION:
            _log.warning("the record in %s: %s is of a newer version", store.name, path)
            return None, NEWER
        fields = document["record"]
        if isinstance(fields, dict) and digest_bytes(_text(fields).encode()) == document["digest"]:
            return fields, ""
    except MissingDataError:
        return None, MISSING
    except (ValueError, KeyError, TypeError) as error:
        _log.debug("record %s: %s", path, error)
    _log.warning("the record in %s: %s is damaged", store.name, path)
    return None, DAMAGED


def _text(fields: JsonValue) -> str:
    # ASCII, in which the lone surrogates of odd names survive; metrics may be NaN.
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), default=_jsonable)


def _jsonable(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not a JSON type")
