"""Files on the web, read-only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from airflow_mlpipe.errors import ConfigError, NotSupportedError
from airflow_mlpipe.storage.addresses import open_public
from airflow_mlpipe.storage.checksum import Checksum
from airflow_mlpipe.storage.driver import CONNECT_S, Body, Upload, nanoseconds, range_header, strong_etag
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import HttpStatusError, RefusedAddressError

_CHUNK_BYTES = 256 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_OPTIONS = frozenset({"allow_private", "headers", "username", "password", "token"})


class WebDriver:
    """What lies below a URL. The web has no listings: files are asked for by name.

    Args:
        url: ``http://`` or ``https://``.
        options: ``headers`` (a mapping), ``username`` and ``password``, ``token`` (sent as a bearer), ``allow_private``
            (whether addresses of this machine and of private networks may be asked).
        answer_s: longest wait for bytes of an answer, in seconds.

    Raises:
        ConfigError: if an option is unknown, or the URL has a user in it.
    """

    parallel_parts = False
    whole_md5 = False
    part_bytes = 1 << 20
    max_parts = 1
    copied_bytes = 0

    def __init__(self, url: str, options: Mapping[str, Any], answer_s: float) -> None:
        parts = urlsplit(url)
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise ConfigError(
                f"web datastore at '{parts.hostname}': option '{unknown[0]}' is not known; there are: "
                f"{', '.join(sorted(_OPTIONS))}, deadline_s"
            )
        if parts.username is not None:
            raise ConfigError(
                f"web datastore at '{parts.hostname}': its URL has a user in it; give username= and password= instead"
            )
        self._url = url.rstrip("/")
        self._options = options
        self._answer_s = answer_s
        self.server = parts.netloc
        self._session: Any = None

    async def connect(self) -> None:
        """Make the session."""
        import aiohttp

        allowed = self._options.get("allow_private") is True
        connector = aiohttp.TCPConnector(limit=64, socket_factory=None if allowed else open_public)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self._answer_s),
        )

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    def filesystem(self) -> Any:
        """Refuse: only what checks addresses may ask.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(f"'{self._url}' cannot be mounted; read or download its files")

    async def create(self) -> None:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def clock(self) -> str | None:
        """Refuse; see :meth:`page`."""
        raise NotSupportedError(f"'{self._url}' has no clock: whatever server answers has its own")

    async def stat(self, path: str) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        etag = None
        try:
            answer = await self._ask("HEAD", path, {})
            answer.release()
            etag = strong_etag(answer.headers.get("ETag"))
            if answer.headers.get("Content-Length", "").isdigit():
                return _described(path, answer)
        except HttpStatusError as error:
            if error.status in (404, 410):
                return None
            # Not allowed, not implemented, or - as signed URLs do - allowed for reading alone.
            if error.status not in (400, 403, 405, 501):
                raise
        try:
            answer = await self._ask("GET", path, {"Range": "bytes=0-0"})
        except HttpStatusError as error:
            if error.status in (404, 410):
                return None
            if error.status == 416:
                return RemoteFile(path, 0, etag)
            raise
        if _size(answer) is None:
            return await _measured(path, answer)
        answer.close()
        return _described(path, answer)

    async def page(self, prefix: str, token: str) -> tuple[Sequence[RemoteFile], str]:
        """Refuse, unless there is nothing to tell.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(f"'{self._url}/{prefix}' is no file, and the web lists no folders; name each file")

    async def level(self, folder: str) -> tuple[list[str], list[RemoteFile]]:
        """Refuse; see :meth:`page`."""
        raise NotSupportedError(f"'{self._url}/{folder}' cannot be listed: the web lists no folders; name each file")

    async def has_any(self, prefix: str) -> bool:
        """Whether a file's path begins so: nobody can tell, and no file is known to."""
        return False

    async def get(self, path: str, start: int, end: int | None, expected: RemoteFile | None) -> Body:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        headers = range_header(start, end)
        if expected is not None and expected.identity:
            headers["If-Match"] = f'"{expected.identity}"'
        answer = await self._ask("GET", path, headers)
        size = _size(answer)
        # Not every server knows ranges: it sends all, and what comes before is passed over.
        skip = start if start and answer.status == 200 else 0
        stop = None if end is None or answer.status == 206 else end - start
        if size is None:
            if expected is None:
                found = await self.stat(path)
                size = 0 if found is None else found.size_bytes
            else:
                size = expected.size_bytes
        return Body(_described(path, answer, size), _streamed(answer, skip, stop), answer.close)

    async def checksum(self, file: RemoteFile, *, is_sure: bool = False) -> Checksum | None:
        """Return None: the web tells nothing."""
        return None

    async def put(self, path: str, data: bytes, md5: bytes) -> RemoteFile:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def begin(self, path: str, size_bytes: int, part_bytes: int, md5: str | None) -> Upload:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def put_part(self, upload: Upload, number: int, data: bytes, md5: bytes) -> str:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def finish(self, upload: Upload, parts: Sequence[str], md5s: Sequence[bytes]) -> RemoteFile | None:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def abort(self, upload: Upload) -> None:
        """Refuse: the web is read-only."""
        raise self._read_only()

    def is_finished(self, upload: Upload, md5s: Sequence[bytes], there: RemoteFile) -> bool:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def copy(self, source: RemoteFile, path: str) -> None:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def copy_part(self, upload: Upload, number: int, source: RemoteFile) -> str:
        """Refuse: the web is read-only."""
        raise self._read_only()

    async def remove(self, paths: Sequence[str]) -> None:
        """Refuse: the web is read-only."""
        raise self._read_only()

    def _read_only(self) -> NotSupportedError:
        return NotSupportedError(f"'{self._url}' is on the web, which can only be read")

    async def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> Any:
        """Ask, and follow redirects here: each address is checked, and what is secret goes to nobody else."""
        from yarl import URL

        url = URL(f"{self._url}/{path}" if path else self._url)
        origin = url.origin()
        for _ in range(_MOST_REDIRECTS):
            own = self._headers() if url.origin() == origin else {}
            answer = await self._session.request(
                method, url, headers={"Accept-Encoding": "identity", **own, **headers}, allow_redirects=False
            )
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not target:
                if answer.status >= 300:
                    answer.release()
                    raise HttpStatusError(answer.status, answer.reason or "")
                return answer
            answer.release()
            following = url.join(URL(target))
            if following.scheme not in ("http", "https") or (url.scheme == "https" and following.scheme == "http"):
                raise RefusedAddressError(f"it is redirected from {url.scheme}:// to {following.scheme}://")
            url = following
        raise RefusedAddressError(f"it is redirected more than {_MOST_REDIRECTS} times")

    def _headers(self) -> dict[str, str]:
        headers = {str(name): str(value) for name, value in (self._options.get("headers") or {}).items()}
        token, user = self._options.get("token"), self._options.get("username")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        elif user:
            login = f"{user}:{self._options.get('password') or ''}"
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        return headers


