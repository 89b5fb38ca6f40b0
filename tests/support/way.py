"""A way to a server that can be cut: whoever goes by it finds nobody, or somebody who never answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BYTES = 1 << 16

Address = tuple[str, int] | str
"""A host and a port, or the path of a socket."""


class Way:
    """An address of its own that leads to a server. Open at first.

    Attributes:
        address: where it begins; it stays the same.
    """

    def __init__(self, server: Address, at: Address = ("127.0.0.1", 0)) -> None:
        """Lead to `server`; `at` is where to listen, any free port by default."""
        self._server = server
        self._lock = threading.Lock()
        self._pairs: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._answers = True
        self.address: Address = at
        self.open()

    def open(self) -> None:
        """Let everybody through, from now on."""
        self.cut()
        self._answers = True
        self._listen()

    def silence(self) -> None:
        """Let nobody through, as a server does that is stuck: it takes calls, and never answers."""
        self.cut()
        self._answers = False
        self._listen()

    def cut(self) -> None:
        """Break all connections, and refuse new ones, as a machine does whose server has been killed."""
        with self._lock:
            listener, self._listener = self._listener, None
            pairs, self._pairs = self._pairs, set()
        for each in [*pairs, *([] if listener is None else [listener])]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        if isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)

    def _listen(self) -> None:
        listener = socket.socket(_family(self.address))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(128)
        if not isinstance(self.address, str):
            self.address = listener.getsockname()
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                caller, _ = listener.accept()
                self._connect(listener, caller)

    def _connect(self, listener: socket.socket, caller: socket.socket) -> None:
        server = socket.socket(_family(self._server))
        with self._lock:
            if listener is not self._listener:
                # It was cut meanwhile.
                caller.close()
                server.close()
                return
            self._pairs |= {caller, server}
            answers = self._answers
        if not answers:
            return
        with suppress(OSError):
            server.connect(self._server)
        for one, other in ((caller, server), (server, caller)):
            threading.Thread(target=_relay, args=(one, other), daemon=True).start()


@contextmanager
def way_to(server: Address, at: Address = ("127.0.0.1", 0)) -> Iterator[Way]:
    """Lead to a server while the body runs."""
    way = Way(server, at)
    try:
        yield way
    finally:
        way.cut()


def _family(address: Address) -> int:
    return socket.AF_UNIX if isinstance(address, str) else socket.AF_INET


def _relay(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while content := one.recv(_BYTES):
            other.sendall(content)
    # The end of what one side says; the other may go on.
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
