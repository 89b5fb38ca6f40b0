"""Docker's own client, without a socket left open where nobody listens.

The library closes no socket of its own by which it cannot connect: each try would hold a descriptor until the garbage
is collected, and an engine that is away is asked many times.
"""

from __future__ import annotations

import socket
from typing import Any

from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class Client(APIClient):
    """Docker's client, with such connections to engines of this machine."""

    def mount(self, prefix: str, adapter: Any) -> None:
        """Use an adapter for addresses that begin with `prefix`."""
        if type(adapter) is UnixHTTPAdapter:
            adapter = _Adapter(adapter.socket_path, adapter.timeout, max_pool_size=adapter.max_pool_size)
        super().mount(prefix, adapter)


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: str, proxies: Any = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            if url not in self.pools:
                self.pools[url] = _Pool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
            return self.pools[url]


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> UnixHTTPConnection:
        return _Connection(self.base_url, self.socket_path, self.timeout)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except BaseException:
            made.close()
            raise
        self.sock = made
