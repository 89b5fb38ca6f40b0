"""A workspace whose runs the embedded engine carries out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from airflow_site import AirflowSite
from engine_site import Site
from wholeness import assert_whole


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A workspace for the tests of a module."""
    # Characters that a shell, a URL or Airflow's configuration would take for theirs.
    folder = tmp_path_factory.mktemp("site").resolve() / "a b $HOME 100%#é"
    folder.mkdir()
    place = Site(folder)
    yield place
    for process in psutil.process_iter():
        try:
            if str(place.dir) in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
        except (psutil.Error, ProcessLookupError):
            continue
    # Whatever was killed, frozen or failed meanwhile: what is recorded is whole.
    # One test has a run whose spec nobody can read.
    assert_whole(place.dir, but="pipeline spec")


@pytest.fixture(scope="module")
def airflow_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowSite]:
    """A workspace beside a real Airflow, one for the tests of a file.

    Starting it takes half a minute; left running it takes a quarter of a core from all tests after these.
    """
    # The steps' own files lie beside its folder, of which there may be several.
    place = AirflowSite(tmp_path_factory.mktemp("airflow").resolve() / "project")
    try:
        place.start()
        yield place
    finally:
        place.stop()


@pytest.fixture
def marks(site: Site, request: pytest.FixtureRequest) -> Path:
    """A folder where the steps of one test leave marks."""
    folder = site.files / request.node.name
    folder.mkdir()
    return folder
