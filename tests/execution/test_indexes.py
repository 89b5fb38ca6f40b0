from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.execution.indexes import RETIRED, host_variables, index_options

MINE = "https://packages.example.com/simple"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (f"--index-url {MINE}", ("--index-url", MINE)),
        (f"-i {MINE}/", ("--index-url", f"{MINE}/")),
        (f"--extra-index-url={MINE}", ("--extra-index-url", MINE)),
        (f"-f {MINE}", ("--find-links", MINE)),
        ("--pre", ("--prerelease", "allow")),
        ("--no-cache-dir", ()),
        (f"--extra-index-url https://{RETIRED[0]}azureedge.net/sdk-release/master/588E708E0DF342C4", ()),
    ],
)
def test_what_the_workspace_allows_is_used(option, words):
    assert index_options([option], [MINE], "environment 'e'") == words


def test_an_index_that_is_not_listed_gives_the_setting():
    with pytest.raises(
        ParameterError, match=r"environment 'e'.*\"package_indexes\": \[\"https://evil.example/simple\"\]"
    ):
        index_options(["--extra-index-url https://evil.example/simple"], [MINE], "environment 'e'")


@pytest.mark.parametrize(
    "option",
    [
        f"--index-url {MINE} --python /bin/sh",
        "--index-url https://user:secret@packages.example.com/simple",
        "--index-url file:///etc",
        "--index-url",
        "--python /bin/sh",
        "--config-settings x",
        "numpy",
        "'",
        f"--index-url {MINE}\n--pre",
    ],
)
def test_other_options_are_refused(option):
    with pytest.raises(ParameterError, match="is not allowed; give --index-url"):
        index_options([option], [MINE, "https://user:secret@packages.example.com/simple", "file:///etc"], "e")


def test_a_machine_s_settings_for_pip_count_unless_it_has_some_for_uv():
    assert host_variables({"PIP_INDEX_URL": "a", "PIP_CERT": "c", "OTHER": "x"}) == {
        "UV_DEFAULT_INDEX": "a",
        "SSL_CERT_FILE": "c",
    }
    assert host_variables({"PIP_INDEX_URL": "a", "UV_DEFAULT_INDEX": "b"}) == {"UV_DEFAULT_INDEX": "b"}
