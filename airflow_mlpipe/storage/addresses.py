"""Which addresses a web datastore may lead to: by default none of this machine or of a private network."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from airflow_mlpipe.storage.remote_errors import RefusedAddressError

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address lies on the public internet, also one that is wrapped into an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if inner is None and parsed in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


def open_public(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for a resolved address, as aiohttp asks for one: the last moment before the connection.

    Whatever led there - a name that resolves to another address each time, a redirect, a number in an odd form - this
    is the address that is used.

    Raises:
        RefusedAddressError: if it is not public.
    """
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise RefusedAddressError(
            f"it leads to {address[0]}, which is not a public address; register the datastore with allow_private=True "
            "if you mean it"
        )
    return socket.socket(family=family, type=kind, proto=protocol)
