"""Which spec each pipeline of a workspace has, now and at every version since the first. Knows nothing of Airflow.

A workspace of one machine keeps it in its folder; one whose catalog is on a server, in the catalog
(:mod:`airflow_mlpipe.engine.catalog_registry`).

``<workspace>/registry/specs/<digest>.json`` holds the specs, which never change, and ``<workspace>/registry/index`` one
line for each change, oldest first::

    17-3fa9c1d2e4b7 b3:5d0c... train

A line's first word is the version of the registry that it makes: its number, and a digest over the line and the version
before. So a version names one state for good, is told by reading one line, and costs one line to store.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_mlpipe.errors import ConfigError, NotFoundError, PipelineError
from airflow_mlpipe.model.digest import Digest, digest_bytes
from airflow_mlpipe.model.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import Publication

FOLDER = "registry"
"""Name of the registry's folder in the workspace's."""

EMPTY = "0"
"""Version of a registry without a spec."""

SHARDS = "0123456789abcdef"
"""The parts into which pipelines are divided by name: a change in one does not make Airflow read the others again."""

_GONE = "-"
_TAIL_BYTES = 4096
_DAG_ID = re.compile(r"[A-Za-z0-9_.\-]{1,250}")


def shard_of(name: str) -> str:
    """Return the part a pipeline belongs to: one of :data:`SHARDS`."""
    return digest_bytes(name.encode()).removeprefix("b3:")[0]


def check_name(spec: PipelineSpec) -> None:
    """See that a pipeline's name can be a DAG's.

    Raises:
        PipelineError: if it cannot.
    """
    if _DAG_ID.fullmatch(spec.name) is None:
        raise PipelineError(
            f"pipeline name '{spec.name}' cannot be a DAG's; use 1 to 250 letters, digits, '_', '-' and '.'"
        )


def version_after(before: str, digest: str, name: str) -> str:
    """Return the version that a change makes: its number, and a digest over the change and the version before."""
    chain = digest_bytes(f"{before} {digest} {name}".encode()).removeprefix("b3:")[:12]
    return f"{number_of(before) + 1}-{chain}"


def number_of(version: str) -> int:
    """Return how many changes have led to a version."""
    return int(version.partition("-")[0])


def entries_of(log: Iterable[Publication]) -> dict[str, tuple[Digest, str]]:
    """Return, by pipeline, what the changes of `log` have led to: the digest of its spec and the version it came in."""
    entries: dict[str, tuple[Digest, str]] = {}
    for change in log:
        if change.digest is None:
            entries.pop(change.name, None)
        else:
            entries[change.name] = (change.digest, change.version)
    return entries


def shards_of(log: Sequence[Publication]) -> dict[str, str]:
    """Return, for each part that has pipelines, the version in which it changed last."""
    changed = {shard_of(change.name): change.version for change in log}
    alive = {shard_of(name) for name in entries_of(log)}
    return {shard: version for shard, version in changed.items() if shard in alive}


class Registry(Protocol):
    """The specs of a workspace's pipelines."""

    def publish(self, spec: PipelineSpec) -> str:
        """Make `spec` the current one of its pipeline and return the version in which it is that.

        Nothing changes if it is that already.

        Raises:
            PipelineError: if the pipeline's name cannot be a DAG's.
        """

    def remove(self, name: str) -> str:
        """Take a pipeline out and return the version without it. Its specs stay, for the runs that need them."""

    def head(self) -> str:
        """Return the newest version."""

    def digest_of(self, name: str, version: str | None = None) -> Digest | None:
        """Return the digest of a pipeline's spec in a version, or None if it has none there.

        Raises:
            NotFoundError: if there is no such version.
        """

    def entries(self, version: str | None = None) -> dict[str, tuple[Digest, str]]:
        """Return, by pipeline, the digest of its spec in a version, and the version that brought it.

        Raises:
            NotFoundError: if there is no such version.
        """

    def shards(self, version: str | None = None) -> dict[str, str]:
        """Return, for each part that has pipelines in a version, the version in which it changed last.

        Raises:
            NotFoundError: if there is no such version.
        """

    def spec(self, digest: Digest) -> PipelineSpec:
        """Return a spec.

        Raises:
            OSError, ValueError, MlpipeError: if it cannot be read.
        """

    def reserved(self, name: str) -> AbstractContextManager[None]:
        """Hold a pipeline, waiting for it: nobody else who reserves it publishes it meanwhile."""


