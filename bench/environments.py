"""Environments: a cold one with scikit-learn beside what uv takes for the same packages; a warm one's cost a step."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from measure import Row, ratio_of, timed

from airflow_mlpipe.execution.provision import Environments, EnvironmentSettings, software_of
from airflow_mlpipe.execution.uv import find_uv, tool_variables
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.storage.datastore import LocalStore

SPEC = EnvironmentSpec(name="sklearn", pip_packages=("scikit-learn",))
PLACES = count()


def ours(folder: Path) -> None:
    """Resolve, keep the lock, build, record: all that the first step of a new environment waits for."""
    place = folder / f"ours{next(PLACES)}"
    environments = Environments(LocalStore("store", place / "store"), EnvironmentSettings(folder=str(place / "built")))
    venv = environments.venv(SPEC)
    assert venv is not None and venv.built
    venv.close()


def bare(folder: Path, packages: tuple[str, ...]) -> None:
    place = folder / f"bare{next(PLACES)}"
    for words in (["venv", str(place)], ["pip", "install", "--python", str(place / "bin" / "python"), *packages]):
        subprocess.run([find_uv(), *words], check=True, capture_output=True, env=tool_variables(), cwd=folder)


def fresh_cache(folder: Path) -> None:
    os.environ["UV_CACHE_DIR"] = str(folder / f"cache{next(PLACES)}")


def cold_cache(folder: Path, action) -> float:
    fresh_cache(folder)
    taken = timed(action)
    shutil.rmtree(os.environ["UV_CACHE_DIR"], ignore_errors=True)
    return taken


def part(folder: Path) -> Iterator[Row]:
    """Take each pair in turns. The least of each is compared: what else the machine and the network do only adds."""
    yield from _cold(folder)
    yield from _warm(folder)


def _cold(folder: Path) -> Iterator[Row]:
    packages = SPEC.pip_packages
    for what, rounds, measure in (
        ("nothing in uv's cache", 3, lambda action: cold_cache(folder, action)),
        ("wheels in uv's cache", 7, timed),
    ):
        if measure is timed:
            fresh_cache(folder)
            ours(folder)
        mine, theirs = ratio_of(
            rounds,
            lambda m=measure: m(lambda: ours(folder)),
            lambda m=measure: m(lambda: bare(folder, packages)),
        )
        measured = f"{mine:.2f} s; bare uv venv, uv pip install {theirs:.2f} s; ratio {mine / theirs:.2f}"
        yield f"a new environment with scikit-learn, {what}", measured, "<= 1.5"


def _warm(folder: Path) -> Iterator[Row]:
    store, settings = LocalStore("store", folder / "store"), EnvironmentSettings(folder=str(folder / "built"))

    def take() -> None:
        venv = Environments(store, settings).venv(SPEC)
        assert venv is not None
        software_of(SPEC, venv)
        venv.close()

    take()
    taken = [timed(take) for _ in range(200)]
    measured = f"{min(taken) * 1000:.1f} ms (median {statistics.median(taken) * 1000:.1f})"
    yield "a warm environment: its lock is read, it is looked at and taken into use", measured, "<= 50 ms"
    venv = Environments(store, settings).venv(SPEC)
    assert venv is not None

    def start(python: str) -> float:
        return timed(lambda: subprocess.run([python, "-c", "pass"], check=True))

    mine, theirs = ratio_of(40, lambda: start(str(venv.python)), lambda: start(sys.executable))
    venv.close()
    measured = f"{mine * 1000:.1f} ms; the current interpreter {theirs * 1000:.1f} ms"
    yield "its interpreter starts and ends", measured
