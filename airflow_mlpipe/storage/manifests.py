"""The manifests that a store keeps: lists of files under the digest of what they describe, a tree or an input."""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError, MlpipeError
from airflow_mlpipe.model.digest import Digest, JsonValue, canonical_json, digest_json, hex_part, short
from airflow_mlpipe.model.result import TreeManifest
from airflow_mlpipe.storage.tree import to_manifest

if TYPE_CHECKING:
    from airflow_mlpipe.storage.documents import Documents

_log = logging.getLogger(__name__)

_VERSION = 2
_FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class SourceManifest:
    """The files of an input that no step of the pipeline made.

    Attributes:
        trees: of each source its path in its datastore, for people, and its manifest.
        options: how a tabular dataset is read; None for files.
        operations: what is done to a dataset when it is read; files that they leave out are not among `trees`.
    """

    trees: tuple[tuple[str, TreeManifest], ...]
    options: Mapping[str, JsonValue] | None = None
    operations: Sequence[JsonValue] = ()

    @property
    def digest(self) -> Digest:
        """Identity of the content, as keys have it. Where it lies does not count."""
        return dataset_identity([tree.digest for _, tree in self.trees], self.options, self.operations)

    def joined(self) -> TreeManifest:
        """Return all files as one tree; those of several sources by their paths in the datastore."""
        if len(self.trees) == 1:
            return self.trees[0][1]
        return TreeManifest(
            entries=tuple(
                entry.model_copy(update={"path": posixpath.join(path, entry.path) if entry.path else path})
                for path, tree in self.trees
                for entry in tree.entries
            )
        )


def dataset_identity(
    trees: Sequence[Digest], options: Mapping[str, JsonValue] | None = None, operations: Sequence[JsonValue] = ()
) -> Digest:
    """Return the identity of a dataset.

    Args:
        trees: digest of each of its sources, in their order.
        options: how a tabular dataset is read; None for files.
        operations: what is done to it when it is read.
    """
    return identity_of(digest_json("dataset", list(trees)), options, operations)


def identity_of(
    files: Digest, options: Mapping[str, JsonValue] | None = None, operations: Sequence[JsonValue] = ()
) -> Digest:
    """Return the identity of a dataset whose files, without a word on how they are read, have the identity `files`."""
    whole = files if options is None else digest_json("table", [files, dict(options)])
    return digest_json("operations", [whole, list(operations)]) if operations else whole


def manifest_path(digest: Digest) -> str:
    """Return where a store keeps the manifest of `digest`."""
    return f"manifests/{hex_part(digest)}.json"


def write_manifest(manifest: TreeManifest, store: Documents) -> None:
    """Keep `manifest` in the store under its digest, if it is not there.

    Raises:
        StorageError: if it cannot be written.
    """
    _write(manifest.digest, {"entries": _rows(manifest)}, store)


def write_source_manifest(manifest: SourceManifest, store: Documents) -> None:
    """Keep the files of an input in the store under the digest that keys have of it, if they are not there.

    Raises:
        StorageError: if they cannot be written.
    """
    trees = [[path, _rows(tree)] for path, tree in manifest.trees]
    document: dict[str, JsonValue] = {"trees": trees, "options": manifest.options}
    if manifest.operations:
        # A version of the package that knows no operations must leave the document alone.
        document |= {"operations": list(manifest.operations), "schema_version": _VERSION}
    _write(manifest.digest, document, store)


def read_manifest(digest: Digest, store: Documents, *, remove_damaged: bool = True) -> TreeManifest | None:
    """Return what :func:`write_manifest` or :func:`write_source_manifest` kept, or None if the store does not have it.

    A damaged one counts as not kept, with a warning, and is removed, unless `remove_damaged` is false, so that it is
    written again; so does one of a newer version, which stays.

    Raises:
        StorageError: if the store cannot be read.
    """
    path = manifest_path(digest)
    try:
        document = json.loads(store.read_bytes(path).decode("utf-8", "surrogateescape"))
        if document["schema_version"] > _VERSION:
            _log.warning("the manifest of %s in %s: %s is of a newer version", short(digest), store.name, path)
            return None
        found, manifest = _described(document)
        if found == digest:
            return manifest
    except MissingDataError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.debug("manifest %s: %s", path, error)
    removed = "; it is removed" if remove_damaged else ""
    _log.warning("the manifest of %s in %s: %s is damaged%s", short(digest), store.name, path, removed)
    if remove_damaged:
        with suppress(MlpipeError):
            store.remove(path)
    return None


def _described(document: Mapping[str, JsonValue]) -> tuple[Digest, TreeManifest]:
    """Return what a document is the manifest of, and its files."""
    if "trees" not in document:
        manifest = to_manifest([tuple(row) for row in document["entries"]])
        return manifest.digest, manifest
    trees = tuple((path, to_manifest([tuple(row) for row in rows])) for path, rows in document["trees"])
    source = SourceManifest(trees, document["options"], document.get("operations", ()))
    return source.digest, source.joined()


def _rows(manifest: TreeManifest) -> list[list[JsonValue]]:
    return [[e.path, e.type, e.digest, e.size_bytes] for e in manifest.entries]


def _write(digest: Digest, document: Mapping[str, JsonValue], store: Documents) -> None:
    path = manifest_path(digest)
    if not store.renew(path):
        store.write_bytes(path, canonical_json({"schema_version": _FIRST_VERSION, **document}))