class SpecRegistry:
    """A registry in the workspace's folder. Safe to use from many processes."""

    def __init__(self, workspace: Path) -> None:
        """Name the registry in the ``.mlpipe`` folder `workspace`; makes nothing."""
        self._folder = Path(workspace) / FOLDER
        self._index = self._folder / "index"

    def publish(self, spec: PipelineSpec) -> str:
        """See :meth:`Registry.publish`."""
        check_name(spec)
        with self._writing():
            index = self._read()
            if _last_of(index, spec.name) != spec.digest:
                self._keep(spec)
                index = self._append(index, spec.name, spec.digest)
            return _head(index)

    def remove(self, name: str) -> str:
        """See :meth:`Registry.remove`."""
        with self._writing():
            index = self._read()
            if _last_of(index, name) is not None:
                index = self._append(index, name, _GONE)
            return _head(index)

    def head(self) -> str:
        """See :meth:`Registry.head`."""
        try:
            with self._index.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                return _head(_whole_lines(file.read()))
        except FileNotFoundError:
            return EMPTY

    def digest_of(self, name: str, version: str | None = None) -> Digest | None:
        """See :meth:`Registry.digest_of`."""
        return _last_of(self._until(version), name)

    def entries(self, version: str | None = None) -> dict[str, tuple[Digest, str]]:
        """See :meth:`Registry.entries`."""
        return entries_of(self.log(version))

    def shards(self, version: str | None = None) -> dict[str, str]:
        """See :meth:`Registry.shards`."""
        return shards_of(self.log(version))

    def log(self, version: str | None = None) -> list[Publication]:
        """Return every change up to a version, oldest first.

        Raises:
            NotFoundError: if there is no such version.
        """
        # Here, not above: a parse of one DAG needs nothing of the catalog.
        from airflow_mlpipe.catalog.rows import Publication

        lines = (line.split(" ") for line in self._until(version).decode().splitlines())
        return [Publication(version=v, digest=None if d == _GONE else d, name=name) for v, d, name in lines]

    def spec(self, digest: Digest) -> PipelineSpec:
        """See :meth:`Registry.spec`."""
        return PipelineSpec.from_json(self._path(digest).read_bytes())

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """See :meth:`Registry.reserved`."""
        folder = self._folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, digest: Digest) -> Path:
        return self._folder / "specs" / f"{digest.removeprefix('b3:')}.json"

    def _keep(self, spec: PipelineSpec) -> None:
        path = self._path(spec.digest)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        with draft.open("w", encoding="utf-8") as file:
            file.write(spec.to_json())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def _append(self, index: bytes, name: str, digest: str) -> bytes:
        line = f"{version_after(_head(index), digest, name)} {digest} {name}\n".encode()
        with self._index.open("ab") as file:
            # What a writer left half-written when it was killed.
            file.truncate(len(index))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return index + line

    def _read(self) -> bytes:
        try:
            return _whole_lines(self._index.read_bytes())
        except FileNotFoundError:
            return b""

    def _until(self, version: str | None) -> bytes:
        index = self._read()
        if version is None:
            return index
        if version == EMPTY:
            return b""
        word = f"{version} ".encode()
        at = 0 if index.startswith(word) else index.rfind(b"\n" + word) + 1
        if not index.startswith(word, at):
            raise NotFoundError(f"'{self._index}' has no version '{version}'; its newest is '{_head(index)}'")
        return index[: index.index(b"\n", at) + 1]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._folder.mkdir(exist_ok=True)
            lock = (self._folder / "lock").open("a")
        except OSError as error:
            raise ConfigError(f"workspace '{self._folder.parent}' cannot be written: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _head(index: bytes) -> str:
    """Return the version that the last line makes."""
    return index[index.rfind(b"\n", 0, -1) + 1 :].split(b" ")[0].decode() if index else EMPTY


def _last_of(index: bytes, name: str) -> Digest | None:
    """Return what the last line about a pipeline says, found from the end: a task starts no later for a long index."""
    word = f" {name}\n".encode()
    end = index.rfind(word)
    if end < 0:
        return None
    digest = index[index.rfind(b" ", 0, end) + 1 : end].decode()
    return None if digest == _GONE else digest
