"""What a step's container prints, line by line: none is lost and none comes twice, however often the stream breaks."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Protocol

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

_AGAIN_S = 0.5
_MARGIN_S = 30
"""By how much the clocks of the cluster and of this machine may differ."""
_WINDOW_NS = 2_000_000_000
"""How far lines may be out of order: two streams are written down beside each other."""
_LAST_READS = 5
_TIMEOUT_S = (10.0, 300.0)
_NS = 1_000_000_000

OnLine = Callable[[bytes], None]
"""Takes a line without its end."""


class Reader(Protocol):
    """Opens the log of a container, each line with its time."""

    def __call__(self, *, follow: bool, since_s: int | None, timeout_s: tuple[float, float]) -> Any:
        """Return the open response; `since_s` is how old the oldest line may be, by the cluster's clock."""


class PodLog:
    """Follows the log of one container in a thread of its own.

    Args:
        read: opens the log.
        on_line: given each line.
        on_end: called whenever a stream ends: most likely the container has ended.
    """

    def __init__(self, read: Reader, on_line: OnLine, on_end: Callable[[], None] = lambda: None) -> None:
        self._read = read
        self._on_line = on_line
        self._on_end = on_end
        self._seen: Counter[tuple[int, bytes]] = Counter()
        self._order: deque[tuple[int, bytes]] = deque()
        self._latest: int | None = None
        self._received_at = time.monotonic()
        self._over = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod log", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self, timeout_s: float) -> bool:
        """Read to the end, now that the container has ended. Returns whether that was done in time."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._given_up.set()
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Read no further."""
        self._given_up.set()
        self._over.set()

    def _run(self) -> None:
        last_reads = 0
        while not self._given_up.is_set():
            over = self._over.is_set()
            try:
                self._take(follow=not over)
                whole = True
            except ApiException as error:
                if error.status == 404:
                    return
                whole = False
            except (HTTPError, OSError):
                whole = False
            # Only a stream that was opened after the container's end surely has all of it.
            if over and (whole or last_reads >= _LAST_READS):
                return
            last_reads += over
            self._on_end()
            self._over.wait(_AGAIN_S) if not over else self._given_up.wait(_AGAIN_S)

    def _take(self, follow: bool) -> None:
        before, floor = Counter(self._seen), self._latest
        response = self._read(follow=follow, since_s=self._since_s(), timeout_s=_TIMEOUT_S)
        with closing(response):
            for raw in _lines(response, last=not follow):
                if self._given_up.is_set():
                    return
                at_ns, text = _parsed(raw)
                if at_ns is None:
                    # A part of what was printed before: only where the line was whole may the stream go on.
                    text, at_ns = raw, self._latest or 0
                elif floor is not None and at_ns <= floor:
                    if at_ns < floor - _WINDOW_NS:
                        continue
                    if before[(at_ns, text)] > 0:
                        before[(at_ns, text)] -= 1
                        continue
                self._note(at_ns, text)
                self._on_line(text)

    def _note(self, at_ns: int, text: bytes) -> None:
        self._received_at = time.monotonic()
        self._latest = max(self._latest or 0, at_ns)
        self._seen[(at_ns, text)] += 1
        self._order.append((at_ns, text))
        while self._order and self._order[0][0] < self._latest - _WINDOW_NS:
            old = self._order.popleft()
            self._seen[old] -= 1
            if not self._seen[old]:
                del self._seen[old]

    def _since_s(self) -> int | None:
        if self._latest is None:
            return None
        age_s = max(time.monotonic() - self._received_at, time.time() - self._latest / _NS)
        return math.ceil(age_s) + _MARGIN_S


def _lines(response: Any, last: bool) -> Iterator[bytes]:
    """Give each line of a response; with `last` also one without an end: before, the stream may just have broken."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest and last:
        yield rest


def _parsed(raw: bytes) -> tuple[int | None, bytes]:
    """Split a line into its time, in ns since the epoch, and its text; None if it begins with no time."""
    stamp, _, text = raw.partition(b" ")
    moment, _, rest = stamp.decode("ascii", "replace").partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if rest else ""
    try:
        at = datetime.fromisoformat(f"{moment}{zone}")
    except ValueError:
        return None, raw
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * _NS + int(digits.ljust(9, "0")[:9] or 0), text
