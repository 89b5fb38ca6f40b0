"""Steps of many processes in a container: they find each other, one that fails ends all, and each has a log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from container_engine import Engine
from docker_site import TARGET, containers, output_of, put_target, try_step
from engine_site import Site, shell
from rank_program import ADD

from airflow_mlpipe.errors import StepFailedError, StepStoppedError
from airflow_mlpipe.model.distribution import Distribution

pytestmark = [pytest.mark.airflow, pytest.mark.docker]

TWO = Distribution(kind="pytorch", nodes=2, backend="gloo")


@pytest.fixture(scope="module")
def box(site: Site, docker_engine: Engine, python_image: str) -> Site:
    put_target(site, docker_engine, python_image)
    return site


@pytest.fixture(autouse=True)
def nothing_left(site: Site, docker_engine: Engine) -> Iterator[None]:
    yield
    assert containers(site, docker_engine) == []


def test_two_ranks_add_up(box: Site) -> None:
    step = shell("add", f"python -c '{ADD}' @out", compute=TARGET, distribution=TWO)
    assert output_of(box, try_step(box, step), "add").read_text() == "3"


def test_one_rank_that_fails_ends_all(box: Site) -> None:
    line = 'if [ "$RANK" = 1 ]; then echo bad rows >&2; exit 5; fi; sleep 300'
    with pytest.raises(StepFailedError) as caught:
        try_step(box, shell("fail", line, compute=TARGET, distribution=TWO))
    assert caught.value.exit_code == 5
    assert caught.value.hint == "rank 1 of 2 exited with code 5 and the others were ended, its log: logs/rank-1"
    assert caught.value.last_lines == ("bad rows", caught.value.hint)


def test_a_rank_that_a_signal_ends(box: Site) -> None:
    line = 'test "$RANK" = 1 && kill -SEGV $$ ; sleep 300'
    with pytest.raises(StepFailedError, match="rank 1 of 2 was killed by signal 11 and the others were ended"):
        try_step(box, shell("signal", line, compute=TARGET, distribution=TWO))


def test_a_stop_ends_all(box: Site) -> None:
    lines: list[str] = []
    step = shell("stop", "echo up ; sleep 300", compute=TARGET, distribution=TWO)
    with pytest.raises(StepStoppedError):
        try_step(box, step, killed=lambda: "enough" if lines else None, on_line=lambda stream, line: lines.append(line))
