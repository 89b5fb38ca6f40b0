"""Which modules a snapshot imports: what decides which installed distributions belong to a step's identity."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.records import open_record
from airflow_mlpipe.storage.source import Snapshot
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.walk import walk

_FACT = "imports-1"
_LINE = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+([^#;\n]+))", re.MULTILINE)
_CALLS = frozenset({"import_module", "__import__"})


def python_imports(snapshot: Snapshot, index: StatIndex | None = None) -> frozenset[str]:
    """Return the top-level names of all modules that the snapshot's ``.py`` files import, its own included.

    Conditional and local imports count, and ``importlib.import_module`` and ``__import__`` of a literal name. A file
    that is not valid Python is searched line by line. Derived once per digest if there is an index.

    Raises:
        StorageError: if a file cannot be read.
    """
    known = None if index is None else index.fact(_FACT, snapshot.digest)
    if known is not None:
        return frozenset(known)
    names: set[str] = set()
    found = walk(snapshot.source, rules=IgnoreRules(snapshot.source))
    for record in found.records:
        if record[0].endswith(".py") and record[1] in ("file", "exec"):
            with open_record(found.root, record) as file, system_errors("read", Path(found.root, record[0])):
                names |= imported_names(file.read())
    if index is not None:
        index.remember(_FACT, snapshot.digest, sorted(names))
    return frozenset(names)


def imported_names(code: bytes) -> frozenset[str]:
    """Return the top-level names of the modules that one file imports."""
    try:
        # Invalid escapes and the like are the author's business.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset(_by_line(code.decode("utf-8", "replace")))
    return frozenset(name.partition(".")[0] for node in ast.walk(tree) for name in _of_node(node) if name)


def _of_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level == 0 and node.module:
            yield node.module
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
        if called in _CALLS and isinstance(node.args[0].value, str) and not node.args[0].value.startswith("."):
            yield node.args[0].value


def _by_line(text: str) -> Iterator[str]:
    for match in _LINE.finditer(text):
        if match[1]:
            yield match[1]
        else:
            for item in match[2].split(","):
                word = re.match(r"\s*(\w+)", item)
                if word:
                    yield word[1]
