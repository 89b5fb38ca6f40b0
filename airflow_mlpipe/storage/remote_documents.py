"""Documents in a datastore elsewhere; those that are named by their content are kept here once they were read."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from airflow_mlpipe.errors import MlpipeError, StorageError
from airflow_mlpipe.model.digest import digest_json
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.documents import Document
from airflow_mlpipe.storage.local_cache import LocalCache
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_source import brought
from airflow_mlpipe.storage.remote_source import relative as relative_to

RENEW_AFTER_S = 12 * 3600
"""Age at which a document that is relied on is written again: half of the age at which garbage is collected."""

LOOK_AGAIN_S = 60.0
"""How long it is taken for granted that a document is there which was seen."""

_BY_CONTENT = re.compile(r"(manifests/[0-9a-f]{64}\.json|snapshots/[0-9a-f]{64}\.tar)")


class RemoteDocuments:
    """A remote datastore as one of documents.

    Args:
        store: the datastore.
        cached: see :func:`~airflow_mlpipe.storage.datastore.documents_of`.
    """

    def __init__(self, store: RemoteStore, *, cached: bool = True) -> None:
        self.name = store.name
        self._store = store
        self._looked_at: dict[str, float] = {}
        self._cache = LocalCache(*store.cache) if cached and store.cache is not None else None

    @property
    def url(self) -> str:
        """Where it lies."""
        return self._store.url

    def url_of(self, relative: str) -> str:
        """Return the URL of a path."""
        return self._store.url_of(relative)

    def shown(self, relative: str) -> str:
        """Return the URL of a path, for people."""
        return self._store.url_of(relative)

    def exists(self, relative: str) -> bool:
        """Whether there is a file, or something in a folder."""
        return self._store.exists(relative)

    def renew(self, relative: str) -> bool:
        """Tell whether there is a file; one that is older than :data:`RENEW_AFTER_S` is written again.

        Stores change no times of files, and writing at each look would cost more than it tells. Within
        :data:`LOOK_AGAIN_S` the last answer counts: the steps of a run ask for the same specs.
        """
        if time.monotonic() < self._looked_at.get(relative, 0.0):
            return True
        file = self._store.stat(relative)
        if file is None:
            return False
        self._looked_at[relative] = time.monotonic() + LOOK_AGAIN_S
        if file.mtime_ns and time.time_ns() - file.mtime_ns > RENEW_AFTER_S * 1_000_000_000:
            # One that may only be read is there all the same.
            with suppress(MlpipeError):
                self._store.write_bytes(relative, self._store.read_bytes(relative))
        return True

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a file. What is named by its content comes from this machine where it can."""
        if self._cache is None or not _BY_CONTENT.fullmatch(relative):
            return self._store.read_bytes(relative)
        name = self._name(relative)
        data = self._cache.read(name)
        if data is None:
            data = self._store.read_bytes(relative)
            # The next one reads it there again.
            with suppress(StorageError):
                self._cache.keep(name, data)
        return data

    def open(self, relative: str) -> BinaryIO:
        """Return the content of a file, to be read like one."""
        return io.BytesIO(self.read_bytes(relative))

    def write_bytes(self, relative: str, data: bytes) -> object:
        """Write a file whole."""
        return self._store.write_bytes(relative, data)

    @contextmanager
    def draft(self, relative: str) -> Iterator[BinaryIO]:
        """Open a file of this machine that is uploaded when the body ends well."""
        with tempfile.NamedTemporaryFile(prefix="mlpipe-draft-") as file:
            yield cast(BinaryIO, file)
            file.flush()
            self._store.put(Path(file.name), relative)

    def remove(self, relative: str) -> None:
        """Remove a file, and its copy on this machine. Nothing there is fine."""
        self._looked_at.pop(relative, None)
        if self._cache is not None:
            self._cache.drop(self._name(relative))
        self._store.remove(relative)

    def set_aside(self, relative: str) -> None:
        """Remove a damaged file: a store elsewhere has no other name for it. What fails is left."""
        with suppress(MlpipeError):
            self.remove(relative)

    def listed(self, folder: str) -> list[Document]:
        """Return the files below a folder, oldest first."""
        found = (Document(file.path, file.mtime_ns) for file in self._store.files_below(folder))
        return sorted(found, key=lambda each: (each.written_ns, each.path))

    def copy_in(self, source: Path, relative: str) -> object:
        """Upload a file, or the files of a folder."""
        return self._store.put(source, relative)

    def copy_out(self, relative: str, target: Path) -> None:
        """Copy a file, or the files of a folder, to `target`."""
        listing = self._store.listing(relative)
        with brought(self._store, listing.files) as paths:
            for file in listing.files:
                inside = "" if listing.is_file else relative_to(file.path, listing.base)
                place = target / inside if inside else target
                with system_errors("write", place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(paths[file.path], place)

    def keep_files(self, pairs: Sequence[tuple[Path, str]]) -> None:
        """Upload files of a run."""
        self._store.put_files(pairs)

    def _name(self, relative: str) -> str:
        return digest_json("document", [self._store.url, relative]).partition(":")[2][:40]
