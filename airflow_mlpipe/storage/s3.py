"""S3, and what speaks like it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow_mlpipe.storage.checksum import CRC_BYTES, Checksum, equal_parts
from airflow_mlpipe.storage.driver import (
    CONNECT_S,
    Body,
    Rooted,
    Upload,
    md5_of_etag,
    nanoseconds,
    parts_md5_of_etag,
    range_header,
    strong_etag,
)
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, CorruptError, trouble_of

_CHUNK_BYTES = 256 << 10
_CONNECTIONS = 64


class S3Driver(Rooted):
    """A bucket, or a folder of one.

    Args:
        bucket: its name.
        prefix: the folder; empty for all.
        options: of s3fs.
        answer_s: longest wait for bytes of an answer, in seconds.
    """

    parallel_parts = True
    whole_md5 = False
    part_bytes = 8 << 20
    max_parts = 10_000
    copied_bytes = 5 << 30

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any], answer_s: float) -> None:
        # Here, not above: it needs the library.
        from airflow_mlpipe.storage.s3_session import trusting

        super().__init__(prefix)
        self._bucket = bucket
        own = {
            "connect_timeout": CONNECT_S,
            "read_timeout": answer_s,
            "max_pool_connections": _CONNECTIONS,
            # Putting the long one together takes as much time as signing.
            "user_agent": "airflow-mlpipe",
            # An MD5 goes with every write and is compared after most reads. S3's other checksums take time for each
            # small file, and not everything that speaks like S3 knows them; reads without an MD5 ask for them.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        given = dict(options.get("config_kwargs") or {})
        # The MD5 of what is written is signed; a second digest of it would be computed between all other requests.
        given["s3"] = {"payload_signing_enabled": False, **(given.get("s3") or {})}
        # One attempt: what is tried again, and for how long, is decided in one place for all stores.
        config = trusting({**own, **given, "retries": {"total_max_attempts": 1}})
        self._options = {**options, "config_kwargs": config}
        self._versions = bool(options.get("version_aware"))
        self.server = str(options.get("endpoint_url") or "S3")
        self._fs: Any = None

    async def connect(self) -> None:
        """Make the client."""
        from airflow_mlpipe.storage.s3_session import new_session

        self._fs = self.filesystem()
        self._fs.retries = 1
        session = new_session(**self._fs.kwargs)
        # Times stay texts, which are parsed where they are wanted: for each small file it takes a tenth of the work.
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_text)
        self._fs.session = session
        await self._fs.set_session()

    async def close(self) -> None:
        """Close the client."""
        if self._fs is not None and self._fs._s3creator is not None:
            await self._fs._s3creator.__aexit__(None, None, None)

    def filesystem(self) -> Any:
        """Return an s3fs file system."""
        import s3fs

        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **self._options)

    async def create(self) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        region = (self._options.get("client_kwargs") or {}).get("region_name")
        # The home region must not be named.
        placed = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        await self._call("create_bucket", **placed)

    async def clock(self) -> str | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answer = await self._call("list_objects_v2", Prefix=self.key(""), MaxKeys=1)
        told: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return told

    async def stat(self, path: str) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        try:
            answer = await self._call("head_object", Key=self.key(path))
        except Exception as error:
            if trouble_of(error) == "missing":
                return None
            raise
        return self._described(path, answer, int(answer["ContentLength"]))

    async def page(self, prefix: str, token: str) -> tuple[Sequence[RemoteFile], str]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        page, following = await self._page(token, Prefix=self.key(prefix))
        return self._files(page), following

    async def level(self, folder: str) -> tuple[list[str], list[RemoteFile]]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        prefix = self.key(f"{folder}/" if folder else "")
        folders: list[str] = []
        files: list[RemoteFile] = []
        token = ""
        while True:
            page, token = await self._page(token, Prefix=prefix, Delimiter="/")
            folders += [each["Prefix"].removeprefix(prefix).rstrip("/") for each in page.get("CommonPrefixes", [])]
            files += self._files(page)
            if not token:
                return folders, files

    async def has_any(self, prefix: str) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answer = await self._call("list_objects_v2", Prefix=self.key(prefix), MaxKeys=1)
        return bool(answer.get("Contents"))

    async def get(self, path: str, start: int, end: int | None, expected: RemoteFile | None) -> Body:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        asked: dict[str, str] = range_header(start, end)
        if expected is not None and expected.identity:
            asked["VersionId" if self._versions else "IfMatch"] = (
                expected.identity if self._versions else f'"{expected.identity}"'
            )
        if expected is not None and expected.md5 is None and "Range" not in asked:
            asked["ChecksumMode"] = "ENABLED"
        answer = await self._call("get_object", Key=self.key(path), **asked)
        _, _, total = answer.get("ContentRange", "").rpartition("/")
        size = int(total) if total.isdigit() else int(answer["ContentLength"])
        # The library compares a checksum that came with the answer, in a body of another class.
        body = answer["Body"]
        return Body(self._described(path, answer, size), _streamed(body), body.close, hasattr(body, "checksum"))

    async def checksum(self, file: RemoteFile, *, is_sure: bool = False) -> Checksum | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        version = {"VersionId": file.identity} if self._versions and file.identity else {}
        whole = await self._call("head_object", Key=self.key(file.path), ChecksumMode="ENABLED", **version)
        if whole.get("ChecksumType") == "FULL_OBJECT":
            for kind, size in CRC_BYTES.items():
                crc = _decoded(whole.get(f"Checksum{kind}"))
                if len(crc) == size:
                    return Checksum(kind, crc)
        etag, dash, count = (strong_etag(whole.get("ETag")) or "").partition("-")
        if not dash or md5_of_etag(etag) is None or not count.isdigit() or self._is_opaque(whole):
            return None

        async def size_of(number: int) -> int:
            part = await self._call("head_object", Key=self.key(file.path), PartNumber=number, **version)
            # Who does not know of parts answers with the whole.
            return int(part["ContentLength"]) if part.get("PartsCount") else 0

        if is_sure:
            parts = tuple([await size_of(number) for number in range(1, int(count) + 1)])
        else:
            parts = equal_parts(file.size_bytes, await size_of(1) or file.size_bytes)
        is_told = len(parts) == int(count) and sum(parts) == file.size_bytes
        return Checksum("MD5", bytes.fromhex(etag), parts, is_sure) if is_told else None

    async def put(self, path: str, data: bytes, md5: bytes) -> RemoteFile:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        given = base64.b64encode(md5).decode()
        answer = await self._call("put_object", Key=self.key(path), Body=_Sent(data), ContentMD5=given)
        written = self._described(path, answer, len(data))
        if written.md5 is not None and written.md5 != md5.hex():
            raise CorruptError(f"the store has MD5 {written.md5} of what was sent with {md5.hex()}")
        return written

    async def begin(self, path: str, size_bytes: int, part_bytes: int, md5: str | None) -> Upload:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answer = await self._call("create_multipart_upload", Key=self.key(path))
        return Upload(path, answer["UploadId"], size_bytes, part_bytes)

    async def put_part(self, upload: Upload, number: int, data: bytes, md5: bytes) -> str:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answer = await self._call(
            "upload_part", Key=self.key(upload.path), UploadId=upload.id, PartNumber=number + 1, Body=_Sent(data),
            ContentMD5=base64.b64encode(md5).decode(),
        )  # fmt: skip
        tag = str(answer["ETag"])
        there = None if _is_encrypted(answer) else md5_of_etag(strong_etag(tag))
        if there is not None and there != md5.hex():
            raise CorruptError(f"the store has MD5 {there} of a part that was sent with {md5.hex()}")
        return tag

    async def finish(self, upload: Upload, parts: Sequence[str], md5s: Sequence[bytes]) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(parts, start=1)]
        answer = await self._call(
            "complete_multipart_upload",
            Key=self.key(upload.path),
            UploadId=upload.id,
            MultipartUpload={"Parts": listed},
        )
        # The answer begins before the work is done, so an error may come in a good answer.
        if "ETag" not in answer:
            raise BrokenAnswerError("the store did not say that it joined the parts")
        return None

    async def abort(self, upload: Upload) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        await self._call("abort_multipart_upload", Key=self.key(upload.path), UploadId=upload.id)

    def is_finished(self, upload: Upload, md5s: Sequence[bytes], there: RemoteFile) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        if there.size_bytes != upload.size_bytes:
            return False
        digest, dash, count = (there.identity or "").partition("-")
        if self._versions or not dash or len(digest) != 32:
            return True
        return (digest, count) == (hashlib.md5(b"".join(md5s)).hexdigest(), str(len(md5s)))

    async def copy(self, source: RemoteFile, path: str) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        await self._call("copy_object", Key=self.key(path), **self._source(source))

    async def copy_part(self, upload: Upload, number: int, source: RemoteFile) -> str:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        start = number * upload.part_bytes
        end = min(start + upload.part_bytes, upload.size_bytes)
        answer = await self._call(
            "upload_part_copy", Key=self.key(upload.path), UploadId=upload.id, PartNumber=number + 1,
            CopySourceRange=f"bytes={start}-{end - 1}", **self._source(source),
        )  # fmt: skip
        return str(answer["CopyPartResult"]["ETag"])

    async def remove(self, paths: Sequence[str]) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        if len(paths) == 1:
            await self._call("delete_object", Key=self.key(paths[0]))
            return
        for start in range(0, len(paths), 1000):
            named = [{"Key": self.key(path)} for path in paths[start : start + 1000]]
            answer = await self._call("delete_objects", Delete={"Objects": named, "Quiet": True})
            for problem in answer.get("Errors", []):
                raise _RemovalError(problem)

    def _source(self, file: RemoteFile) -> dict[str, Any]:
        named: dict[str, Any] = {"Bucket": self._bucket, "Key": self.key(file.path)}
        if self._versions:
            return {"CopySource": named | {"VersionId": file.identity or "null"}}
        return {"CopySource": named} | ({"CopySourceIfMatch": f'"{file.identity}"'} if file.identity else {})

    async def _call(self, method: str, **arguments: Any) -> Any:
        return await self._fs._call_s3(method, Bucket=self._bucket, **arguments)

    async def _page(self, token: str, **arguments: Any) -> tuple[Any, str]:
        if not self._versions:
            more = {"ContinuationToken": token} if token else {}
            page = await self._call("list_objects_v2", **arguments, **more)
            return page, _following(page, page.get("NextContinuationToken", ""))
        key, _, version = token.partition("\0")
        more = {"KeyMarker": key} | ({"VersionIdMarker": version} if version else {}) if token else {}
        page = await self._call("list_object_versions", **arguments, **more)
        key = page.get("NextKeyMarker", "")
        return page, _following(page, key and f"{key}\0{page.get('NextVersionIdMarker', '')}")

    def _files(self, page: Any) -> Sequence[RemoteFile]:
        listed = page.get("Versions" if self._versions else "Contents", [])
        return [
            self._described(self.path(each["Key"]), each, each["Size"])
            for each in listed
            # What ends in a slash stands for an empty folder.
            if not each["Key"].endswith("/") and each.get("IsLatest", True)
        ]

    def _described(self, path: str, answer: Any, size_bytes: int) -> RemoteFile:
        etag = strong_etag(answer.get("ETag"))
        version = answer.get("VersionId") if self._versions else None
        return RemoteFile(
            path=path,
            size_bytes=size_bytes,
            identity=version if version and version != "null" else etag,
            mtime_ns=nanoseconds(answer.get("LastModified")),
            md5=None if self._is_opaque(answer) else md5_of_etag(etag),
            parts_md5=None if self._is_opaque(answer) else parts_md5_of_etag(etag),
        )

    def _is_opaque(self, answer: Any) -> bool:
        """Whether an ETag may look like an MD5 and be none: with encryption, and in a directory bucket."""
        return _is_encrypted(answer) or self._bucket.endswith("--x-s3")


class _Sent(io.BytesIO):
    """Bytes to send, of which only a view is given: the HTTP library asks for it, and would get a copy."""

    def getbuffer(self) -> memoryview:
        return memoryview(self.getvalue())


def _following(page: Any, token: str) -> str:
    """Return the token of the next page; empty after the last one. A listing never just ends."""
    if not page.get("IsTruncated"):
        return ""
    if not token:
        raise BrokenAnswerError("the store did not say where its listing goes on")
    return token


def _text(value: Any) -> Any:
    return value


class _RemovalError(OSError):
    def __init__(self, problem: Mapping[str, str]) -> None:
        super().__init__(f"{problem.get('Key')}: {problem.get('Message')}")
        self.code = problem.get("Code")


def _decoded(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except binascii.Error:
        return b""


def _is_encrypted(answer: Any) -> bool:
    return answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer


async def _streamed(body: Any) -> AsyncIterator[bytes]:
    async with body as stream:
        while data := await stream.read(_CHUNK_BYTES):
            yield data
