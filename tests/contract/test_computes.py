"""What every kind of compute does with a step: one suite over processes, containers and pods.

An engine that is gone is tried on a way to it that a test cuts, or on which nobody answers: the engine itself serves
others. That a Docker engine is killed, and takes what it ran along, is tried in ``tests/faults/test_docker.py``. A
process has no engine; what stands in for it is the worker that has started it, and watches over it: a worker that is
killed is tried for every kind.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from compute_site import ComputeSite, meanwhile, sites_by_kind
from engine_site import eventually
from odd_texts import NAMES, ODD, PLACE, assert_told, telling

from airflow_mlpipe.errors import (
    ConfigError,
    ExecutionError,
    MlpipeError,
    OutputMissingError,
    StepFailedError,
    StepStoppedError,
    UnreachableError,
)
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.step import Argument, OutputSpec

DOCKER = pytest.param("docker", marks=pytest.mark.docker)
KUBERNETES = pytest.param("kubernetes", marks=[pytest.mark.docker, pytest.mark.k8s])
DEFERRED = pytest.param("deferred", marks=[pytest.mark.docker, pytest.mark.k8s])
EVERYWHERE = pytest.mark.parametrize("place", ["local", DOCKER, KUBERNETES, DEFERRED], indirect=True)
IN_IMAGES = pytest.mark.parametrize("place", [DOCKER, KUBERNETES], indirect=True)
IN_ENGINES = pytest.mark.parametrize("place", [DOCKER, KUBERNETES, DEFERRED], indirect=True)
IN_PODS = pytest.mark.parametrize("place", [KUBERNETES], indirect=True)

pytestmark = pytest.mark.airflow

STAY = "trap 'exit 1' TERM; sleep 60 & wait"
"""Until it is asked to end; one that does not listen has a grace, which other tests wait for."""

WRITE = "echo said; echo kept > outputs/note.txt; echo made > @out"


@pytest.fixture(scope="module")
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """The workspaces of this module by kind."""
    with sites_by_kind(request, tmp_path_factory, lambda site: None) as site_of:
        yield site_of


@pytest.fixture(params=["local", DOCKER, KUBERNETES])
def place(request: pytest.FixtureRequest, sites) -> Iterator[ComputeSite]:
    """A workspace whose steps run by one kind of compute, of which nothing may be left."""
    site = sites(request.param)
    yield site
    site.give()
    eventually(lambda: site.left() == [], 30)


@contextmanager
def impatience() -> Iterator[None]:
    """Give engines and clusters, in the body, parts of a second where they have half a minute, or minutes."""
    from airflow.providers.cncf.kubernetes import kubernetes_helper_functions as provider

    from airflow_mlpipe.engine import container_run, docker_engine
    from airflow_mlpipe.engine.pods import asking, follow, operator, trigger

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_engine, "CALL_TIMEOUT_S", 0.3)
        patch.setattr(container_run, "RETURN_S", 0.5)
        for module in (asking, operator):
            patch.setattr(module, "CALL_S", (0.3, 0.3))
        patch.setattr(trigger, "LOOK_WITHIN_S", 0.3)
        for module in (follow, trigger):
            patch.setattr(module, "PATIENCE_S", 0.5)
        # Between the provider's own tries.
        patch.setattr(provider, "_default_wait", lambda _: 0.1)
        yield


@EVERYWHERE
def test_success(place: ComputeSite) -> None:
    row = place.go(place.step(WRITE))
    assert row.status == "completed"
    assert place.made().read_text() == "made\n"
    assert place.lines == ["said"]
    assert place.kept("logs/mlpipe/stdout.txt") == "said\n"
    assert place.kept("outputs/note.txt") == "kept\n"


@EVERYWHERE
def test_exit_3(place: ComputeSite) -> None:
    with pytest.raises(StepFailedError, match="exited with code 3") as caught:
        place.go(place.step(f"{WRITE} ; echo wrong >&2; exit 3"))
    assert caught.value.exit_code == 3
    assert "wrong" in caught.value.last_lines
    assert (place.row().exit_code, place.row().result_id) == (3, None)
    assert "said" in place.kept("logs/mlpipe/stdout.txt").splitlines()
    assert place.kept("outputs/note.txt") == "kept\n"


@IN_IMAGES
def test_more_memory_than_it_has(place: ComputeSite) -> None:
    place.give(Resources(memory_bytes=32 * 2**20))
    with pytest.raises(StepFailedError, match="memory"):
        place.go(place.step("echo kept > outputs/note.txt; exec tail /dev/zero"))
    assert place.kept("outputs/note.txt") == "kept\n"


@IN_IMAGES
def test_an_image_that_is_not_there(place: ComputeSite) -> None:
    place.give(image="127.0.0.1:9/no/such:1")
    # Whether another try may help differs: an engine that reaches no registry cannot know that there is no such image.
    says = re.escape("'127.0.0.1:9/no/such:1'") + r".* cannot be pulled"
    with pytest.raises((ConfigError, UnreachableError, ExecutionError), match=says) as caught:
        place.go(place.step(WRITE))
    assert "\n" not in caught.value.message


@EVERYWHERE
def test_an_output_that_is_not_written(place: ComputeSite) -> None:
    with pytest.raises(OutputMissingError, match="did not write its output 'out'"):
        place.go(place.step("true @out"))
    assert place.row().result_id is None


@EVERYWHERE
def test_timeout(place: ComputeSite) -> None:
    with pytest.raises(ExecutionError, match="was ended after its timeout of 1 s"):
        place.go(place.step(f"{WRITE} ; {STAY}", timeout_s=1.0))
    assert place.row().result_id is None


def test_cancel(place: ComputeSite) -> None:
    def stop(line: str) -> None:
        place.catalog.request_stop(place.run_id, "cancel", "canceled by a test")

    with pytest.raises(StepStoppedError, match="canceled by a test"):
        place.go(place.step(f"{WRITE} ; {STAY}"), on_line=stop)
    assert place.row().result_id is None


def test_the_worker_is_killed(place: ComputeSite) -> None:
    step = place.step("echo up; sleep 2; echo made > @out")
    run_id = place.begin(step)
    with place.worker(run_id, "a", 1) as worker:
        # Airflow's own lines may come in between.
        assert "up\n" in worker.stdout
        worker.kill()
    place.go(step, run_id, number=2)
    assert place.row().status == "completed"
    assert place.made().read_text() == "made\n"


@IN_ENGINES
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_no_engine_at_the_start(place: ComputeSite, how: str) -> None:
    step = place.step(WRITE)
    with place.by_way() as way:
        run_id = place.begin(step)
        getattr(way, how)()
        with impatience(), pytest.raises(UnreachableError, match="does not answer") as caught:
            place.go(step, run_id)
        assert "\n" not in caught.value.message
        assert (place.row().status, place.row().result_id) == ("not_started", None)
        way.open()
        place.go(step, run_id, number=2)
    assert place.made().read_text() == "made\n"


@IN_ENGINES
def test_the_engine_is_away_for_a_while(place: ComputeSite) -> None:
    step = place.step("echo up; sleep 3; echo down; echo made > @out")
    with place.by_way() as way:
        run_id = place.begin(step)
        with meanwhile(lambda: place.go(step, run_id)) as ending:
            running(place, ending)
            way.cut()
            time.sleep(1)
            way.open()
            row = ending.result(90)
    assert row.status == "completed"
    assert place.made().read_text() == "made\n"
    assert place.lines == ["up", "down"]


@IN_ENGINES
def test_the_engine_does_not_come_back_in_time(place: ComputeSite) -> None:
    """A container whose engine is gone is ended, for its end could not be told; a pod goes on, and is found again."""
    step = place.step("echo up; sleep 4; echo made > @out")
    with place.by_way() as way:
        run_id = place.begin(step)
        with meanwhile(lambda: place.go(step, run_id)) as ending:
            running(place, ending)
            before = place.left()
            # One that is asked for ever would be as bad.
            way.cut() if place.kind == "docker" else way.silence()
            with impatience(), pytest.raises(UnreachableError, match="answer") as caught:
                ending.result(90)
        assert "\n" not in caught.value.message
        assert (place.row().status, place.row().result_id) == ("not_started", None)
        assert place.left() == before
        assert eventually(lambda: place.kind != "docker" or not place.running())
        way.open()
        place.go(step, run_id, number=2)
    assert place.row().status == "completed"
    assert place.made().read_text() == "made\n"


@EVERYWHERE
def test_odd_words(place: ComputeSite) -> None:
    words = ["{{ 7*7 }}", "{% x %}", "$(id)", "$HOME", "$$x", "`id`", "run.sh", "x.env", 'it\'s "so"', "", "-x", "[1]"]
    words += ["a;b", "a\\nb", "ü\n2", "%s", "*"]
    script = 'out=$1; shift; printf "%s\\n" "$ODD" "$@" > "$out"'
    given = ["sh", "-c", script, "sh", "@out", *words]
    arguments = tuple(
        Argument(kind="output" if word == "@out" else "literal", value=word.removeprefix("@")) for word in given
    )
    step = place.step("true @out").model_copy(
        update={
            "name": 'it\'s "{{ x }}" $(id).sh',
            "shell": False,
            "arguments": arguments,
            "environment": EnvironmentSpec(variables={"ODD": "{{ x }} $(id) $$ '\" .env"}),
        }
    )
    place.go(step)
    assert place.made().read_text() == "".join(f"{word}\n" for word in ["{{ x }} $(id) $$ '\" .env", *words])


@EVERYWHERE
def test_odd_texts_in_every_field(place: ComputeSite) -> None:
    """Whatever a user may write somewhere arrives as it was written, in each kind of compute alike."""
    step = telling(place)
    reader = place.step("cd @a ; cd copied; printf '%s\\n' * > @out", "b", reads=("a",))
    fields = {"declared": (ParameterSpec.of("p", "x"),), "parameters": {"p": ODD}, "tags": {ODD: ODD}}
    run_id = place.begin(step, reader, name=f"odd-{place.kind}", experiment=ODD, **fields)
    place.go(step, run_id)
    place.go(reader, run_id)
    assert_told(place.made("a"))
    assert sorted(place.made("b").read_text().splitlines()) == sorted(NAMES)
    copy = place.dir / "stores" / "store" / PLACE / place.row("a").step_run_id / "it's.sh"
    assert (copy / "said").read_bytes() == (place.made("a") / "said").read_bytes()


@IN_PODS
def test_a_variable_that_no_pod_can_have_is_refused_before_there_is_one(place: ComputeSite) -> None:
    step = place.step(WRITE, environment=EnvironmentSpec(variables={"my variable": "x"}))
    with pytest.raises(ConfigError, match="environment variable 'my variable' cannot be had in a pod") as caught:
        place.go(step)
    assert "\n" not in caught.value.message
    assert place.left() == []


def test_a_thousand_files(place: ComputeSite) -> None:
    place.go(place.step("mkdir @out ; cd @out ; for i in $(seq 1000); do echo $i > $i.txt; done"))
    found = sorted(int(path.read_text()) for path in place.made().iterdir())
    assert found == list(range(1, 1001))
    assert {path.stat().st_uid for path in place.made().iterdir()} == {os.getuid()}


def test_an_input_that_the_step_changes(place: ComputeSite) -> None:
    maker = place.step("mkdir @out ; cd @out ; echo made > file", "make")
    spoiler = place.step("echo x > @out ; cd @make ; echo spoilt > file", "spoil", reads=("make",))
    run_id = place.begin(maker, spoiler)
    place.go(maker, run_id)
    with pytest.raises(MlpipeError):
        place.go(spoiler, run_id)
    assert place.row("spoil").result_id is None
    (output,) = place.catalog.get_result(place.row("make").result_id).outputs
    # A process of this machine can change it. It is never read again, then.
    spoilt = (place.made("make") / "file").read_text() != "made\n"
    assert (place.room.facts.problem(output) is not None) == spoilt
    assert place.kind == "local" or not spoilt


def test_what_one_step_makes_another_reads(place: ComputeSite) -> None:
    maker = place.step("mkdir @out ; cd @out ; echo one > file", "make")
    reader = place.step("cp -r @make copy; cat copy/file > @out", "read", reads=("make",))
    run_id = place.begin(maker, reader)
    place.go(maker, run_id)
    place.go(reader, run_id)
    assert place.made("read").read_text() == "one\n"


def test_a_second_output_is_missing(place: ComputeSite) -> None:
    outputs = (OutputSpec(name="out", datastore="store"), OutputSpec(name="more", datastore="store"))
    with pytest.raises(OutputMissingError, match="did not write its output 'more'"):
        place.go(place.step(WRITE, outputs=outputs))


@IN_PODS
def test_staging_takes_longer_than_the_startup_may(place: ComputeSite, cluster) -> None:
    """In the same proportion: 150 s of staging where the image and its node have 120 s."""
    place.give(startup_timeout_s=12, staging_timeout_s=60)
    with meanwhile(lambda: place.go(place.step(WRITE))) as ending:
        name = paused(cluster, place, "mlpipe-stage", for_s=15)
        row = ending.result(90)
    assert name
    assert row.status == "completed"


@IN_PODS
def test_the_collector_takes_its_time(place: ComputeSite, cluster) -> None:
    place.give(startup_timeout_s=60, collect_timeout_s=60)
    with meanwhile(lambda: place.go(place.step(f"sleep 2; {WRITE}"))) as ending:
        paused(cluster, place, "mlpipe-collect", for_s=5)
        row = ending.result(90)
    assert row.status == "completed"
    assert place.made().read_text() == "made\n"


def running(place: ComputeSite, ending: Future) -> None:
    """Wait until the step of the last `go` runs; `ending` is who waits for its end."""

    def found() -> bool:
        if ending.done():
            ending.result()
        # Before its lines come whoever runs it may still be about to begin to follow it.
        return place.running() and (place.kind == "deferred" or place.lines == ["up"])

    eventually(found)


def paused(cluster, place: ComputeSite, container: str, for_s: float) -> str:
    """Freeze a container of the one pod as soon as it runs, for a time."""

    def running_container():
        for pod in cluster.api.list_namespaced_pod(cluster.namespace).items:
            for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
                if pod.metadata.name in place.left() and status.name == container and status.state.running:
                    return pod.metadata.name
        return None

    name = eventually(running_container)
    cluster.faults.signal(name, container, signal.SIGSTOP.name)
    time.sleep(for_s)
    cluster.faults.signal(name, container, signal.SIGCONT.name)
    return name
