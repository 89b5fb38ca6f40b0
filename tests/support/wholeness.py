"""What every integration test ends with: whatever its workspace recorded is whole, to the last byte."""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe.sdk.housekeeping import verify_workspace
from airflow_mlpipe.sdk.workspace import Workspace


def assert_whole(folder: Path, *, but: str | None = None) -> None:
    """Verify the workspace whose ``.mlpipe`` folder is `folder`.

    Args:
        folder: the workspace's own folder.
        but: beginning of the subject of problems that a test has made on purpose.
    """
    done = verify_workspace(Workspace.from_config(folder / "config.json"), read_data=True, dry_run=True)
    problems = [str(each) for each in done.problems if but is None or not each.subject.startswith(but)]
    assert problems == []
