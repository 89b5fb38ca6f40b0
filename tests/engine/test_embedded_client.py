"""The client's side of the embedded engine, without a dispatcher."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_mlpipe.engine.embedded import EmbeddedEngine, python_path
from airflow_mlpipe.errors import UnreachableError

pytestmark = pytest.mark.airflow


class EndsAtOnce(EmbeddedEngine):
    """An engine whose dispatchers end before they take a run, and cannot say so."""

    started = 0

    def _spawn(self, lock: int) -> None:
        self.started += 1


def test_a_dispatcher_that_never_takes_a_run_is_not_started_for_ever(workspace):
    from rows import put_run

    put_run(workspace.catalog, "r", status="Queued", engine="embedded")
    engine = EndsAtOnce(workspace.dir)
    for _ in range(3):
        engine.reap()
    with pytest.raises(
        UnreachableError, match=r"ended 3 times before it took a run; its log says why: .*dispatcher.log"
    ):
        engine.reap()
    assert engine.started == 3


def test_a_cancelled_run_does_not_start_a_dispatcher(workspace):
    from rows import put_run

    put_run(workspace.catalog, "r", status="Queued", engine="embedded")
    workspace.catalog.request_stop("r", "cancel", "not wanted any more")
    engine = EndsAtOnce(workspace.dir)
    engine.reap()
    assert engine.started == 0


def test_a_process_of_ours_sees_the_packages_that_its_parent_sees():
    # Another path would be another environment to the reuse keys, and what is installed would be read anew each time.
    code = "from airflow_mlpipe.execution.environments import _signature, this_one; print(_signature(this_one()))"
    environments = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        ).stdout
        for path in (os.environ.get("PYTHONPATH", ""), python_path())
    ]

    assert environments[0] == environments[1] != ""
