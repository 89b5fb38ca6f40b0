from __future__ import annotations

import subprocess

import pytest

from airflow_mlpipe.sdk.git import git_properties, without_credentials


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("REPOSITORY_URI", "BRANCH", "COMMIT", "DIRTY", "BUILD_ID", "BUILD_URI"):
        monkeypatch.delenv(f"AZUREML_GIT_{name}", raising=False)
    # What the developer's own settings say must not decide.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "work")
    (tmp_path / "train.py").write_text("print(1)\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("remote", "add", "origin", "https://user:secret@example.com/team/repo.git")
    return tmp_path


def test_a_clean_repository_is_described_under_both_names(repository):
    found = git_properties(repository)
    assert found["azureml.git.branch"] == found["mlflow.source.git.branch"] == "work"
    assert len(found["azureml.git.commit"]) == 40
    assert found["azureml.git.dirty"] == "False"
    assert found["azureml.git.repository_uri"] == "https://example.com/team/repo.git"


def test_a_changed_or_new_file_makes_it_dirty(repository):
    (repository / "new.py").write_text("")
    assert git_properties(repository)["azureml.git.dirty"] == "True"


def test_our_own_folder_does_not(repository):
    (repository / "sub" / ".mlpipe").mkdir(parents=True)
    (repository / "sub" / ".mlpipe" / "catalog.db").write_text("x")
    assert git_properties(repository / "sub")["azureml.git.dirty"] == "False"


def test_outside_a_repository_there_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_properties(tmp_path) == {}


def test_variables_override_what_git_says(repository, monkeypatch):
    monkeypatch.setenv("AZUREML_GIT_BRANCH", "release")
    monkeypatch.setenv("AZUREML_GIT_REPOSITORY_URI", "https://token@example.com/x.git")
    found = git_properties(repository)
    assert found["azureml.git.branch"] == found["mlflow.source.git.branch"] == "release"
    assert found["azureml.git.repository_uri"] == "https://example.com/x.git"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:pw@h/x.git", "https://h/x.git"),
        ("https://h/a@b.git", "https://h/a@b.git"),
        ("ssh://git@h:22/x.git", "ssh://git@h:22/x.git"),
        ("ssh://git:pw@h/x.git", "ssh://git@h/x.git"),
        ("git@h:team/x.git", "git@h:team/x.git"),
        ("/srv/x.git", "/srv/x.git"),
    ],
)
def test_credentials_are_taken_out(url, expected):
    assert without_credentials(url) == expected
