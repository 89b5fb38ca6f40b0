from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.execution.core import core_digest, core_requirements
from airflow_mlpipe.execution.image_recipe import image_recipe
from airflow_mlpipe.model.environment import EnvironmentLock

LOCK = EnvironmentLock(definition="b3:0", python="3.11", packages=("numpy==2.4.6", "pandas==3.0.0"))


def test_the_same_lock_and_base_give_the_same_recipe():
    first, second = image_recipe(LOCK, "python:3.11-slim"), image_recipe(LOCK, "python:3.11-slim")
    assert first == second
    others = [
        image_recipe(LOCK, "python:3.12-slim"),
        image_recipe(LOCK.model_copy(update={"packages": ("numpy==2.4.6",)}), "python:3.11-slim"),
        image_recipe(None, "python:3.11-slim"),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 4


def test_packages_and_core_are_in_it():
    recipe = image_recipe(LOCK, "registry.example:5000/team/base@sha256:0")
    assert recipe.dockerfile.startswith("FROM registry.example:5000/team/base@sha256:0\n")
    lines = recipe.files["requirements.txt"].decode().splitlines()
    assert lines == ["numpy==2.4.6", "pandas==3.0.0", *core_requirements()]
    chosen = LOCK.model_copy(update={"core": ("pip==26.3", "rich==15.0.0"), "core_of": core_digest()})
    assert image_recipe(chosen, "base").files["requirements.txt"].decode().splitlines() == [*lines[:2], "rich==15.0.0"]
    assert not any(line.startswith("uv") for line in lines)
    assert "core/airflow_mlpipe/__init__.py" in recipe.files
    assert not any("__pycache__" in path for path in recipe.files)


def test_where_packages_come_from_stands_in_no_file(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@packages.example.com/simple")
    recipe = image_recipe(LOCK, "base")
    assert all(b"secret@" not in content for path, content in recipe.files.items() if path == "requirements.txt")
    assert "secret@" not in recipe.dockerfile
    # What a Dockerfile names as an argument stays in the history of the image.
    assert [line for line in recipe.dockerfile.splitlines() if "ARG" in line] == ["ARG PIP_TRUSTED_HOST"]


def test_allowed_options_are_pip_s():
    lock = LOCK.model_copy(update={"index_options": ("--index-url", "https://x/a b", "--prerelease", "allow")})
    assert " --index-url 'https://x/a b' --pre --requirement " in image_recipe(lock, "base").dockerfile


@pytest.mark.parametrize("base", ["", "-x", "a b", "a\nRUN evil", "$x"])
def test_a_base_that_is_no_name_is_refused(base):
    with pytest.raises(ParameterError, match="is not the name of an image"):
        image_recipe(LOCK, base)


def test_what_conda_chose_makes_no_image():
    with pytest.raises(ParameterError, match="conda"):
        image_recipe(LOCK.model_copy(update={"conda": ("numpy=1=0",)}), "base")
