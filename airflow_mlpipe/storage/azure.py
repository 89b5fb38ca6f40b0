"""Azure Blob Storage, and Data Lake Storage gen 2 through the same interface."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.storage.checksum import Checksum
from airflow_mlpipe.storage.driver import CONNECT_S, Body, Rooted, Upload, nanoseconds, strong_etag
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, trouble_of

# How often the state of a copy is asked for, in seconds.
_LOOK_S = 0.5
_CLOUD = "core.windows.net"
_OURS = ("endpoint", "protocol")
_SCOPE = "https://storage.azure.com/.default"


class AzureDriver(Rooted):
    """A container, or a folder of one.

    Args:
        name: of the datastore.
        container: its name.
        host: ``account.dfs.core.windows.net`` of the URL; empty if `options` tell the account.
        prefix: the folder; empty for all.
        options: of adlfs, and ``endpoint`` - the whole URL of the account, or what follows ``blob.`` in it - and
            ``protocol``, as in v1.
        answer_s: longest wait for bytes of an answer, in seconds.

    Raises:
        ConfigError: if no account is named.
    """

    parallel_parts = True
    whole_md5 = True
    part_bytes = 8 << 20
    max_parts = 50_000
    copied_bytes = 1 << 62

    def __init__(
        self, name: str, container: str, host: str, prefix: str, options: Mapping[str, Any], answer_s: float
    ) -> None:
        super().__init__(prefix)
        self._container = container
        # Once: what is tried again, and for how long, is decided in one place for all stores.
        self._call: dict[str, Any] = {"connection_timeout": CONNECT_S, "read_timeout": answer_s, "retry_total": 0}
        self._options, self.server, self._url = _settings(name, host, options)
        self._versions = bool(options.get("version_aware"))
        self._fs: Any = None

    async def connect(self) -> None:
        """Make the client: with what opens the account, else with the login of this machine, else with nothing.

        As in v1, a container that everybody may read needs no key.
        """
        self._make_client()
        if await self._is_read_as_anybody():
            await self._fs.service_client.close()
            self._options = _anonymous(self._options, self._url)
            self._make_client()

    def _make_client(self) -> None:
        self._fs = self.filesystem()
        self._client = self._fs.service_client.get_container_client(self._container)

    async def _is_read_as_anybody(self) -> bool:
        """Whether no key or token was given, nobody is logged in here, and the container lets anybody list it."""
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity.aio import DefaultAzureCredential
        from azure.storage.blob.aio import ContainerClient

        login = self._fs.credential
        if not isinstance(login, DefaultAzureCredential):
            return False
        try:
            await login.get_token(_SCOPE)
        except ClientAuthenticationError:
            pass
        else:
            return False
        async with ContainerClient(self._url, self._container) as anybody:
            try:
                async for _ in anybody.list_blobs(results_per_page=1, **self._call).by_page():
                    break
            except Exception:
                # Whatever it is: what is asked next says it, of a client that has told who it is.
                return False
        return True

    async def close(self) -> None:
        """Close the client."""
        if self._fs is not None:
            await self._fs.service_client.close()

    def filesystem(self) -> Any:
        """Return an adlfs file system."""
        import adlfs

        return adlfs.AzureBlobFileSystem(skip_instance_cache=True, use_listings_cache=False, **self._options)

    async def create(self) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        await self._client.create_container(**self._call)

    async def clock(self) -> str | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answers: list[Any] = []
        listed = self._client.list_blobs(
            name_starts_with=self.key("") or None, results_per_page=1, raw_response_hook=answers.append, **self._call
        ).by_page()
        await anext(listed)
        told: str | None = answers[-1].http_response.headers.get("Date")
        return told

    async def stat(self, path: str) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        try:
            found = await self._blob(path).get_blob_properties(**self._call)
        except Exception as error:
            if trouble_of(error) == "missing":
                return None
            raise
        return None if _is_folder(found) else self._described(path, found)

    async def page(self, prefix: str, token: str) -> tuple[Sequence[RemoteFile], str]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        listed = self._client.list_blobs(
            name_starts_with=self.key(prefix) or None, include=["metadata"], **self._call
        ).by_page(continuation_token=token or None)
        found = [blob async for blob in await anext(listed)]
        files = [self._described(self.path(blob.name), blob) for blob in found if not _is_folder(blob)]
        return files, listed.continuation_token or ""

    async def level(self, folder: str) -> tuple[list[str], list[RemoteFile]]:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        prefix = self.key(f"{folder}/" if folder else "")
        folders: list[str] = []
        files: list[RemoteFile] = []
        async for each in self._client.walk_blobs(
            name_starts_with=prefix or None, include=["metadata"], delimiter="/", **self._call
        ):
            name = each.name.removeprefix(prefix)
            if name.endswith("/") or _is_folder(each):
                folders.append(name.rstrip("/"))
            elif name:
                files.append(self._described(self.path(each.name), each))
        return [each for each in folders if each], files

    async def has_any(self, prefix: str) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        listed = self._client.list_blobs(
            name_starts_with=self.key(prefix) or None, results_per_page=1, **self._call
        ).by_page()
        async for page in listed:
            async for _ in page:
                return True
        return False

    async def get(self, path: str, start: int, end: int | None, expected: RemoteFile | None) -> Body:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        asked: dict[str, Any] = dict(self._call)
        if expected is not None and expected.identity:
            if self._versions:
                asked["version_id"] = expected.identity
            else:
                from azure.core import MatchConditions

                asked |= {"etag": expected.identity, "match_condition": MatchConditions.IfNotModified}
        if (start, end) != (0, None):
            asked |= {"offset": start} | ({} if end is None else {"length": end - start})
        answer = await self._blob(path).download_blob(**asked)
        found = answer.properties
        # Of a range the size is that of the range.
        _, _, total = (found.content_range or "").rpartition("/")
        if total.isdigit():
            found.size = int(total)
        return Body(self._described(path, found), answer.chunks())

    async def checksum(self, file: RemoteFile, *, is_sure: bool = False) -> Checksum | None:
        """Return None: a blob tells an MD5 or nothing."""
        return None

    async def put(self, path: str, data: bytes, md5: bytes) -> RemoteFile:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        answer = await self._blob(path).upload_blob(
            io.BytesIO(data),
            length=len(data),
            overwrite=True,
            validate_content=True,
            content_settings=_settled(md5),
            **self._call,
        )
        return self._written(path, len(data), answer, md5.hex())

    async def begin(self, path: str, size_bytes: int, part_bytes: int, md5: str | None) -> Upload:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        return Upload(path, "", size_bytes, part_bytes, md5)

    async def put_part(self, upload: Upload, number: int, data: bytes, md5: bytes) -> str:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        block = base64.b64encode(f"{number:06d}-{upload.md5}".encode()).decode()
        await self._blob(upload.path).stage_block(
            block, io.BytesIO(data), length=len(data), validate_content=True, **self._call
        )
        return block

    async def finish(self, upload: Upload, parts: Sequence[str], md5s: Sequence[bytes]) -> RemoteFile | None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        from azure.storage.blob import BlobBlock

        whole = bytes.fromhex(upload.md5 or "")
        await self._blob(upload.path).commit_block_list(
            [BlobBlock(block_id=part) for part in parts], content_settings=_settled(whole), **self._call
        )
        return None

    async def abort(self, upload: Upload) -> None:
        """Do nothing: blocks that are not committed vanish by themselves."""

    def is_finished(self, upload: Upload, md5s: Sequence[bytes], there: RemoteFile) -> bool:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        return (there.size_bytes, there.md5) == (upload.size_bytes, upload.md5)

    async def copy(self, source: RemoteFile, path: str) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""
        from azure.core import MatchConditions

        # Of a version its own URL tells; else the ETag.
        version = source.identity if self._versions else None
        same = {} if version or not source.identity else {
            "source_etag": source.identity, "source_match_condition": MatchConditions.IfNotModified
        }  # fmt: skip
        target = self._blob(path)
        origin = self._client.get_blob_client(self.key(source.path), version_id=version)
        answer = await target.start_copy_from_url(origin.url, **same, **self._call)
        while (state := answer["copy_status"]) == "pending":
            await asyncio.sleep(_LOOK_S)
            copied = (await target.get_blob_properties(**self._call)).copy
            answer = {"copy_status": copied.status}
        if state != "success":
            raise BrokenAnswerError(f"the store did not copy '{source.path}': {state}")

    async def copy_part(self, upload: Upload, number: int, source: RemoteFile) -> str:
        """Refuse: one request copies a file of any size.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    async def remove(self, paths: Sequence[str]) -> None:
        """See :class:`~airflow_mlpipe.storage.driver.Driver`."""

        async def one(path: str) -> None:
            try:
                await self._blob(path).delete_blob(delete_snapshots="include", **self._call)
            except Exception as error:
                if trouble_of(error) != "missing":
                    raise

        for start in range(0, len(paths), 32):
            await asyncio.gather(*(one(path) for path in paths[start : start + 32]))

    def _blob(self, path: str) -> Any:
        return self._client.get_blob_client(self.key(path))

    def _described(self, path: str, found: Any) -> RemoteFile:
        md5 = found.content_settings.content_md5 if found.content_settings else None
        version = found.version_id if self._versions else None
        return RemoteFile(
            path=path,
            size_bytes=int(found.size),
            identity=version or strong_etag(found.etag),
            mtime_ns=nanoseconds(found.last_modified),
            md5=bytes(md5).hex() if md5 else None,
        )

    def _written(self, path: str, size_bytes: int, answer: Mapping[str, Any], md5: str | None) -> RemoteFile:
        version = answer.get("version_id") if self._versions else None
        return RemoteFile(
            path, size_bytes, version or strong_etag(answer.get("etag")), nanoseconds(answer.get("last_modified")), md5
        )


