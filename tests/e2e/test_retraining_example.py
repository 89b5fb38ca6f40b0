"""examples/retraining, which starts an S3 server and a PostgreSQL server of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import emulators
import postgres
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "retraining"
ABSENT = emulators.missing(emulators.MOTO) or postgres.missing()

pytestmark = [pytest.mark.airflow, pytest.mark.s3, pytest.mark.postgres]


def demo() -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    command = [sys.executable, str(EXAMPLE / "demo.py")]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
def test_a_changed_row_reaches_only_what_reads_it_and_a_better_model_is_registered():
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    # Title, steps, title, steps, ...
    _, *runs = re.split(r"\n\d of 4: .*\n", done.stdout)
    words = [dict(line.split()[:2] for line in run.splitlines() if line.startswith("  ")) for run in runs]
    every = ("count", "label", "train", "register")
    assert words == [
        dict.fromkeys(every, "completed"),
        dict.fromkeys(every, "reused"),
        {**dict.fromkeys(every, "completed"), "count": "reused"},
        dict.fromkeys(every, "reused"),
    ]
    assert "label     completed  input customers: its content changed" in runs[2]
    assert "model churn, newest version: 2" in runs[3]
    assert "published in the bucket, published/churn: /model.json" in runs[3]


def test_it_says_what_is_not_installed(tmp_path: Path):
    folder = tmp_path / "examples" / "retraining"
    shutil.copytree(EXAMPLE, folder)
    done = subprocess.run(
        [sys.executable, str(folder / "demo.py")], env={"PATH": ""}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "no moto_server: make emulators, or pip install 'moto[s3,server]'" in done.stdout
