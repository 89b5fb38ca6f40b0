from __future__ import annotations

import pytest

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution.uv import run_tool, tool_variables


def test_tools_see_nothing_of_the_engine_s_secrets():
    parent = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "secret",
        "AIRFLOW_CONN_X": "secret",
        "MLPIPE_METADATA_CONN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PYTHONPATH": "/ours",
        "UV_INDEX": "https://mine.example/simple",
    }
    variables = tool_variables(parent)
    assert "secret" not in variables.values()
    assert "PYTHONPATH" not in variables
    assert variables["UV_INDEX"] == "https://mine.example/simple"
    assert variables["UV_PYTHON_DOWNLOADS"] == "never"


def test_a_tool_that_fails_is_told_in_one_line(tmp_path):
    said = []
    with pytest.raises(EnvironmentBuildError) as error:
        run_tool(
            ["/bin/sh", "-c", "echo '  × No solution'; echo 'error: no'; echo '  ╰─▶ because' >&2; exit 3"],
            "x",
            say=said.append,
        )
    assert error.value.message == "x: because"
    assert said == ["  ╰─▶ because"]
    with pytest.raises(EnvironmentBuildError, match="x: sh ended with code 3"):
        run_tool(["/bin/sh", "-c", "exit 3"], "x")


def test_what_it_prints_is_the_answer_and_it_works_nowhere_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_tool(["/bin/sh", "-c", "pwd; echo progress >&2"], "x").strip() != str(tmp_path)
