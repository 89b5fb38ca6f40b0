from __future__ import annotations

import re

import pytest

from airflow_mlpipe.cli.load import load_pipeline
from airflow_mlpipe.errors import ConfigError, UsageError
from airflow_mlpipe.sdk.workspace import Workspace

HEAD = """
from airflow_mlpipe.sdk.pipeline import Pipeline
from airflow_mlpipe.sdk.steps import CommandStep
from airflow_mlpipe.sdk.workspace import Workspace
ws = Workspace.from_config()
def make(name):
    return Pipeline(ws, [CommandStep(name=name, command="true")])
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    Workspace.create("tests", path=tmp_path)

    def put(text, name="pipe.py", head=HEAD):
        (tmp_path / name).write_text(head + text)
        return name

    return put


@pytest.mark.parametrize(
    ("text", "target", "name"),
    [
        ("only = make('a')", "pipe.py", "a"),
        ("one = make('a')\npipeline = make('b')", "pipe.py", "b"),
        ("one = make('a')\ntwo = make('b')", "pipe.py:two", "b"),
        ("one = make('a')\nsame = one", "pipe.py", "a"),
    ],
)
def test_the_pipeline_is_the_named_one_or_the_only_one(write, text, target, name):
    write(text)
    pipeline, path = load_pipeline(target)
    assert [step.name for step in pipeline.steps] == [name]
    assert path.name == "pipe.py"


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "pipe.py", "no Pipeline at module level"),
        ("one = make('a')\ntwo = make('b')", "pipe.py", "several pipelines; say which: pipe.py:one, pipe.py:two"),
        ("one = make('a')", "pipe.py:two", "no Pipeline named 'two'; it has: one"),
        ("", "absent.py", "there is no file 'absent.py'"),
        ("", ".", "is a folder"),
        ("raise SystemExit(4)", "pipe.py", "ended with code 4"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, target, message):
    write(text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_pipeline(target)
    assert "\n" not in caught.value.message


def test_an_error_in_the_file_shows_the_users_own_lines_only(write):
    write("def deep():\n    return 1 / 0\n\ndeep()")
    with pytest.raises(UsageError) as caught:
        load_pipeline("pipe.py")
    text = caught.value.message
    assert "return 1 / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "load.py" not in text
    assert "importlib" not in text


def test_a_syntax_error_names_file_and_line(write):
    write("def f(:\n    pass\n", head="")
    with pytest.raises(UsageError, match=r"(?s)pipe\.py\", line 1.*SyntaxError"):
        load_pipeline("pipe.py")


def test_a_mistake_of_the_user_names_the_line_of_the_file(write):
    write("store = ws.datastores['nope']")
    line = HEAD.count("\n") + 1
    with pytest.raises(ConfigError, match=rf"'nope'.*\(pipe\.py:{line}\)"):
        load_pipeline("pipe.py")


def test_modules_beside_the_file_can_be_imported(write):
    write("NAME = 'beside'", name="neighbour.py", head="")
    write("import neighbour\npipeline = make(neighbour.NAME)")
    assert load_pipeline("pipe.py")[0].steps[0].name == "beside"


def test_a_file_may_be_called_like_a_module_it_uses(write):
    write("import json\nassert json.dumps\npipeline = make('a')", name="logging.py")
    assert load_pipeline("logging.py")[0].steps[0].name == "a"
