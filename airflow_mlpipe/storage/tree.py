"""The content of a file or a folder: its manifest, and its digest without reading what did not change."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, cast

from airflow_mlpipe.errors import MissingDataError, StorageError
from airflow_mlpipe.model.digest import Digest, digest_bytes, digest_json
from airflow_mlpipe.model.result import TreeEntry, TreeManifest
from airflow_mlpipe.storage.hashing import hash_records
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.stat_index import FileState, StatIndex, TreeSummary
from airflow_mlpipe.storage.walk import walk

RACY_NS = 20_000_000
"""A file touched later than this before the walk may be touched again without its times changing."""

Row = tuple[str, str, Digest, int]
"""path, type, digest, size in bytes: an entry of a manifest."""


def tree_digest(
    path: Path,
    index: StatIndex | None = None,
    ignore: IgnoreRules | None = None,
    exclude_top: Collection[str] = (),
    *,
    follow_within: Path | None = None,
) -> TreeSummary:
    """Return what is at `path`, without its entries. An unchanged tree costs one walk.

    Args:
        path: a file or a folder.
        index: remembers what was read; None reads everything.
        ignore: rules that hide entries.
        exclude_top: names left out at the root.
        follow_within: see :func:`airflow_mlpipe.storage.walk.walk`.

    Raises:
        MissingDataError: if there is nothing at `path`.
        StorageError: for a link that leaves the tree, a device, or something that cannot be read.
    """
    found = walk(path, rules=ignore, exclude_top=exclude_top, follow_within=follow_within)
    return summarise(found, variant_of(ignore, exclude_top, follow_within), index)


def scan_tree(
    path: Path,
    index: StatIndex | None = None,
    ignore: IgnoreRules | None = None,
    exclude_top: Collection[str] = (),
    *,
    follow_within: Path | None = None,
) -> TreeManifest:
    """Return the manifest of what is at `path`. Arguments and errors are those of :func:`tree_digest`."""
    found = walk(path, rules=ignore, exclude_top=exclude_top, follow_within=follow_within)
    return manifest_of(found, variant_of(ignore, exclude_top, follow_within), index)


def variant_of(ignore: IgnoreRules | None, exclude_top: Collection[str] = (), follow_within: Path | None = None) -> str:
    """Return the name of a way to read a tree: two ways may give one root two digests."""
    return _variant(ignore is not None, tuple(sorted(exclude_top)), follow_within is not None)


@cache
def _variant(ruled: bool, excluded: tuple[str, ...], followed: bool) -> str:
    return json.dumps([ruled, excluded, followed])


def summarise(found: Walk, variant: str, index: StatIndex | None) -> TreeSummary:
    """Return the summary of a walked tree, from the index if nothing was touched. Errors: see `tree_digest`."""
    signature = found.signature()
    cached = None if index is None else index.cached(found.root, variant)
    if cached is not None and cached[0] == signature:
        return cached[1]
    return _read(found, variant, index, signature)[0]


def manifest_of(found: Walk, variant: str, index: StatIndex | None) -> TreeManifest:
    """Return the manifest of a walked tree; only what changed is read. Errors: see :func:`tree_digest`."""
    return to_manifest(_read(found, variant, index, found.signature())[1])


def to_manifest(rows: Collection[Row]) -> TreeManifest:
    """Return the manifest with the entries `rows`."""
    return TreeManifest(
        entries=tuple(
            TreeEntry(path=p, type=cast(Literal["file", "exec", "dir", "link"], t), digest=d, size_bytes=s)
            for p, t, d, s in sorted(rows)
        )
    )


def subset(manifest: TreeManifest, keep: Callable[[str], bool]) -> TreeManifest:
    """Return the manifest with the entries of `manifest` whose path `keep` accepts."""
    return TreeManifest(entries=tuple(entry for entry in manifest.entries if keep(entry.path)))


def link_target(root: str, path: str) -> str:
    """Return where the link at `path` in the tree `root` points, relative to its own folder.

    Raises:
        StorageError: if that is outside of the tree.
    """
    full = f"{root}/{path}"
    folder = posixpath.dirname(full)
    # The text itself: a Path would tidy it.
    text = os.readlink(full)  # noqa: PTH115
    # An absolute target would tie the content to this place; inside the tree it means the same relative one.
    target = os.path.relpath(text, folder) if text.startswith("/") else text
    lexical = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    real, real_root = os.path.realpath(full), os.path.realpath(root)
    inside = real == real_root or real.startswith(real_root + "/")
    if not inside or lexical == ".." or lexical.startswith(("../", "/")):
        raise StorageError(
            f"link '{full}' points to '{text}', outside of '{root}'; links may only point inside: copy the file instead"
        )
    return target


def _read(found: Walk, variant: str, index: StatIndex | None, signature: bytes) -> tuple[TreeSummary, list[Row]]:
    known = {} if index is None else index.files(found.root, variant)
    rows, states = _rows(found, known)
    files = sum(1 for row in rows if row[1] in ("file", "exec"))
    digest = digest_json("tree", [row[:3] for row in rows])
    summary = TreeSummary(digest, sum(row[3] for row in rows), files, found.is_file)
    if index is not None:
        trusted = len(states) == files
        index.store(found.root, variant, signature if trusted else b"", summary, states)
    return summary, rows


def _rows(found: Walk, known: Mapping[str, FileState]) -> tuple[list[Row], dict[str, FileState]]:
    """Return the sorted entries, and the files whose digest may be trusted while their stat stays the same."""
    rows: list[Row] = []
    states: dict[str, FileState] = {}
    changed = []
    for record in found.records:
        path, kind, size, mtime, ctime, inode, _ = record
        if kind == "dir":
            rows.append((path, kind, "", 0))
        elif kind == "link":
            rows.append((path, kind, _link_digest(found.root, path), 0))
        elif (state := known.get(path)) is not None and state[:4] == (size, mtime, ctime, inode):
            rows.append((path, kind, state[4], size))
            states[path] = state
        else:
            changed.append(record)
    settled_ns = found.started_ns - RACY_NS
    for record, content in zip(changed, hash_records(found.root, changed), strict=True):
        path, kind, size, mtime, ctime, inode, _ = record
        rows.append((path, kind, content.digest, content.size_bytes))
        # git's rule: a file written in the very moment it was read could change again under the same times.
        if content.stable and mtime < settled_ns and ctime < settled_ns:
            states[path] = (size, mtime, ctime, inode, content.digest)
    rows.sort()
    return rows, states


def _link_digest(root: str, path: str) -> Digest:
    try:
        return digest_bytes(os.fsencode(link_target(root, path)))
    except FileNotFoundError as error:
        raise MissingDataError(f"link '{root}/{path}' vanished while the tree was read; try again") from error