def _is_folder(blob: Any) -> bool:
    # Data Lake gen 2 lists its folders as blobs.
    return blob.name.endswith("/") or (getattr(blob, "metadata", None) or {}).get("hdi_isfolder") == "true"


def _settled(md5: bytes) -> Any:
    from azure.storage.blob import ContentSettings

    return ContentSettings(content_md5=bytearray(md5))


def _anonymous(settings: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return the options of adlfs for an account at `url` that nothing opens."""
    kept = {option: value for option, value in settings.items() if option not in ("account_name", "account_host")}
    return {**kept, "connection_string": f"BlobEndpoint={url}"}


def _settings(name: str, host: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Return the options of adlfs, the server that is asked, and its URL, empty if a connection string has it."""
    settings = {option: value for option, value in options.items() if option not in _OURS}
    account = settings.get("account_name") or host.partition(".")[0]
    if settings.get("connection_string"):
        return settings, "the account of its connection string", ""
    if not account:
        raise ConfigError(
            f"datastore '{name}': no storage account is named; give account_name=, or a URL like "
            "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER"
        )
    settings["account_name"] = account
    endpoint = str(options.get("endpoint") or (host.partition(".")[2].partition(".")[2] if host else "") or _CLOUD)
    protocol = str(options.get("protocol") or "https")
    url = endpoint if "://" in endpoint else f"{protocol}://{account}.blob.{endpoint}"
    server = urlsplit(url).netloc
    if url == f"https://{account}.blob.{_CLOUD}":
        return settings, server, url
    # adlfs knows other places by a connection string alone, if a key or a token of the account opens them.
    if settings.get("account_key") or settings.get("sas_token"):
        opened = (
            f"AccountKey={settings.pop('account_key')}"
            if settings.get("account_key")
            else f"SharedAccessSignature={str(settings.pop('sas_token')).lstrip('?')}"
        )
        settings["connection_string"] = f"BlobEndpoint={url};AccountName={account};{opened}"
    else:
        settings["account_host"] = server
    return settings, server, url
