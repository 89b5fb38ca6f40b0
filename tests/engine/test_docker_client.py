"""Connections to a Docker engine: none is left open, whether somebody listens or not."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from container_engine import Engine

from airflow_mlpipe.engine.docker_engine import DockerEngine, refusals
from airflow_mlpipe.errors import ServiceError, UnreachableError

pytestmark = pytest.mark.airflow


@pytest.fixture
def only_what_is_closed() -> Iterator[None]:
    """Let no socket be closed by the garbage collector, and see that none is left."""
    gc.collect()
    gc.disable()
    before = sockets()
    try:
        yield
        assert sockets() == before
    finally:
        gc.enable()


def sockets() -> set[str]:
    """This process's descriptors that are sockets."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found |= {each.name} if each.is_socket() else set()
        except OSError:
            continue
    return found


def test_an_engine_that_is_not_there(tmp_path: Path, only_what_is_closed: None) -> None:
    # What has failed is kept, as by whoever tries again.
    kept = []
    for _ in range(3):
        with pytest.raises(UnreachableError) as caught:
            DockerEngine.at(f"unix://{tmp_path}/socket")
        kept.append(caught.value)
    assert len(kept) == 3


@pytest.mark.docker
def test_an_engine_that_answers_and_refuses(docker_engine: Engine, only_what_is_closed: None) -> None:
    with closing(DockerEngine.at(docker_engine.url)) as engine:
        engine.labelled({"airflow-mlpipe.no-such": "label"})
        with pytest.raises(ServiceError, match="refuses"), refusals(engine.url):
            engine.client.inspect_container("no-such-container")
        assert engine.client.version()["ApiVersion"]
