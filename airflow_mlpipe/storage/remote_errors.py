"""What goes wrong with a remote datastore, told in one way whichever library said it, and without a secret."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Literal

from airflow_mlpipe.errors import (
    ConfigError,
    DigestMismatchError,
    MissingDataError,
    MlpipeError,
    PermissionDeniedError,
    StorageError,
    UnreachableError,
)
from airflow_mlpipe.storage.credentials import variable_prefix

Trouble = Literal[
    "missing", "denied", "unreachable", "busy", "stalled", "broken", "corrupt", "changed", "exists", "refused", "other"
]
"""Kinds of failure: ``busy`` (the store asks to come again), ``stalled`` (no answer in time) and ``broken`` (an answer
that is not whole) may pass; ``unreachable`` may too, but soon or not at all; after ``corrupt`` (bytes that are not
those of the checksum) everything is to be moved anew."""

PASSING: frozenset[Trouble] = frozenset({"busy", "stalled", "broken", "unreachable"})

_MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NoSuchUpload", "ContainerNotFound", "BlobNotFound", "404"}
_DENIED = {
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnauthorizedAccess", "403", "401",
}  # fmt: skip
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "ServerBusy", "OperationAborted", "Throttling", "429"}
_BROKEN = {"IncompleteBody", "RequestTimeout"}
_CORRUPT = {"BadDigest", "Md5Mismatch", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
_EXISTS = {"BucketAlreadyExists", "BucketAlreadyOwnedByYou", "ContainerAlreadyExists", "BlobAlreadyExists", "409"}
# By name: the libraries are not to be imported for the sake of an error that another one raised.
_BY_CLASS: dict[str, Trouble] = {
    "NoCredentialsError": "denied",
    "PartialCredentialsError": "denied",
    "CredentialRetrievalError": "denied",
    "TokenRetrievalError": "denied",
    "UnauthorizedSSOTokenError": "denied",
    "ProfileNotFound": "denied",
    "ClientAuthenticationError": "denied",
    "CredentialUnavailableError": "denied",
    "DefaultCredentialsError": "denied",
    "RefreshError": "denied",
    "ResourceNotFoundError": "missing",
    "ResourceExistsError": "exists",
    "ResourceModifiedError": "changed",
    "ReadTimeoutError": "stalled",
    "ConnectTimeoutError": "unreachable",
    "ConnectionTimeoutError": "unreachable",
    "ServerTimeoutError": "stalled",
    "ServiceResponseTimeoutError": "stalled",
    "ServiceRequestTimeoutError": "unreachable",
    "EndpointConnectionError": "unreachable",
    "ClientConnectorError": "unreachable",
    "ServiceRequestError": "unreachable",
    "TransportError": "unreachable",
    "FlexibleChecksumError": "corrupt",
    "CorruptError": "corrupt",
    "ClientPayloadError": "broken",
    "IncompleteReadError": "broken",
    "ServerDisconnectedError": "broken",
    "ClientOSError": "broken",
    "ConnectionClosedError": "broken",
    "HTTPClientError": "broken",
    "ResponseParserError": "broken",
    "ResponseStreamingError": "broken",
    "ServiceResponseError": "broken",
    "ContentLengthError": "broken",
}
_SECRET_TEXT = re.compile(
    r"(?i)((?:[?&](?:sig|sv|se|st|sp|skoid|sktid)=)|(?:token|secret|password|signature|credential|x-amz-[a-z-]+|"
    r"accountkey|authorization)[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic)\s+)?)[^\s&;,\"')>]+"
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_LONGEST = 300


class ChangedError(StorageError):
    """A file is another one by now than when it was listed."""


class BrokenAnswerError(OSError):
    """What came is not all that was asked for."""


class CorruptError(OSError):
    """Bytes came out at the other end that are not those of their checksum."""


class RefusedAddressError(Exception):
    """An address that a datastore may not lead to. No OSError: those make a connection try the next address."""


class HttpStatusError(OSError):
    """A store answered with a status that means no."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"HTTP {status} {reason}".strip())


