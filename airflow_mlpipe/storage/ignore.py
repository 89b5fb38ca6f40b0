"""Which files of a source directory stay out of its snapshot, and which rule says so."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from airflow_mlpipe.errors import PipelineError

ALWAYS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".venv", ".mlpipe"})
"""Names hidden in every folder; so is everything that ends in ``.pyc``."""

AT_ROOT = frozenset({"outputs", "logs"})
"""Names hidden at the root: what a step writes there when it is run by hand."""

IGNORE_FILES = (".amlignore", ".gitignore")
"""Files with rules. Of those in one folder the first counts, as in v1."""


class Rule(NamedTuple):
    """A rule that hides a path.

    Attributes:
        text: the line as written.
        file: the ignore file, relative to the source directory; empty for a built-in rule.
        line: its line number, from 1; 0 for a built-in rule.
    """

    text: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """Return how a message names it."""
        if not self.file:
            return f"the built-in rule '{self.text}'"
        return f"rule '{self.text}' ({self.file}, line {self.line})"


class _Pattern(NamedTuple):
    hides: bool
    regex: re.Pattern[str]
    rule: Rule

    def matches(self, path: str) -> bool:
        """Whether it names this very path (folders end in a slash), not only a folder above it."""
        end = -1
        for match in self.regex.finditer(path):
            end = match.end("ps_d") if "ps_d" in self.regex.groupindex else -1
            end = len(path) if end < 0 else end
        return end == len(path)


class _Folder:
    """The patterns of one ignore file."""

    def __init__(self, patterns: list[_Pattern]) -> None:
        self._patterns = patterns
        # Most paths match nothing: one search says so for all patterns.
        texts = (pattern.regex.pattern.replace("(?P<ps_d>", "(?:") for pattern in patterns)
        self._any = re.compile("|".join(f"(?:{text})" for text in texts) or "(?!)")

    def last_match(self, path: str) -> _Pattern | None:
        if self._any.search(path) is None:
            return None
        return next((pattern for pattern in reversed(self._patterns) if pattern.matches(path)), None)


class IgnoreRules:
    """The rules of one source directory: built-in ones, and those of its ignore files with git's meaning.

    The last line that matches decides, files in deeper folders come first, and nothing below a hidden folder can
    be shown again. Built-in rules cannot be undone.

    Args:
        root: the source directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, _Folder] = {}

    def enter(self, prefix: str, names: Collection[str], fd: int) -> None:
        """Read the ignore file of a folder, if it has one.

        Args:
            prefix: the folder, empty or ending in a slash.
            names: what it may hold.
            fd: the folder, open.

        Raises:
            PipelineError: for a line that is not a pattern.
        """
        self._folders.pop(prefix, None)
        for name in IGNORE_FILES:
            text = _read(name, fd) if name in names else None
            if text is not None:
                self._folders[prefix] = _Folder(list(_patterns(text, prefix + name)))
                return

    def hides(self, path: str, is_dir: bool) -> bool:
        """Whether a rule hides `path`, whose parent folders are visible and were entered."""
        return self._rule(path, is_dir) is not None

    def explain(self, path: str) -> Rule | None:
        """Return the rule that hides `path` or a folder it lies in, or None if it is visible.

        Args:
            path: relative to the source directory, posix.
        """
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "".join(f"{part}/" for part in parts[: depth - 1])
            self._enter_path(prefix)
            here = prefix + parts[depth - 1]
            rule = self._rule(here, depth < len(parts) or (self._root / here).is_dir())
            if rule is not None:
                return rule
        return None

    def _enter_path(self, prefix: str) -> None:
        try:
            fd = os.open(self._root / prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # A path that does not exist has no rules of its own.
        try:
            self.enter(prefix, IGNORE_FILES, fd)
        finally:
            os.close(fd)

    def _rule(self, path: str, is_dir: bool) -> Rule | None:
        name = path[path.rfind("/") + 1 :]
        if name in ALWAYS:
            return Rule(name)
        if name.endswith(".pyc"):
            return Rule("*.pyc")
        if path in AT_ROOT:
            return Rule(f"/{path}")
        if not self._folders:
            return None
        whole = f"{path}/" if is_dir else path
        end = len(path)
        while end >= 0:
            end = path.rfind("/", 0, end)
            prefix = path[: end + 1]
            folder = self._folders.get(prefix)
            pattern = None if folder is None else folder.last_match(whole[len(prefix) :])
            if pattern is not None:
                return pattern.rule if pattern.hides else None
        return None


def _read(name: str, fd: int) -> str | None:
    """Return the text of an ignore file; None for one that is a link or no file: git does not follow it either."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        with os.fdopen(file, "rb") as stream:
            return stream.read().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    except OSError:
        return None


def _patterns(text: str, file: str) -> Iterable[_Pattern]:
    # Costs 20 ms to import: only source directories that have such a file pay it.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        try:
            pattern = GitIgnoreSpecPattern(line)
        except ValueError as error:
            raise PipelineError(f"'{line}' in {file}, line {number}, is not an ignore pattern: {error}") from error
        if pattern.include is not None and pattern.regex is not None:
            yield _Pattern(bool(pattern.include), pattern.regex, Rule(line.strip(), file, number))
