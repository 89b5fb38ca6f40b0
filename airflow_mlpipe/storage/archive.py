"""Snapshots in a store: one uncompressed tar per digest, the same bytes whoever makes it and when."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from blake3 import blake3

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError, PipelineError, StorageError
from airflow_mlpipe.model.digest import PREFIX, Digest, digest_bytes, hex_part, short
from airflow_mlpipe.model.result import TreeManifest
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.manifests import manifest_path, read_manifest, write_manifest
from airflow_mlpipe.storage.records import Record, Walk, open_record
from airflow_mlpipe.storage.source import Snapshot, covers
from airflow_mlpipe.storage.tree import Row, link_target, subset, to_manifest
from airflow_mlpipe.storage.urls import is_folder
from airflow_mlpipe.storage.walk import walk

if TYPE_CHECKING:
    import tarfile

# 1 January 2000: zip files, which scripts make of their own code, cannot say a time before 1980.
_MTIME_S = 946_684_800
_CHUNK_BYTES = 1 << 20


def archive_path(digest: Digest) -> str:
    """Return where a store keeps the snapshot `digest`."""
    return f"snapshots/{hex_part(digest)}.tar"


def store_snapshot(snapshot: Snapshot, store: Documents) -> None:
    """Keep the files of a snapshot, and the manifests of all of them and of those that decide about reuse.

    If the store has them, this costs two or three system calls.

    Raises:
        PipelineError: if the source directory changed since the snapshot was taken.
        StorageError: if the store cannot be written.
    """
    archived = store.renew(archive_path(snapshot.digest)) and store.renew(manifest_path(snapshot.digest))
    if archived and (not snapshot.hashed or store.renew(manifest_path(snapshot.code))):
        return
    manifest = read_manifest(snapshot.digest, store) if archived else None
    manifest = manifest or _archive(snapshot, store)
    if snapshot.hashed:
        code = subset(manifest, covers(snapshot.hashed))
        if code.digest != snapshot.code:
            raise _changed(snapshot)
        write_manifest(code, store)


def extract_snapshot(digest: Digest, store: Documents, into: Path) -> None:
    """Lay the files of a snapshot into the folder `into`, which must be new or empty.

    Raises:
        MissingDataError: if the store does not have it.
        DigestMismatchError: if the archive is damaged; it is set aside, and the next submit stores it anew.
        StorageError: if it cannot be read or written.
    """
    import tarfile

    path = archive_path(digest)
    try:
        archive = store.open(path)
    except MissingDataError as error:
        raise MissingDataError(
            f"snapshot {short(digest)} is gone from {store.name}: {path}; submit again to store it"
        ) from error
    with archive:
        with system_errors("extract a snapshot into", into):
            into.mkdir(parents=True, exist_ok=True)
            if any(into.iterdir()):
                raise StorageError(f"cannot extract a snapshot into '{into}': the folder is not empty; give a new one")
        try:
            with (
                system_errors("read", store.shown(path)),
                tarfile.open(fileobj=archive, mode="r:", encoding="utf-8", errors="surrogateescape") as tar,
            ):
                rows = _extract(tar, into)
            damage = None if to_manifest(rows).digest == digest else "its content has another digest"
        except (tarfile.TarError, EOFError, _DamageError) as error:
            damage = str(error)
    if damage is not None:
        store.set_aside(path)
        raise DigestMismatchError(
            f"snapshot {short(digest)} in {store.name}: {path} is damaged ({damage});"
            " it was set aside: submit again to store it anew"
        )


def check_snapshot(digest: Digest, store: Documents, *, read_data: bool = False) -> str | None:
    """Return None if a snapshot and its manifest are whole, else what is wrong.

    Without `read_data` no file is read; of an archive that is elsewhere only whether it is there counts then.
    """
    path = archive_path(digest)
    where = f"{store.name}: {path}"
    if not store.exists(path):
        return f"missing from {where}; the next submit of the same code stores it"
    manifest = read_manifest(digest, store, remove_damaged=False)
    if manifest is None:
        return f"its manifest is missing from {store.name}: {manifest_path(digest)}; the next submit stores it"
    if not read_data and not is_folder(store.url):
        return None
    try:
        with store.open(path) as archive, system_errors("read", store.shown(path)):
            rows = _listed(archive, read_data)
    except (EOFError, StorageError, _DamageError) as error:
        return f"{where} is damaged ({error})"
    wanted = [
        (entry.path, entry.size_bytes, entry.digest if read_data and entry.type in ("file", "exec") else "")
        for entry in manifest.entries
    ]
    return None if rows == wanted else f"{where} does not hold the files of its manifest"


def _listed(archive: BinaryIO, read_data: bool) -> list[tuple[str, int, Digest]]:
    import tarfile

    size_bytes = archive.seek(0, os.SEEK_END)
    archive.seek(0)
    rows = []
    try:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                # A header may promise more than there is.
                if member.offset_data + member.size > size_bytes:
                    raise _DamageError("it is cut off")
                rows.append((member.name, member.size if member.isreg() else 0, _content(tar, member, read_data)))
    except tarfile.TarError as error:
        raise _DamageError(str(error)) from error
    return sorted(rows)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, read_data: bool) -> Digest:
    stream = tar.extractfile(member) if read_data and member.isreg() else None
    if stream is None:
        return ""
    hasher = blake3()
    while data := stream.read(_CHUNK_BYTES):
        hasher.update(data)
    return PREFIX + hasher.hexdigest()


class _DamageError(Exception):
    """An archive that this module did not write like that."""


def _archive(snapshot: Snapshot, store: Documents) -> TreeManifest:
    import tarfile

    try:
        found = walk(snapshot.source, rules=IgnoreRules(snapshot.source))
    except MissingDataError as error:
        raise _changed(snapshot) from error
    with store.draft(archive_path(snapshot.digest)) as file:
        with tarfile.open(
            fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as tar:
            try:
                rows = [_add(tar, found, record) for record in sorted(found.records)]
            except (MissingDataError, _DamageError) as error:
                raise _changed(snapshot) from error
        manifest = to_manifest(rows)
        if manifest.digest != snapshot.digest:
            raise _changed(snapshot)
        # Before the archive gets its name: who sees the archive finds its manifest.
        write_manifest(manifest, store)
    return manifest


def _add(tar: tarfile.TarFile, found: Walk, record: Record) -> Row:
    path, kind = record[:2]
    if kind == "dir":
        tar.addfile(_member(path, b"5", 0o755))
        return path, kind, "", 0
    if kind == "link":
        member = _member(path, b"2", 0o777)
        with system_errors("read", f"{found.root}/{path}"):
            member.linkname = link_target(found.root, path)
        tar.addfile(member)
        return path, kind, digest_bytes(os.fsencode(member.linkname)), 0
    member = _member(path, b"0", 0o755 if kind == "exec" else 0o644)
    with open_record(found.root, record) as file:
        member.size = os.fstat(file.fileno()).st_size
        reader = _HashingReader(file)
        try:
            tar.addfile(member, reader)  # type: ignore[arg-type]  # Only read() is used.
        except OSError as error:
            # tarfile's own complaint about a file that became shorter has no number.
            if error.errno is None:
                raise _DamageError(str(error)) from error
            raise
    return path, kind, reader.digest, member.size


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    import tarfile

    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, _MTIME_S
    return member


class _HashingReader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = blake3()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hasher.update(data)
        return data

    @property
    def digest(self) -> Digest:
        return PREFIX + self._hasher.hexdigest()


def _extract(tar: tarfile.TarFile, into: Path) -> list[Row]:
    """Write each member below `into`; links last, so that nothing is ever written through one."""
    rows: list[Row] = []
    links: list[tuple[Path, str]] = []
    for member in tar:
        path = into / _checked(member.name)
        with _placing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                kind = "exec" if member.mode & 0o100 else "file"
                rows.append((member.name, kind, _write(stream, path, kind), member.size))
            elif member.isdir():
                path.mkdir()
                rows.append((member.name, "dir", "", 0))
            elif member.issym():
                _checked(posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname)), link=True)
                links.append((path, member.linkname))
                rows.append((member.name, "link", digest_bytes(os.fsencode(member.linkname)), 0))
            else:
                raise _DamageError(f"'{member.name}' is no file, folder or link")
    for path, target in links:
        with _placing(path):
            path.symlink_to(target)
    return rows


@contextmanager
def _placing(path: Path) -> Iterator[None]:
    """Tell the system's refusals from an archive that holds two things of one name."""
    with system_errors("write", path):
        try:
            yield
        except (FileExistsError, NotADirectoryError) as error:
            raise _DamageError(f"two of its members are in the way of each other at '{path}'") from error


def _checked(path: str, *, link: bool = False) -> str:
    """Return `path` if it stays below the folder it is joined to (a link may also name that folder)."""
    if path == "." and link:
        return path
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise _DamageError(f"'{path}' leads out of the snapshot")
    return path


def _write(stream: IO[bytes], path: Path, kind: str) -> Digest:
    hasher = blake3()
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o777 if kind == "exec" else 0o666)) as file:
        while data := stream.read(_CHUNK_BYTES):
            hasher.update(data)
            file.write(data)
    return PREFIX + hasher.hexdigest()


def _changed(snapshot: Snapshot) -> PipelineError:
    return PipelineError(f"source_directory '{snapshot.source}' changed while it was read; submit again")
