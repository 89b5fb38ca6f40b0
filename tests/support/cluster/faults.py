"""What tests make go wrong: calls that fail, logs that break off, images that take their time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class CallFault:
    """The next calls of a kind are refused.

    Attributes:
        path: a regular expression, searched in the call's path with its query.
        method: GET, POST, PATCH, DELETE; empty for any.
        code: of the answer; 0 breaks the connection instead.
        done: the call is carried out before its answer is lost; with ``code`` 0 only.
        times: how many calls.
        after: how many calls of the kind go well before.
        retry_after_s: what the answer says of when to try again, if anything.
        delay_s: how long the answer takes; with ``code`` 200 the call goes well afterwards.
    """

    path: str
    method: str = ""
    code: int = 503
    done: bool = False
    times: int = 1
    after: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0

    def meets(self, method: str, path: str) -> bool:
        """Return whether a call is to fail, and count it."""
        if self.times <= 0 or self.method not in ("", method) or not re.search(self.path, path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class LogFault:
    """The next streams of logs break off.

    Attributes:
        after_bytes: how much of each is sent before.
        times: how many streams.
    """

    after_bytes: int = 0
    times: int = 1


@dataclass
class Faults:
    """All that is to go wrong.

    Attributes:
        calls: refused calls.
        logs: broken streams.
        pull_s: how long each image takes, by name; a name that is not there takes no time.
    """

    calls: list[CallFault] = field(default_factory=list)
    logs: list[LogFault] = field(default_factory=list)
    pull_s: dict[str, float] = field(default_factory=dict)

    def of_call(self, method: str, path: str) -> CallFault | None:
        """Return the fault of a call, or None."""
        return next((fault for fault in self.calls if fault.meets(method, path)), None)

    def of_log(self) -> LogFault | None:
        """Return the fault of the next stream, or None."""
        for fault in self.logs:
            if fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def clear(self) -> None:
        """Let all go well again."""
        self.calls.clear()
        self.logs.clear()
        self.pull_s.clear()
