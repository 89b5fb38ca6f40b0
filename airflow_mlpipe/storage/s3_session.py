"""What the S3 clients of a process share: the description of the service, and the certificates that they trust.

Reading both takes two thirds of what a client costs, 60 of 94 ms, and neither changes. They hold no connection, no
thread and no secret, so a process that forks others reads them once for all of them (:func:`load`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader

_OF_ITS_OWN = frozenset({"client_cert", "http_session_cls", "proxies", "proxies_config"})
"""Settings of a client that change what it trusts or shows: one with any of them shares no certificates."""


def new_session(**settings: Any) -> AioSession:
    """Return a session that reads the description of the service once a process; all else is its own.

    Args:
        **settings: of the session, such as ``profile``.

    Raises:
        botocore.exceptions.ProfileNotFound: if it names a profile that does not exist.
    """
    session = _spare() if not settings else AioSession(**settings)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


def trusting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a client with what lets it use certificates that were read already."""
    return dict(config) if _OF_ITS_OWN & config.keys() else {"http_session_cls": _Trusting, **config}


def load() -> None:
    """Read it all now, as far as it can be known before a client is made; what is wrong is said by the clients."""
    with suppress(BotoCoreError, OSError):
        session = new_session()
        loader = session.get_component("data_loader")
        for name in ("_retry", "endpoints", "partitions", "sdk-default-configuration"):
            loader.load_data_with_path(name)
        for kind in ("service-2", "endpoint-rule-set-1"):
            # With the very arguments of the library, under which the answer is kept.
            loader.load_service_model("s3", kind, api_version=None)
        trusted = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE", True)
        if hasattr(AIOHTTPSession, "_build_verify_context"):
            _Trusting(verify=trusted)._build_verify_context()
    # One that has read no file and no variable.
    _unused.append(AioSession())


_unused: list[AioSession] = []


def _spare() -> AioSession:
    return _unused.pop() if _unused else AioSession()


@cache
def _loader(data_path: str | None) -> Loader:
    return create_loader(data_path)


class _Trusting(AIOHTTPSession):  # type: ignore[misc]
    """The HTTP session of a client, which reads a file of certificates only if it has changed.

    A library that has no such method to be replaced reads them for each client.
    """

    def _build_verify_context(self) -> ssl.SSLContext:
        if isinstance(self._verify, bool):
            return _context(self._verify)
        file = Path(self._verify).stat()
        return _context(self._verify, (file.st_ino, file.st_mtime_ns, file.st_size))


@cache
def _context(verify: bool | str, _version: tuple[int, int, int] | None = None) -> ssl.SSLContext:
    """Return what a client trusts; `_version` changes with the file that `verify` names."""
    context: ssl.SSLContext = AIOHTTPSession(verify=verify)._build_verify_context()
    return context
