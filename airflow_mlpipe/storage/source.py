"""The snapshot of a source directory: which files are the code of a step, and their digest."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.errors import PipelineError, StorageError
from airflow_mlpipe.model.data import normalise_path
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.result import TreeManifest
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.limits import SnapshotLimits, check_limits
from airflow_mlpipe.storage.records import Walk
from airflow_mlpipe.storage.stat_index import StatIndex, TreeSummary
from airflow_mlpipe.storage.tree import manifest_of, scan_tree, subset, summarise, variant_of
from airflow_mlpipe.storage.walk import walk


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a source directory that are not ignored.

    Attributes:
        digest: of all of them.
        code: of those that decide about reuse; the same as `digest` without ``hash_paths``.
        files: number of files.
        size_bytes: sum of their sizes.
        source: absolute path of the source directory.
        hashed: the paths that make up `code`, files and folders; empty for all.
    """

    digest: Digest
    code: Digest
    files: int
    size_bytes: int
    source: Path
    hashed: tuple[str, ...] = ()

    def files_of(self, digest: Digest) -> TreeManifest | None:
        """Return the files as they are now of all of it, or of its code; None if they do not have that digest.

        Raises:
            StorageError: if one cannot be read.
        """
        whole = scan_tree(self.source, ignore=IgnoreRules(self.source))
        trees = (whole, subset(whole, covers(self.hashed))) if self.hashed else (whole,)
        return next((tree for tree in trees if tree.digest == digest), None)


@dataclass(slots=True)
class SourceScan:
    """One reading of a source directory, which all steps of a pipeline that use it can share."""

    found: Walk
    rules: IgnoreRules
    files: frozenset[str]
    summary: TreeSummary | None = None


def take_snapshot(
    source: Path,
    *,
    script: str | None,
    hash_paths: Sequence[str] = (),
    index: StatIndex | None = None,
    limits: SnapshotLimits | None = None,
    scans: MutableMapping[Path, SourceScan] | None = None,
) -> Snapshot:
    """Return the identity of a source directory. Nothing is stored.

    Args:
        source: the directory.
        script: what the step runs, relative to `source`; None for a command.
        hash_paths: files and folders, relative to `source`, that with the script decide about reuse; empty for all.
        index: remembers what was read.
        limits: how large it may be; v1's if None.
        scans: filled by this call: hand the same mapping to the calls for one submit, and each directory is read once.

    Raises:
        PipelineError: if the directory, the script or a hash path is missing, hidden by a rule or outside, the snapshot
            is too large, or it holds a link that leads outside, a device or a file that cannot be read.
    """
    source = Path(posixpath.abspath(source))
    limits = limits or SnapshotLimits()
    try:
        scan = _scan(source, limits, scans)
        if script is not None:
            script = relative_path(source, script, "script")
            _check_script(script, source, scan)
        check_limits(scan.found, limits, script)
        hashed = _hashed(source, script, hash_paths, scan.rules)
        if scan.summary is None:
            scan.summary = summarise(scan.found, _variant(scan), index)
        code = _code_digest(scan, hashed, index) if hashed else scan.summary.digest
    except StorageError as error:
        raise PipelineError(f"source_directory '{source}' cannot be taken: {error.message}") from error
    return Snapshot(scan.summary.digest, code, scan.summary.files, scan.summary.size_bytes, source, hashed)


def relative_path(source: Path, path: str, what: str) -> str:
    """Return `path` relative to the source directory, posix and normalised.

    Args:
        source: absolute path of the directory.
        path: relative to it, or absolute inside it.
        what: how a message calls it.

    Raises:
        PipelineError: if it lies outside.
    """
    if not path.startswith("/") and ".." not in path:
        return normalise_path(path)
    joined = posixpath.normpath(posixpath.join(source, path if path.startswith("/") else path.replace("\\", "/")))
    relative = os.path.relpath(joined, source)
    if relative == ".." or relative.startswith("../"):
        raise PipelineError(f"{what} '{path}' lies outside of source_directory '{source}'; use a path inside it")
    return "" if relative == "." else normalise_path(relative)


def covers(paths: Sequence[str]) -> Callable[[str], bool]:
    """Return the test whether a path is one of `paths` or lies in one; the empty path holds everything."""
    whole = frozenset(paths)
    folders = tuple(f"{path}/" for path in paths)
    return lambda path: "" in whole or path in whole or path.startswith(folders)


def _scan(source: Path, limits: SnapshotLimits, scans: MutableMapping[Path, SourceScan] | None) -> SourceScan:
    known = None if scans is None else scans.get(source)
    if known is not None:
        return known
    if not posixpath.isdir(source):
        how = "is not a folder" if source.exists() else "does not exist"
        raise PipelineError(f"source_directory '{source}' {how}; give the folder that holds the script")
    rules = IgnoreRules(source)
    found = walk(source, rules=rules, stop_after=limits.stop_after)
    scan = SourceScan(found, rules, frozenset(path for path, kind, *_ in found.records if kind in ("file", "exec")))
    if scans is not None:
        scans[source] = scan
    return scan


def _check_script(script: str, source: Path, scan: SourceScan) -> None:
    if script in scan.files:
        return
    if (source / script).is_file():
        rule = scan.rules.explain(script)
        if rule is not None:
            raise PipelineError(
                f"script '{script}' in source_directory '{source}' is hidden by {rule};"
                " change the rule or move the script"
            )
        return
    import difflib

    names = sorted(record[0] for record in scan.found.records if record[0].endswith(".py"))
    near = difflib.get_close_matches(script, names, n=5, cutoff=0.0)
    found = f"found: {', '.join(near)}" if near else "it holds no .py file"
    raise PipelineError(f"script '{script}' not found in source_directory '{source}'; {found}")


def _hashed(source: Path, script: str | None, hash_paths: Sequence[str], rules: IgnoreRules) -> tuple[str, ...]:
    if not hash_paths:
        return ()
    paths = {script} if script else set()
    for given in hash_paths:
        path = relative_path(source, given, "hash path")
        if not os.path.lexists(source / path):
            raise PipelineError(
                f"hash path '{given}' does not exist in source_directory '{source}'; correct or remove it"
            )
        rule = rules.explain(path) if path else None
        if rule is not None:
            raise PipelineError(
                f"hash path '{given}' in source_directory '{source}' is hidden by {rule};"
                " it would never change: change the rule or remove the path"
            )
        paths.add(path)
    return () if "" in paths else tuple(sorted(paths))


def _code_digest(scan: SourceScan, hashed: tuple[str, ...], index: StatIndex | None) -> Digest:
    keep = covers(hashed)
    variant = f"{_variant(scan)}{hashed}"
    signature = scan.found.signature(only=keep)
    cached = None if index is None else index.cached(scan.found.root, variant)
    if cached is not None and cached[0] == signature:
        return cached[1].digest
    manifest = subset(manifest_of(scan.found, _variant(scan), index), keep)
    if index is not None:
        # Trusted only if the whole was: that is where racy files are known.
        whole = index.cached(scan.found.root, _variant(scan))
        trusted = whole is not None and whole[0] != b""
        summary = TreeSummary(manifest.digest, manifest.size_bytes, len(manifest.entries), False)
        index.store(scan.found.root, variant, signature if trusted else b"", summary)
    return manifest.digest


def _variant(scan: SourceScan) -> str:
    return variant_of(scan.rules)
