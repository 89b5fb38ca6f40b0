"""A step fills the disk: it fails, says so, leaves no result and makes room for the record of its failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlpipe import Experiment, MlpipeError, Pipeline, PipelineData, PythonScriptStep, Workspace

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

FILL = """
import sys
with open(sys.argv[1], "wb") as f:
    f.write(b"x" * 64_000_000)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_step_that_fills_the_disk(small_disk: Path) -> None:
    (small_disk / "src").mkdir()
    (small_disk / "src" / "fill.py").write_text(FILL)
    ws = Workspace.create("small", path=small_disk)
    data = PipelineData("data")
    step = PythonScriptStep("fill.py", source_directory=small_disk / "src", arguments=[data], outputs=[data])
    run = Experiment(ws, "full").submit(Pipeline(ws, [step]))
    with pytest.raises(MlpipeError, match=r"step 'fill\.py' exited with code 1; the disk of '.*' is full"):
        run.wait_for_completion(show_output=False)
    assert run.status == "Failed"
    assert shutil.disk_usage(small_disk).free > 8_000_000, "what the failed step wrote was left behind"
    # Room was made: the same workspace works on.
    (small_disk / "src" / "fill.py").write_text("import sys; open(sys.argv[1], 'w').write('little')")
    second = Experiment(ws, "full").submit(Pipeline(ws, [step]))
    assert second.wait_for_completion(show_output=False) == "Finished"
