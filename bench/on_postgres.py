"""The unchanged re-run of a thousand steps with the catalog on a PostgreSQL server of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from measure import Row, call
from thousand import rerun
from workload import Workload

MAKE = """
import sys
from pathlib import Path
from airflow_mlpipe.sdk.workspace_config import WorkspaceConfig
from airflow_mlpipe.sdk.workspace_folder import make_workspace
make_workspace(Path(sys.argv[1]), WorkspaceConfig(workspace_name="bench", catalog_conn=sys.argv[2]))
"""
SUPPORT = Path(__file__).parents[1] / "tests/support"


def part(folder: Path) -> Iterator[Row]:
    sys.path.insert(0, str(SUPPORT))
    from postgres import missing, server

    if reason := missing():
        yield "catalog on PostgreSQL", f"skipped: {reason}"
        return
    with server() as url:
        yield from rerun("catalog on PostgreSQL, chain of 1,000", workload(folder / "postgres", url).chain(1000))


def workload(folder: Path, url: str) -> Workload:
    """Make a workspace whose catalog is at `url`."""
    work = Workload(folder)
    folder.mkdir()
    # In a process of its own: this one stays small (see measure.call).
    call([sys.executable, "-c", MAKE, str(folder / ".mlpipe"), url], folder, work.env)
    return work.with_data()
