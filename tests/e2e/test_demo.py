"""``make demo`` in a folder of its own: three runs, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe import Experiment, PipelineRun, Workspace

ROOT = Path(__file__).resolve().parents[2]

STEPS = ("prepare", "train_logistic", "train_forest", "compare", "register")

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def run_demo(folder: Path) -> str:
    """Runs the copy of the demo in `folder` and returns what it printed."""
    done = subprocess.run(
        [sys.executable, folder / "examples" / "digits" / "demo.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runs_of(folder: Path) -> list[PipelineRun]:
    """Returns all runs, oldest first."""
    return list(Experiment(Workspace.from_config(folder), "digits").get_runs())[::-1]


def reused(run: PipelineRun) -> set[str]:
    return {step.name for step in run.get_steps() if step.is_reused}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the demo has run once, and what it printed."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: make test installs it")
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return folder, run_demo(folder)


def test_everything_runs_then_nothing_then_what_depends_on_the_change(demo: tuple[Path, str]) -> None:
    first, second, third = runs_of(demo[0])
    assert [run.status for run in (first, second, third)] == ["Completed"] * 3
    assert [step.name for step in first.get_steps()] == list(STEPS)
    assert reused(first) == set()
    assert reused(second) == set(STEPS)
    # The forest still wins: compare writes the same bytes as before, and the wave stops there.
    assert reused(third) == {"prepare", "train_forest", "register"}
    assert [run.engine for run in (first, second, third)] == ["embedded", "none", "embedded"]


def test_a_reused_run_says_the_same(demo: tuple[Path, str]) -> None:
    first, second, _ = runs_of(demo[0])
    assert first.get_metrics() == second.get_metrics()
    assert second.get_metrics()["test_accuracy"] > 0.9
    assert second.get_tags() == first.get_tags()
    assert second.get_tags()["winner"] == "forest"


def test_the_model_is_registered_once_and_is_the_winner(demo: tuple[Path, str]) -> None:
    import joblib
    from sklearn.ensemble import RandomForestClassifier

    model = Workspace.from_config(demo[0]).models["digits"]
    assert model.version == 1
    assert model.tags["kind"] == "forest"
    assert isinstance(joblib.load(model.path_on_disk()), RandomForestClassifier)


def test_it_tells_what_happened_and_why(demo: tuple[Path, str]) -> None:
    _, printed = demo
    assert printed.count("no earlier result") == 5
    assert "parameter regularization: 0.1 -> 1.0" in printed
    assert "5 ran, 0 reused" in printed
    assert "0 ran, 5 reused" in printed
    assert "2 ran, 3 reused" in printed
    assert "train_images\u00a01078" in printed
    assert ".mlpipe/stores/workspaceblobstore/models/digits/1" in printed
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 100


def test_a_second_demo_is_honest_and_tries_something_new(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    printed = run_demo(folder)
    fourth, fifth, sixth = runs_of(folder)[3:]
    assert reused(fourth) == reused(fifth) == set(STEPS)
    assert printed.count("0 ran, 5 reused") == 2
    assert sixth.parameters["regularization"] == 0.3
    assert "train_logistic" not in reused(sixth)
