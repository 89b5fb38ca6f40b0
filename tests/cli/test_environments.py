"""`environments list`, `build` and `gc` as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from settings import change_settings
from wheels import PackageIndex, only_index

from airflow_mlpipe import CondaDependencies, Environment, Workspace
from airflow_mlpipe.cli import main


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageIndex:
    index = only_index(tmp_path, monkeypatch)
    index.add("tool", "1")
    Workspace.create("w", path=tmp_path / "project")
    change_settings(tmp_path / "project", environments_dir=str(tmp_path / "built"))
    monkeypatch.chdir(tmp_path / "project")
    made = Environment("mine")
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=["tool"])
    made.register(Workspace.from_config())
    return index


def call(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["environments", *words])
    out = capsys.readouterr().out
    # However long the names of the tests' own folders are.
    shown = re.sub(r"/tmp/\S+", "/tmp/x", out)
    assert max(map(len, shown.splitlines()), default=0) <= 120 or "--json" in words
    return code, out


def test_list_build_gc(index: PackageIndex, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    code, out = call(capsys, "list")
    assert (code, out.split()) == (0, ["NAME", "VERSION", "ASKS", "FOR", "mine", "1", "tool"])
    code, out = call(capsys, "build", "mine")
    assert code == 0
    assert "building environment 'mine': 1 packages" in out
    assert "environment 'mine' is built: " in out
    index.add("tool", "2")
    view = json.loads(call(capsys, "build", "mine", "--json")[1])
    assert view["lock"]["packages"] == ["tool==2"]
    code, out = call(capsys, "list", "--curated")
    assert "AzureML-Tutorial" in out
    assert f"built in {tmp_path / 'built'}:" in out
    listed = json.loads(call(capsys, "list", "--json")[1])
    assert [each["name"] for each in listed["built"]] == ["mine", "mine"]
    code, out = call(capsys, "gc")
    assert (code, out.splitlines()[0]) == (0, "0 built environments, 0 bytes, to be removed")
    assert "kept: 2 used within 30d" in out
    code, out = call(capsys, "gc", "--unused-for", "0s")
    assert "'mlpipe environments gc --delete' does it" in out
    view = json.loads(call(capsys, "gc", "--unused-for", "0s", "--delete", "--json")[1])
    assert (len(view["found"]), view["kept"]) == (2, [])
    assert not [path for path in (tmp_path / "built").iterdir() if path.is_dir()]


def test_an_unknown_name_is_one_line(index: PackageIndex, capsys: pytest.CaptureFixture) -> None:
    assert main(["environments", "build", "AzureML-Tutorail"]) == 2
    assert "did you mean 'AzureML-Tutorial'" in capsys.readouterr().err
