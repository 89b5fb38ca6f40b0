"""Ignore rules mean what they mean to git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.storage.ignore import IgnoreRules, Rule
from airflow_mlpipe.storage.walk import walk

PATHS = [
    "a.log", "keep.log", "b.txt", "data/x.csv", "data/keep.csv", "src/a.py", "src/data/y.csv", "src/deep/z.py",
    "src/deep/n.log", "build/out.o", "lib/build/out.o", "sp ace.txt", "#hash", "!bang", "é.txt", "src/build", "a/b/c/d",
]  # fmt: skip

RULES = {
    "names": "*.log\n!keep.log\n",
    "anchored": "/data/\n/a.log\n",
    "folders only": "build/\n",
    "folder content, but": "data/*\n!data/keep.csv\n",
    "hidden folders stay hidden": "data/\n!data/keep.csv\n",
    "only python": "*\n!*/\n!*.py\n",
    "any depth": "**/deep/*.py\nsrc/**/y.csv\na/**\n",
    "escapes": "\\#hash\n\\!bang\nsp\\ ace.txt\n",
    "comments, blanks, CRLF": "# all\r\n\r\n   \r\n*.txt\r\n",
    "classes": "[ab].*\n?eep.log\n",
    "middle slash anchors": "src/a.py\nbuild/out.o\n",
    "the last line decides": "*.py\n!a.py\nsrc/a.py\n!a.py\n",
    "not utf-8 friendly": "é.txt\n",
}


def plant(root: Path, paths: list[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


def visible(root: Path) -> set[str]:
    return {record[0] for record in walk(root, rules=IgnoreRules(root)).records if record[1] != "dir"}


def git_sees(root: Path) -> set[str]:
    command = ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others", "--exclude-standard"]
    subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
    done = subprocess.run(command, cwd=root, check=True, capture_output=True)
    return {name.decode() for name in done.stdout.split(b"\0") if name}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("nested", ["", "*.csv\n", "!*.log\n/deep\n!a.py\n"])
def test_as_git_does(name: str, nested: str, tmp_path: Path) -> None:
    plant(tmp_path, PATHS)
    (tmp_path / ".gitignore").write_bytes(RULES[name].encode())
    if nested:
        (tmp_path / "src" / ".gitignore").write_text(nested)
    assert visible(tmp_path) == git_sees(tmp_path)


def test_always_hidden(tmp_path: Path) -> None:
    hidden = [
        ".git/config", "pkg/__pycache__/m.pyc", "m.pyc", ".ipynb_checkpoints/n.ipynb", ".venv/bin/x", "pkg/.mlpipe/c",
        "outputs/model.pkl", "logs/l.txt",
    ]  # fmt: skip
    shown = ["train.py", "pkg/outputs/o", "pkg/logs/l", ".github/w", "venv/x", "outputs.py"]
    plant(tmp_path, hidden + shown)
    (tmp_path / ".gitignore").write_text("!outputs\n!.git\n!*.pyc\n")
    assert visible(tmp_path) == {*shown, ".gitignore"}


def test_amlignore_stands_before_gitignore_in_its_folder(tmp_path: Path) -> None:
    plant(tmp_path, ["a.csv", "b.txt", "sub/a.csv", "sub/b.txt"])
    (tmp_path / ".amlignore").write_text("/*.csv\n.*\n")
    (tmp_path / ".gitignore").write_text("*.txt\n")
    (tmp_path / "sub" / ".gitignore").write_text("*.txt\n")
    assert visible(tmp_path) == {"b.txt", "sub/a.csv"}


@pytest.mark.parametrize(
    ("path", "rule", "words"),
    [
        ("src/deep/z.py", Rule("deep/", "src/.gitignore", 2), "rule 'deep/' (src/.gitignore, line 2)"),
        ("data/x.csv", Rule("/data", ".gitignore", 1), "rule '/data' (.gitignore, line 1)"),
        ("outputs/train.py", Rule("/outputs"), "the built-in rule '/outputs'"),
        ("pkg/__pycache__/x.py", Rule("__pycache__"), "the built-in rule '__pycache__'"),
        ("src/a.py", None, "None"),
        ("not/there.py", None, "None"),
    ],
)
def test_the_rule_that_hides_a_path_is_found(path: str, rule: Rule | None, words: str, tmp_path: Path) -> None:
    plant(tmp_path, [*PATHS, "outputs/train.py", "pkg/__pycache__/x.py"])
    (tmp_path / ".gitignore").write_text("/data\n")
    (tmp_path / "src" / ".gitignore").write_text("# here\ndeep/\n")
    found = IgnoreRules(tmp_path).explain(path)
    assert found == rule
    assert str(found) == words


def test_an_ignore_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plant(root, ["a.py"])
    (tmp_path / "rules").write_text("*.py\n")
    (root / ".gitignore").symlink_to("../rules")
    assert visible(root) == {"a.py", ".gitignore"}


def test_a_line_that_is_no_pattern_is_named(tmp_path: Path) -> None:
    plant(tmp_path, ["a.py"])
    (tmp_path / ".amlignore").write_text("ok\n!\n")
    with pytest.raises(PipelineError, match=r"'!' in \.amlignore, line 2"):
        visible(tmp_path)