def _size(answer: Any) -> int | None:
    """Return the size of the whole file, as far as the answer tells."""
    if answer.status == 206:
        _, _, total = answer.headers.get("Content-Range", "").rpartition("/")
    else:
        total = answer.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


def _described(path: str, answer: Any, size_bytes: int | None = None) -> RemoteFile:
    size = size_bytes if size_bytes is not None else _size(answer)
    return RemoteFile(
        path=path,
        size_bytes=size or 0,
        identity=strong_etag(answer.headers.get("ETag")),
        mtime_ns=nanoseconds(answer.headers.get("Last-Modified")),
        md5=_md5(answer) if answer.status == 200 else None,
    )


def _md5(answer: Any) -> str | None:
    """Return the MD5 that some servers tell."""
    try:
        digest = base64.b64decode(answer.headers.get("Content-MD5", ""), validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == hashlib.md5(usedforsecurity=False).digest_size else None


async def _measured(path: str, answer: Any) -> RemoteFile:
    """Return the description of a file whose size nobody tells, by reading it."""
    size = 0
    async with answer:
        while data := await answer.content.read(_CHUNK_BYTES):
            size += len(data)
    return _described(path, answer, size)


async def _streamed(answer: Any, skip: int, stop: int | None) -> AsyncIterator[bytes]:
    """Yield the bytes after the first `skip`, `stop` of them at most."""
    try:
        while data := await answer.content.read(_CHUNK_BYTES):
            passed = min(skip, len(data))
            skip -= passed
            data = data[passed:] if stop is None else data[passed : passed + stop]
            if stop is not None:
                stop -= len(data)
            if data:
                yield data
            if stop == 0:
                return
    finally:
        answer.close()
