"""Where a pipeline's code stands in git, as properties of the run."""

from __future__ import annotations

import os
import re
from pathlib import Path

GIT_TIMEOUT_S = 5.0
"""Git answers in milliseconds; on a hung network file system the run goes on without its facts."""

_ENVIRONMENT = {
    "AZUREML_GIT_REPOSITORY_URI": ("azureml.git.repository_uri", "mlflow.source.git.repoURL"),
    "AZUREML_GIT_BRANCH": ("azureml.git.branch", "mlflow.source.git.branch"),
    "AZUREML_GIT_COMMIT": ("azureml.git.commit", "mlflow.source.git.commit"),
    "AZUREML_GIT_DIRTY": ("azureml.git.dirty",),
    "AZUREML_GIT_BUILD_ID": ("azureml.git.build_id",),
    "AZUREML_GIT_BUILD_URI": ("azureml.git.build_uri",),
}
"""v1's variables and the properties they set."""


def git_properties(folder: Path) -> dict[str, str]:
    """Return repository, branch, commit and dirty flag of the work tree around `folder` under v1's names.

    Variables ``AZUREML_GIT_*`` override what git says. Empty outside a repository or without git.
    """
    facts = _facts(folder) if _inside_repository(folder) else {}
    for variable in _ENVIRONMENT:
        if value := os.environ.get(variable):
            facts[variable] = without_credentials(value) if variable.endswith("_URI") else value
    return {name: value for variable, value in facts.items() for name in _ENVIRONMENT[variable]}


def without_credentials(url: str) -> str:
    """Return a repository's URL without the user and password or token that may stand in it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    if scheme.startswith("ssh"):
        # The user of an ssh address (git@) is part of the address; what follows a colon in it is a password.
        user, at, name = host.rpartition("@")
        host = f"{user.partition(':')[0]}{at}{name}"
    else:
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}"


def _inside_repository(folder: Path) -> bool:
    folder = folder.resolve()
    return any((place / ".git").exists() for place in (folder, *folder.parents))


def _facts(folder: Path) -> dict[str, str]:
    # One process for commit, branch and dirty: the budget of a fully reused run has no room for three.
    # Our own folder does not count: running a pipeline must not make its repository dirty.
    paths = ("--", ":/", ":(top,exclude,glob)**/.mlpipe/**")
    status = _git(folder, "--no-optional-locks", "status", "--porcelain=v2", "--branch", *paths)
    if status is None:
        return {}
    heads = dict(re.findall(r"^# branch\.(\w+) (.*)$", status, re.MULTILINE))
    changed = any(line and not line.startswith("#") for line in status.splitlines())
    facts = {"AZUREML_GIT_DIRTY": str(changed)}
    if re.fullmatch(r"[0-9a-f]{40,64}", heads.get("oid", "")):
        facts["AZUREML_GIT_COMMIT"] = heads["oid"]
    if heads.get("head", "(detached)") != "(detached)":
        facts["AZUREML_GIT_BRANCH"] = heads["head"]
    if url := _git(folder, "config", "--get", "remote.origin.url"):
        facts["AZUREML_GIT_REPOSITORY_URI"] = without_credentials(url.strip())
    return facts


def _git(folder: Path, *arguments: str) -> str | None:
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
