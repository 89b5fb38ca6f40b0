"""A proxy in front of a store's server that does to single requests what networks and servers do now and then."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["busy", "unknown", "stall", "stall midway", "truncate", "cut", "flip", "flip upload", "late", "trickle"]
"""``busy`` answers 503 without asking, ``unknown`` 501; ``stall`` never answers; ``stall midway`` stops after half of
the body; ``truncate`` ends the connection there; ``cut`` at once; ``flip`` turns one bit of the answer's body, ``flip
upload`` one of the request's; ``late`` answers 500 after the work was done; ``trickle`` sends single bytes."""


@dataclass
class Fault:
    """What happens to requests.

    Attributes:
        kind: what.
        when: which ones, by method and path with its query.
        times: how often; None for always.
        hide_checksums: whether the checksums that the server adds are taken out: not every server adds them.
        hits: how often it happened.
    """

    kind: Kind
    when: Callable[[str, str], bool] = lambda method, path: True
    times: int | None = None
    hide_checksums: bool = False
    hits: int = 0


@dataclass
class Proxy:
    """The proxy.

    Attributes:
        url: its address.
        faults: the first that applies happens.
        requests: method and path of every request.
        sent_bytes: bytes of bodies that were sent to the client.
        pace: waited for before each byte that is trickled.
        headers: replaced in every answer of the server; None takes one out.
    """

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    sent_bytes: int = 0
    pace_s: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what is to happen to a request, and count it."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if (fault.times is None or fault.hits < fault.times) and fault.when(method, path):
                    fault.hits += 1
                    return fault
        return None


@contextmanager
def proxying(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before the server at `upstream` until the body ends."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError, TimeoutError):
                super().handle_one_request()

        def do_GET(self) -> None:
            _Exchange(self, proxy).run()

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Exchange:
    def __init__(self, handler: BaseHTTPRequestHandler, proxy: Proxy) -> None:
        self._handler = handler
        self._proxy = proxy

    def run(self) -> None:
        handler = self._handler
        data = self._request_body()
        fault = self._proxy.fault(handler.command, handler.path)
        kind = fault.kind if fault else None
        if kind == "busy":
            self._send(503, [], b"<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>")
        elif kind == "unknown":
            self._send(501, [], b"<Error><Code>NotImplemented</Code><Message>What?</Message></Error>")
        elif kind == "stall":
            self._proxy.ended.wait()
            handler.close_connection = True
        elif kind == "cut":
            self._reset()
        else:
            if kind == "flip upload" and data:
                data = _flipped(data)
            status, headers, body = self._ask(data, drop_md5=kind == "flip upload")
            replaced = {name.lower(): value for name, value in self._proxy.headers.items()}
            headers = [(name, replaced.get(name.lower(), value)) for name, value in headers]
            headers = [(name, value) for name, value in headers if value is not None]
            if fault is not None and fault.hide_checksums:
                headers = [pair for pair in headers if "checksum" not in pair[0].lower()]
            self._answer(kind, status, headers, body)

    def _answer(self, kind: str | None, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if kind == "late":
            self._send(500, [], b"<Error><Code>InternalError</Code><Message>Sorry</Message></Error>")
        elif kind == "flip" and body:
            self._send(status, headers, _flipped(body))
        elif kind == "truncate":
            self._send(status, headers, body, stop=len(body) // 2)
            self._reset()
        elif kind == "stall midway":
            self._send(status, headers, body, stop=len(body) // 2)
            self._proxy.ended.wait()
            self._handler.close_connection = True
        elif kind == "trickle":
            self._send(status, headers, body, stop=0)
            for start in range(len(body)):
                self._proxy.ended.wait(self._proxy.pace_s)
                self._handler.wfile.write(body[start : start + 1])
        else:
            self._send(status, headers, body)

    def _ask(self, data: bytes | None, drop_md5: bool) -> tuple[int, list[tuple[str, str]], bytes]:
        handler = self._handler
        connection = http.client.HTTPConnection(urlsplit(self._proxy.upstream).netloc, timeout=60)
        skipped = {"transfer-encoding", "connection", "expect"} | ({"content-md5"} if drop_md5 else set())
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in skipped}
        try:
            connection.request(handler.command, handler.path, body=data, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, stop: int | None = None) -> None:
        handler = self._handler
        handler.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body[:stop])
            with self._proxy.lock:
                self._proxy.sent_bytes += len(body[:stop])

    def _request_body(self) -> bytes | None:
        handler = self._handler
        if "chunked" in handler.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(handler.rfile.readline().split(b";")[0], 16):
                data += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
            return data
        length = int(handler.headers.get("Content-Length") or 0)
        if handler.headers.get("Expect", "").lower() == "100-continue":
            handler.send_response_only(100)
            handler.end_headers()
        return handler.rfile.read(length) if length else None

    def _reset(self) -> None:
        """End the connection as a broken network does."""
        handler = self._handler
        handler.close_connection = True
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
