"""What a machine tells the build of an image."""

from __future__ import annotations

import subprocess

import pytest

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.image_arguments import INDEXES, TAKE_INDEXES, plain_arguments, recipe_arguments

INDEX, EXTRA = "https://a.example.com/simple?x=*", "https://b.example.com/simple https://c.example.com/simple"


def taken(arguments: dict[str, str]) -> list[str]:
    """What a shell of the build has afterwards: index, further indexes, and what had carried both."""
    show = f'{TAKE_INDEXES}; printf "%s|" "$PIP_INDEX_URL" "$PIP_EXTRA_INDEX_URL" "${INDEXES}"'
    done = subprocess.run(["/bin/sh", "-c", show], env=arguments, capture_output=True, text=True, check=True)
    return done.stdout.split("|")[:3]


@pytest.mark.parametrize(
    ("index", "extra"),
    [(INDEX, EXTRA), (INDEX, ""), ("", EXTRA), ("https://u:p%40%25@a.example.com/simple", "")],
)
def test_indexes_arrive_as_they_are(tmp_path, index, extra):
    environ = {"PIP_INDEX_URL": index, "PIP_EXTRA_INDEX_URL": extra, "HOME": str(tmp_path), "https_proxy": "http://p"}
    arguments = recipe_arguments((), "base", environ)
    assert set(arguments) == {INDEXES, "HTTPS_PROXY"}
    assert taken(arguments) == [index, extra, ""]


def test_a_base_that_has_its_own_index_or_proxy_keeps_it(tmp_path):
    assert recipe_arguments({INDEXES}, "base", {"HOME": str(tmp_path)}) == {}
    kept = {"PIP_INDEX_URL": INDEX, INDEXES: "http://proxy:3128"}
    assert taken(kept) == [INDEX, "", "http://proxy:3128"]
    with pytest.raises(ConfigError, match="base image 'corporate:1' sets the variable FTP_PROXY, by which this mach"):
        recipe_arguments({INDEXES}, "corporate:1", {"HOME": str(tmp_path), "PIP_INDEX_URL": INDEX})


def test_a_login_comes_from_the_machines_netrc(tmp_path):
    (tmp_path / ".netrc").write_text("machine a.example.com login ada password p@ss/word\n")
    environ = {"PIP_INDEX_URL": INDEX, "PIP_EXTRA_INDEX_URL": EXTRA, "HOME": str(tmp_path)}
    index, extra, _ = taken(recipe_arguments((), "base", environ))
    assert index == "https://ada:p%40ss%2Fword@a.example.com/simple?x=*"
    assert extra == EXTRA
    own = {**environ, "PIP_INDEX_URL": "https://bob:own@a.example.com/simple"}
    assert taken(recipe_arguments((), "base", own))[0] == own["PIP_INDEX_URL"]
    # Whoever wrote a Dockerfile may print what its build is told.
    assert plain_arguments(environ)["PIP_INDEX_URL"] == INDEX


def test_a_netrc_that_is_no_netrc_is_told_without_what_is_in_it(tmp_path):
    (tmp_path / "netrc").write_text("machine a.example.com login ada\nsecret words\n")
    environ = {"PIP_INDEX_URL": INDEX, "NETRC": str(tmp_path / "netrc")}
    with pytest.raises(ConfigError, match=r"netrc', line \d: logins of package indexes cannot be read") as error:
        recipe_arguments((), "base", environ)
    assert "secret" not in error.value.message
