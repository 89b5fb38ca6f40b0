"""What a container prints, copied to the files of its try while it runs: each byte once, even if the stream drops.

The engine is asked for the container's log, not for its bare output: the log can be asked for again, and it says
when it is whole. What was copied is counted in the log's entries, and as many are passed over after a drop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from docker import APIClient

_HEADER_BYTES = 8
_STDERR = 2
_CHUNK_BYTES = 1 << 16
_PAUSE_S = 0.1
_TRIES = 5
_END_S = 2.0
_STALLED_S = 10.0
"""How long nothing may come of a container that has ended before its log is asked for again."""


class ContainerLog:
    """Copies the log of one container in a thread of its own."""

    def __init__(self, client: APIClient, container: str, stdout: Path, stderr: Path) -> None:
        """Prepare; nothing is read before :meth:`start`."""
        self._client = client
        self._container = container
        self._paths = (stdout, stderr)
        self._entries = 0
        self._last = b""
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._stream: Any = None
        self._trouble: BaseException | None = None
        # A task that is ended in the middle must not wait for it.
        self._thread = threading.Thread(target=self._run, name=f"log of {container[:12]}", daemon=True)

    def start(self) -> None:
        """Begin to copy; the container has been started."""
        self._thread.start()

    def finish(self) -> bool:
        """Copy what is left, now that the container has ended. Returns whether all of it was copied.

        Raises:
            OSError: if the files cannot be written.
        """
        self._ended.set()
        entries = -1
        stalled = 0
        while self._thread.is_alive():
            self._thread.join(_STALLED_S)
            if self._thread.is_alive() and entries == self._entries:
                stalled += 1
                if stalled == _TRIES:
                    self.give_up()
                    return False
                self._drop()
            entries = self._entries
        if isinstance(self._trouble, OSError) and self._trouble.errno is not None:
            raise self._trouble
        return self._trouble is None

    def give_up(self) -> None:
        """Copy no more: nobody needs it."""
        self._given_up.set()
        self._ended.set()
        self._drop()
        self._thread.join(_STALLED_S)

    def _drop(self) -> None:
        stream = self._stream
        if stream is not None:
            from docker.types.daemon import CancellableStream

            # Wakes whoever reads from it.
            with suppress(Exception):
                CancellableStream(iter(()), stream).close()

    def _run(self) -> None:
        try:
            with self._paths[0].open("ab", buffering=0) as stdout, self._paths[1].open("ab", buffering=0) as stderr:
                self._copy(stdout, stderr)
        except BaseException as error:
            self._trouble = error

    def _copy(self, stdout: BinaryIO, stderr: BinaryIO) -> None:
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        tries_left = _TRIES
        while not self._given_up.is_set():
            over = self._ended.is_set()
            try:
                for stream, content in self._entries_from(self._entries, follow=not over):
                    (stderr if stream == _STDERR else stdout).write(content)
                    self._entries += 1
                    self._last = content
                self._trouble = None
                # The stream has come to an end. With the container, of which others hear at once? A connection that
                # was cut may end in the same way.
                if (over or self._ended.wait(_END_S)) and self._has_last():
                    return
                if over:
                    tries_left -= 1
                    if not tries_left:
                        raise ConnectionError("the end of the log did not come")
            except (APIError, DockerException, RequestException, HTTPError, ConnectionError, TimeoutError) as error:
                self._trouble = error
                if over:
                    tries_left -= 1
                    if not tries_left:
                        return
                time.sleep(_PAUSE_S)

    def _has_last(self) -> bool:
        """Whether the last entry of the log of a container that has ended is the one that was copied last."""
        found = [content for _, content in self._entries_from(0, follow=False, tail="1")]
        return not found or found[-1] == self._last

    def _entries_from(self, passed: int, *, follow: bool, tail: str = "all") -> Iterator[tuple[int, bytes]]:
        """Yield the entries of the log behind the first `passed`: stream and content. Raises unless it comes whole."""
        client = self._client
        url = f"{client.base_url}/v{client.api_version}/containers/{self._container}/logs"
        wanted = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": tail}
        with client.get(url, params=wanted, stream=True, timeout=(client.timeout, None)) as response:
            response.raise_for_status()
            self._stream = response
            buffer = bytearray()
            for chunk in response.raw.stream(_CHUNK_BYTES):
                buffer += chunk
                at = 0
                while len(buffer) - at >= _HEADER_BYTES:
                    end = at + _HEADER_BYTES + int.from_bytes(buffer[at + 4 : at + _HEADER_BYTES], "big")
                    if len(buffer) < end:
                        break
                    if passed:
                        passed -= 1
                    else:
                        yield buffer[at], bytes(buffer[at + _HEADER_BYTES : end])
                    at = end
                del buffer[:at]
        self._stream = None
