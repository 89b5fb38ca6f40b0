"""A way to a Docker engine that loses connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BYTES = 1 << 16


class LossyWay:
    """A socket that leads to an engine, and cuts the streams of logs.

    Attributes:
        url: where it listens.
        cuts: how many streams are still to be cut.
        after_bytes: how much of a stream comes through before.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self.url = f"unix://{path}"
        self.cuts = 0
        self.after_bytes = 0
        self._engine = engine.removeprefix("unix://")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, socket.socket(socket.AF_UNIX) as engine, suppress(OSError):
            engine.connect(self._engine)
            asked: list[bytes] = []
            threading.Thread(target=self._relay, args=(caller, engine, asked), daemon=True).start()
            passed = 0
            while content := engine.recv(_BYTES):
                caller.sendall(content)
                passed += len(content)
                if self.cuts and asked and b"/logs" in asked[-1] and passed > self.after_bytes:
                    self.cuts -= 1
                    caller.shutdown(socket.SHUT_RDWR)
                    return
            caller.shutdown(socket.SHUT_RDWR)

    def _relay(self, caller: socket.socket, engine: socket.socket, asked: list[bytes]) -> None:
        with suppress(OSError):
            while content := caller.recv(_BYTES):
                asked.append(content.partition(b"\r\n")[0])
                engine.sendall(content)


@contextmanager
def lossy_way(path: Path, engine: str) -> Iterator[LossyWay]:
    """Lead to `engine` at the socket `path`."""
    way = LossyWay(path, engine)
    try:
        yield way
    finally:
        way.close()