def trouble_of(error: BaseException) -> Trouble:
    """Return what kind of failure `error` is."""
    for each in _chain(error):
        kind = _by_code(each) or _by_type(each)
        if kind is not None:
            return kind
    return "other"


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` in one line, without `secrets` and without what looks like one."""
    for secret in sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USER_INFO.sub("***@", _SECRET_TEXT.sub(r"\1***", text))
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def explained(
    error: BaseException, store: str, url: str, action: str, secrets: Iterable[str], where: str
) -> MlpipeError:
    """Return `error` as one of ours, which says datastore, reason and what to check.

    Args:
        error: what a library raised.
        store: name of the datastore.
        url: where it lies.
        action: what was to be done, with the path.
        secrets: what must not appear.
        where: the server that is asked.
    """
    if isinstance(error, MlpipeError):
        return error
    kind = trouble_of(error)
    reason = redacted(_reason(error), secrets)
    head = f"datastore '{store}' ({url}): cannot {action}: {reason}"
    variable = f"{variable_prefix(store)}<OPTION>"
    if kind == "missing":
        return MissingDataError(f"{head}; check the path, and that the bucket or container exists")
    if kind == "denied":
        clock = ", and the clock of this machine" if "skew" in reason.lower() else ""
        return PermissionDeniedError(
            f"{head}; check its credentials and what they allow: the connection named by conn_id, the variables "
            f"{variable}, what was given when it was registered, or the cloud's own login{clock}"
        )
    if kind in ("unreachable", "stalled"):
        return UnreachableError(f"{head}; check that {where} can be reached from here, and the datastore's endpoint")
    if kind == "corrupt":
        return DigestMismatchError(f"{head}; try again, and check the network and {where} if it stays")
    if kind == "changed":
        return ChangedError(f"{head}: it has changed since it was listed; try again")
    if kind in PASSING:
        return StorageError(f"{head}; try again later, and check the state of {where}")
    return ConfigError(head) if kind == "refused" else StorageError(head)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _by_code(error: BaseException) -> Trouble | None:
    """Return the kind by the code that the store gave."""
    codes = {str(each) for each in (getattr(error, "code", None), getattr(error, "error_code", None)) if each}
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(error, "status", None)
    if isinstance(response, dict):
        codes.add(str(response.get("Error", {}).get("Code", "")))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", status)
    if not isinstance(status, int):
        status = next((int(code) for code in codes if code.isdigit()), None)
    for known, kind in _KNOWN_CODES:
        if codes & known:
            return kind
    if status is None or status < 400:
        return None
    if status in (401, 403, 407):
        return "denied"
    if status in (404, 410):
        return "missing"
    if status == 501:
        return "refused"
    if status in (408, 425, 429) or status >= 500:
        return "busy"
    if status == 409:
        return "exists"
    return "changed" if status == 412 else None


def _by_type(error: BaseException) -> Trouble | None:
    for cls in type(error).__mro__:
        if cls.__name__ in _BY_CLASS:
            return _BY_CLASS[cls.__name__]
    for types, kind in _KNOWN_TYPES:
        if isinstance(error, types):
            return kind
    return None


_KNOWN_CODES: tuple[tuple[set[str], Trouble], ...] = (
    (_MISSING, "missing"),
    (_DENIED, "denied"),
    (_BUSY, "busy"),
    (_BROKEN, "broken"),
    (_CORRUPT, "corrupt"),
    (_EXISTS, "exists"),
    ({"PreconditionFailed", "ConditionNotMet", "SourceConditionNotMet", "412"}, "changed"),
    ({"NotImplemented", "501"}, "refused"),
)
_KNOWN_TYPES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Trouble], ...] = (
    (RefusedAddressError, "refused"),
    (FileNotFoundError, "missing"),
    (PermissionError, "denied"),
    (ConnectionRefusedError, "unreachable"),
    (socket.gaierror, "unreachable"),
    ((TimeoutError, asyncio.TimeoutError), "stalled"),
    ((ConnectionError, BrokenAnswerError, asyncio.IncompleteReadError), "broken"),
)


def _reason(error: BaseException) -> str:
    # What follows are ids of the request and the answer's markup.
    text = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    for each in _chain(error):
        response = getattr(each, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        code = code or getattr(each, "error_code", None)
        if code and not str(code).isdigit():
            return f"{text} ({code})" if str(code) not in text else text
    if not text:
        return {"TimeoutError": "no answer in time"}.get(name, name)
    return text
