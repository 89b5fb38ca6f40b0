"""Google Cloud Storage."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_mlpipe.storage.checksum import Checksum
from airflow_mlpipe.storage.driver import CONNECT_S, Body, Rooted, Upload, nanoseconds, range_header
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, CorruptError, HttpStatusError, trouble_of

_CHUNK_BYTES = 256 << 10
_MEDIA = "application/octet-stream"


class GcsDriver(Rooted):
    """A bucket, or a folder of one. Sign-in is gcsfs's; the requests are its JSON interface's.

    Args:
        bucket: its name.
        prefix: the folder; empty for all.
        options: of gcsfs.
        answer_s: longest wait for bytes of an answer, in seconds.
    """

    # One session takes the parts in order.
    parallel_parts = False
    whole_md5 = True
    part_bytes = 16 << 20
    max_parts = 1_000_000
    copied_bytes = 1 << 62

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any], answer_s: float) -> None:
        super().__init__(prefix)
        self._bucket = bucket
        self._options = dict(options)
        self._answer_s = answer_s
        self.server = urlsplit(str(options.get("endpoint_url") or "")).netloc or "Google Cloud Storage"
        self._fs: Any = None

    async def connect(self) -> None:
        """Sign in, and make the session."""
        import aiohttp

        # Sign-in asks by blocking requests.
        self._fs = await asyncio.to_thread(self.filesystem)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self._answer_s)
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def close(self) -> None:
        """Close the session."""
        if self._fs is not None:
            await self._session.close()

    def filesystem(self) -> Any:
        """Return a gcsfs file system."""
        # Not its heir for zonal buckets, which asks a further interface for each bucket.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(skip_instance_cache=True, use_listings_cache=False, **self._options)

    async def create(self) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        described = json.dumps({"name": self._bucket}).encode()
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        await self._json("POST", f"{self._fs.base}b", described, headers, project=str(self._fs.project or ""))

    async def clock(self) -> str | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        async with await self._ask("GET", self._objects, params={"prefix": self.key(""), "maxResults": "1"}) as answer:
            told: str | None = answer.headers.get("Date")
            return told

    async def stat(self, path: str) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        try:
            return self._described(await self._json("GET", self._object(path)))
        except Exception as error:
            if trouble_of(error) == "missing":
                return None
            raise

    async def page(self, prefix: str, token: str) -> tuple[Sequence[RemoteFile], str]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        found = await self._json("GET", self._objects, prefix=self.key(prefix), pageToken=token)
        return self._files(found), found.get("nextPageToken", "")

    async def level(self, folder: str) -> tuple[list[str], list[RemoteFile]]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        prefix = self.key(f"{folder}/" if folder else "")
        folders: list[str] = []
        files: list[RemoteFile] = []
        token = ""
        while True:
            found = await self._json("GET", self._objects, prefix=prefix, delimiter="/", pageToken=token)
            folders += [each.removeprefix(prefix).rstrip("/") for each in found.get("prefixes", [])]
            files += self._files(found)
            token = found.get("nextPageToken", "")
            if not token:
                return folders, files

    async def has_any(self, prefix: str) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        found = await self._json("GET", self._objects, prefix=self.key(prefix), maxResults="1")
        return bool(found.get("items"))

    async def get(self, path: str, start: int, end: int | None, expected: RemoteFile | None) -> Body:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        # With gzip accepted, an object that is stored so comes as it is stored.
        headers = {**await self._headers(), **range_header(start, end), "Accept-Encoding": "gzip"}
        asked = {"alt": "media"}
        if expected is not None and expected.identity:
            asked["ifGenerationMatch"] = expected.identity
        answer = await self._session.get(
            self._object(path), params=asked, headers=headers, timeout=self._timeout, allow_redirects=False
        )
        if answer.status >= 300:
            text = await answer.text()
            answer.release()
            raise HttpStatusError(answer.status, _reason(text))
        _, _, total = answer.headers.get("Content-Range", "").rpartition("/")
        size = int(total) if total.isdigit() else int(answer.headers.get("Content-Length", -1))
        hashes = dict(
            part.strip().partition("=")[::2]
            for line in answer.headers.getall("x-goog-hash", [])
            for part in line.split(",")
        )
        known = expected or RemoteFile(path, size, answer.headers.get("x-goog-generation"))
        md5 = _hex(hashes.get("md5")) or known.md5
        return Body(
            RemoteFile(path, size, answer.headers.get("x-goog-generation") or known.identity, known.mtime_ns, md5),
            _streamed(answer),
            answer.close,
        )

    async def checksum(self, file: RemoteFile, *, is_sure: bool = False) -> Checksum | None:
        """Return None: what it tells comes with the file."""
        return None

    async def put(self, path: str, data: bytes, md5: bytes) -> RemoteFile:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        given = base64.b64encode(md5).decode()
        described = json.dumps({"name": self.key(path), "md5Hash": given}).encode()
        body = (
            b"--=mlpipe=\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + described
            + b"\r\n--=mlpipe=\r\nContent-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--=mlpipe=--\r\n"
        )  # fmt: skip
        found = await self._json(
            "POST",
            self._uploads,
            body,
            {"Content-Type": 'multipart/related; boundary="=mlpipe="'},
            uploadType="multipart",
        )
        return self._checked(found, len(data), md5.hex())

    async def begin(self, path: str, size_bytes: int, part_bytes: int, md5: str | None) -> Upload:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        given = base64.b64encode(bytes.fromhex(md5 or "")).decode()
        described = json.dumps({"name": self.key(path), "md5Hash": given}).encode()
        headers = {"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": _MEDIA}
        async with await self._ask(
            "POST", self._uploads, described, headers, {"uploadType": "resumable", "name": self.key(path)}
        ) as answer:
            return Upload(path, answer.headers["Location"], size_bytes, part_bytes, md5)

    async def put_part(self, upload: Upload, number: int, data: bytes, md5: bytes) -> str:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        start = number * upload.part_bytes
        end = start + len(data)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{upload.size_bytes}", "Content-Type": _MEDIA}
        async with await self._ask("PUT", upload.id, data, headers) as answer:
            if answer.status != 308:
                return ""
            there = answer.headers.get("Range", "bytes=0--1").rpartition("-")[2]
        if int(there or -1) + 1 != end:
            raise BrokenAnswerError(f"the store has the bytes up to {there} of those up to {end - 1}")
        return ""

    async def finish(self, upload: Upload, parts: Sequence[str], md5s: Sequence[bytes]) -> RemoteFile | None:
        """Do nothing: the last part finishes the upload."""
        return None

    async def abort(self, upload: Upload) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        async with self._session.delete(upload.id, headers=await self._headers(), timeout=self._timeout):
            pass

    def is_finished(self, upload: Upload, md5s: Sequence[bytes], there: RemoteFile) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        return there.size_bytes == upload.size_bytes and there.md5 in (None, upload.md5)

    async def copy(self, source: RemoteFile, path: str) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        from yarl import URL

        target = f"{self._object(source.path)}/rewriteTo/b/{quote(self._bucket, safe='')}/o/"
        url = URL(target + quote(self.key(path), safe=""), encoded=True)
        asked = {"ifSourceGenerationMatch": source.identity or ""}
        # A large one is rewritten in several requests.
        while not (told := await self._json("POST", url, b"", None, **asked)).get("done", True):
            asked["rewriteToken"] = str(told["rewriteToken"])

    async def copy_part(self, upload: Upload, number: int, source: RemoteFile) -> str:
        """Refuse: :meth:`copy` copies a file of any size.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    async def remove(self, paths: Sequence[str]) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""

        async def one(path: str) -> None:
            try:
                async with await self._ask("DELETE", self._object(path)):
                    pass
            except Exception as error:
                if trouble_of(error) != "missing":
                    raise

        for start in range(0, len(paths), 32):
            await asyncio.gather(*(one(path) for path in paths[start : start + 32]))

    @property
    def _objects(self) -> str:
        return f"{self._fs.base}b/{quote(self._bucket, safe='')}/o"

    @property
    def _uploads(self) -> str:
        return f"{self._fs._location}/upload/storage/v1/b/{quote(self._bucket, safe='')}/o"

    def _object(self, path: str) -> Any:
        from yarl import URL

        return URL(f"{self._objects}/{quote(self.key(path), safe='')}", encoded=True)

    async def _headers(self) -> dict[str, str]:
        # A token that has expired is renewed by a blocking request.
        return dict(await asyncio.to_thread(self._fs._get_headers, None))

    async def _ask(
        self, method: str, url: Any, data: bytes | None = None, headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        given = {**await self._headers(), **(headers or {})}
        if data is not None:
            given["Content-Length"] = str(len(data))
        answer = await self._session.request(
            method, url, data=None if data is None else _pieces(data), headers=given, params=params,
            timeout=self._timeout, allow_redirects=False,
        )  # fmt: skip
        if answer.status >= 300 and answer.status != 308:
            text = await answer.text()
            answer.release()
            raise HttpStatusError(answer.status, _reason(text))
        return answer

    async def _json(
        self, method: str, url: Any, data: bytes | None = None, headers: Mapping[str, str] | None = None, **params: str
    ) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value}
        async with await self._ask(method, url, data, headers, given) as answer:
            return dict(json.loads(await answer.read()))

    def _files(self, found: Mapping[str, Any]) -> list[RemoteFile]:
        return [self._described(each) for each in found.get("items", []) if not each["name"].endswith("/")]

    def _described(self, found: Mapping[str, Any]) -> RemoteFile:
        return RemoteFile(
            path=self.path(found["name"]),
            size_bytes=int(found["size"]),
            identity=str(found["generation"]) if found.get("generation") else None,
            mtime_ns=nanoseconds(found.get("updated")),
            md5=_hex(found.get("md5Hash")),
        )

    def _checked(self, found: Mapping[str, Any], size_bytes: int, md5: str) -> RemoteFile:
        there = self._described(found)
        if there.size_bytes != size_bytes or there.md5 not in (None, md5):
            raise CorruptError(f"the store has {there.size_bytes:,} bytes with MD5 {there.md5}, not {md5}")
        return there


def _hex(md5: str | None) -> str | None:
    return base64.b64decode(md5).hex() if md5 else None


def _reason(text: str) -> str:
    """Return what the answer says, in short."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """Yield the data in pieces between which other requests get their turn."""
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


async def _streamed(answer: Any) -> AsyncIterator[bytes]:
    async with answer:
        while data := await answer.content.read(_CHUNK_BYTES):
            yield data
