"""Names that a snapshot imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.storage.imports import imported_names, python_imports
from airflow_mlpipe.storage.snapshot import take_snapshot
from airflow_mlpipe.storage.stat_index import StatIndex


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import a, b.c as d", {"a", "b"}),
        ("from a.b import c", {"a"}),
        ("from . import x\nfrom .y import z\nfrom .. import w", set()),
        ("def f():\n  if 1:\n    import lazy", {"lazy"}),
        ("try:\n  import a\nexcept ImportError:\n  a = None", {"a"}),
        ("import importlib\nimportlib.import_module('x.y')\n__import__('z')", {"importlib", "x", "z"}),
        ("import_module('.rel')\nf('text')\n'import no'", set()),
        ("# import no\n'''\nimport no\n'''", set()),
        ("print 'two'\nimport a.b, c as d  # x\n  from e.f import g\n", {"a", "c", "e"}),
        ("\0import a", {"a"}),
        ("s = '\\d'; import a", {"a"}),
        ("# -*- coding: latin-1 -*-\nimport a  # \xe9", {"a"}),
        ("", set()),
    ],
)
def test_of_one_file(code: str, names: set[str]) -> None:
    found = imported_names(code.encode("latin-1"))
    # A NUL makes the whole file unreadable to the parser; the line then starts with it.
    assert found == (names if not code.startswith("\0") else set())


def test_of_a_snapshot_once_per_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "code"
    (source / "pkg").mkdir(parents=True)
    (source / "train.py").write_text("import numpy\nimport pkg.util")
    (source / "pkg" / "util.py").write_text("from sklearn.svm import SVC")
    (source / "notes.txt").write_text("import no")
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.py").write_text("import hidden")
    snapshot = take_snapshot(source, script="train.py")
    with StatIndex(tmp_path / "i.db") as index:
        assert python_imports(snapshot, index) == python_imports(snapshot) == {"numpy", "pkg", "sklearn"}
    monkeypatch.setattr("airflow_mlpipe.storage.imports.walk", lambda *_, **__: pytest.fail("it was read again"))
    with StatIndex(tmp_path / "i.db") as index:
        assert python_imports(snapshot, index) == {"numpy", "pkg", "sklearn"}
