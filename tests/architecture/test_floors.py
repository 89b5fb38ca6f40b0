"""The import contracts of setup.cfg: kept by the package, and able to catch what they forbid."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False)


def test_the_floors_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("model/digest.py", "import airflow", "Only engine/ knows Airflow"),
        ("sdk/__init__.py", "from docker import from_env", "Only engine/ knows Airflow"),
        ("storage/__init__.py", "from airflow_mlpipe.sdk import git", "Floors"),
        ("storage/__init__.py", "from airflow_mlpipe.catalog import rows", "Floors"),
        ("sdk/__init__.py", "import airflow_mlpipe.engine", "Floors"),
        ("model/step.py", "import sqlite3", "The model does no I/O"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, module: str, statement: str, contract: str) -> None:
    shutil.copytree(ROOT / "airflow_mlpipe", tmp_path / "airflow_mlpipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / "airflow_mlpipe" / module).open("a") as file:
        file.write(f"\n{statement}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), done.stdout[-4000:]


def test_a_module_outside_the_floors_is_caught(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "airflow_mlpipe", tmp_path / "airflow_mlpipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    (tmp_path / "airflow_mlpipe" / "attic.py").write_text("")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "attic" in done.stdout
