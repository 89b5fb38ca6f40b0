"""Patterns of paths: ``*`` and ``?`` within one name, ``**`` over folders, ``[abc]`` as in a shell."""

from __future__ import annotations

import re
from collections.abc import Callable

_MAGIC = re.compile(r"[*?[]")


def is_pattern(path: str) -> bool:
    """Whether `path` has a character that makes it a pattern."""
    return _MAGIC.search(path) is not None


def split_pattern(pattern: str) -> tuple[str, Callable[[str], bool]]:
    """Return the folder in which every match lies, and a test of paths relative to that folder.

    Args:
        pattern: normalised, posix. ``folder/**`` accepts every file below `folder`, ``**/*.csv`` also those at the top.
    """
    parts = pattern.split("/")
    plain = 0
    # The last part is a name to match even if it has nothing special.
    while plain < len(parts) - 1 and not is_pattern(parts[plain]):
        plain += 1
    regex = re.compile(_translate(parts[plain:]), re.DOTALL)
    return "/".join(parts[:plain]), lambda path: regex.fullmatch(path) is not None


def _translate(parts: list[str]) -> str:
    text = ""
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == "**":
            text += ".+" if last else "(?:[^/]+/)*"
        else:
            text += _translate_name(part) + ("" if last else "/")
    return text


def _translate_name(name: str) -> str:
    text, at = "", 0
    while at < len(name):
        char = name[at]
        close = name.find("]", at + 2) if char == "[" else -1
        if close > 0:
            body = name[at + 1 : close].replace("\\", "\\\\").replace("[", "\\[")
            text += "[^/" + body[1:] + "]" if body[0] in "!^" else f"(?!/)[{body}]"
            at = close
        else:
            text += "[^/]*" if char == "*" else "[^/]" if char == "?" else re.escape(char)
        at += 1
    return text
