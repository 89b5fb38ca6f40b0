"""Steps in containers: what they are given, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from container_engine import Engine
from docker_site import TARGET, containers, notes, output_of, printed, put_target, try_step
from engine_site import Site, eventually, shell

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.engine.docker_engine import DockerEngine
from airflow_mlpipe.errors import ConfigError, ExecutionError, PipelineError, StepFailedError, StepStoppedError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import Argument, StepSpec

pytestmark = [pytest.mark.airflow, pytest.mark.docker]


@pytest.fixture(scope="module")
def box(site: Site, docker_engine: Engine, busybox_image: str) -> Site:
    """The workspace with a target whose image has a shell only, and a datastore of its user's."""
    put_target(site, docker_engine, busybox_image)
    data = site.dir.parent / "user data"
    for name in ("one/a.txt", "one/b.csv", "two/c.txt", "top.txt", "azureml/other-run/secret"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(f"{name}\n")
    site.catalog.put_datastore(DatastoreRow(name="data", url=data.as_uri()))
    return site


@pytest.fixture(autouse=True)
def nothing_left(site: Site, docker_engine: Engine) -> Iterator[None]:
    yield
    # An engine lists one that is being removed for a moment more.
    eventually(lambda: containers(site, docker_engine) == [], 10)
    assert notes(site) == []


def step(step_id: str, line: str, **fields) -> StepSpec:
    return shell(step_id, line, **{"compute": TARGET, **fields})


def reading(step_id: str, line: str, *paths: str, mode: str = "mount", **fields) -> StepSpec:
    """A step that reads a dataset of these paths as ``@in``."""
    dataset = DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore="data", path=path) for path in paths))
    made = step(step_id, line, **fields)
    return made.model_copy(update={"inputs": (InputSpec(name="in", source=dataset, mode=mode),)})


def test_in_a_task(box: Site) -> None:
    run = box.run(
        step("make", "echo hello > @out ; echo said; echo wrong >&2"),
        step("use", "cat @make > @out ; id -u >> @out", reads=("make",)),
    )
    assert run.status == "Completed", [row.error for row in box.catalog.steps(run.id)]
    assert box.output(run, "use") == f"hello\n{os.getuid()}\n"
    assert "said" in box.task_log(run, "make")
    assert "wrong" in box.task_log(run, "make")


def test_the_same_words_at_the_same_places(box: Site) -> None:
    words = ["/bin/sh", "-c", 'pwd > "$1"; shift; printf "%s\\n" "$@" >> "$0"', "@out", "@out", "{{ 7*7 }}", "$(id)"]
    words += ["a.sh", "b.env", 'it\'s "so"', "", "-x", "[1]", "ü\n2"]
    arguments = tuple(
        Argument(kind="output" if word == "@out" else "literal", value=word.removeprefix("@")) for word in words
    )
    run_id = try_step(box, step("odd words", "true @out").model_copy(update={"shell": False, "arguments": arguments}))
    text = output_of(box, run_id, "odd words").read_text()
    step_run_id = box.catalog.step(run_id, "odd words").step_run_id
    assert text == f"{box.dir}/work/{step_run_id}/try-1/code\n" + "".join(f"{word}\n" for word in words[5:])


def test_variables(box: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Nowhere")
    environment = EnvironmentSpec(variables={"MINE": "{{ x }} $HOME"})
    run_id = try_step(box, step("env", "env > @out", environment=environment))
    given = output_of(box, run_id, "env").read_text().splitlines()
    assert "MINE={{ x }} $HOME" in given
    assert f"AZUREML_ROOT_RUN_ID={run_id}" in given
    assert "PATH=/bin" in given
    assert not [line for line in given if line.startswith(("TZ=", "AIRFLOW", "MLPIPE_HOME", "PYTHONPATH"))]


@pytest.mark.parametrize("paths", [("one/a.txt", "two"), ("*.txt", "one/a.txt", "two/**")], ids=["plain", "patterns"])
def test_what_of_the_machine_is_there(box: Site, paths: tuple[str, ...]) -> None:
    everything = shlex.quote(str(box.dir.parent))
    run_id = try_step(box, reading("look", f"find {everything} > @out", *paths))
    text = output_of(box, run_id, "look").read_text()
    for shown in ("user data/one/a.txt", "user data/two/c.txt", "try-1/context.json"):
        assert shown in text, text
    for hidden in (
        "secret",
        "catalog.db",
        "config.json",
        "snapshots",
        *(["top.txt", "b.csv"] if paths[1] == "two" else []),
    ):
        assert hidden not in text, text


@pytest.mark.parametrize(
    ("paths", "mode"),
    [(("one",), "mount"), (("one/*.txt", "**/c.txt"), "mount"), (("one/*.txt",), "download")],
    ids=str,
)
def test_inputs(box: Site, paths: tuple[str, ...], mode: str) -> None:
    line = "cd @in ; find . -type f -o -type l | sort > @out ; find . -name '*.txt' -exec cat {} + | sort >> @out"
    inside, outside = (try_step(box, reading("in", line, *paths, mode=mode, compute=c)) for c in (TARGET, None))
    text = output_of(box, inside, "in").read_text()
    assert text == output_of(box, outside, "in").read_text()
    assert ".txt\n" in text


def test_inputs_are_read_only_and_a_reference_is_not(box: Site) -> None:
    with pytest.raises(StepFailedError, match="Read-only file system"):
        try_step(box, reading("spoil", 'echo x > "$(readlink -f @in )"/new || exit 4', "one"))
    reference = InputSpec(name="in", source=DatastorePath(datastore="data", path="made/by the step"), mode="mount")
    try_step(box, step("write", "echo x > $AZUREML_DATAREFERENCE_in/new").model_copy(update={"inputs": (reference,)}))
    assert (box.dir.parent / "user data" / "made" / "by the step" / "new").read_text() == "x\n"


def test_exit_code_and_what_was_printed(box: Site) -> None:
    lines: list[tuple[str, str]] = []
    with pytest.raises(StepFailedError) as error:
        said = step("three", "echo one; echo two >&2; printf half; exit 3")
        try_step(box, said, on_line=lambda *line: lines.append(line))
    assert error.value.exit_code == 3
    assert error.value.last_lines == ("two",)
    assert sorted(lines) == [("stderr", "two"), ("stdout", "half"), ("stdout", "one")]


def test_memory(box: Site) -> None:
    asks = Resources(memory_bytes=32 << 20)
    with pytest.raises(StepFailedError) as error:
        try_step(box, step("eat", "exec tail /dev/zero", resources=asks))
    assert error.value.exit_code == 137
    assert "it took more than its 32 MiB; give it more (memory of the step or of 'box')" in error.value.message


def test_limits(box: Site, docker_engine: Engine, busybox_image: str) -> None:
    put_target(box, docker_engine, busybox_image, "limited", resources=Resources(cpus=0.5, shm_size_bytes=8 << 20))
    asks = Resources(cpus=1.5, memory_bytes=64 << 20)
    found = {}

    def look() -> str | None:
        if not found and containers(box, docker_engine):
            (one,) = containers(box, docker_engine)
            found.update(docker_engine.client.api.inspect_container(one["Id"]))
        return None

    try_step(box, step("lim", "sleep 1; df -k /dev/shm | tail -1", compute="limited", resources=asks), killed=look)
    host = found["HostConfig"]
    assert (host["NanoCpus"], host["CpuShares"]) == (1_500_000_000, 0)
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (64 << 20, 64 << 20, 8 << 20)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NetworkMode"] == "none"
    assert not host["Privileged"]
    labels = found["Config"]["Labels"]
    assert labels["airflow-mlpipe.try"] == "1"
    assert {"airflow-mlpipe.workspace", "airflow-mlpipe.run", "airflow-mlpipe.step-run"} < labels.keys()


def test_gpus_where_there_are_none(box: Site, docker_engine: Engine) -> None:
    with pytest.raises(ConfigError, match="step 'gpu' asks for GPUs, and the Docker engine at .* has no driver"):
        try_step(box, step("gpu", "true", resources=Resources(gpus=1)))


def test_timeout(box: Site) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutionError, match="was ended after its timeout of 0.5 s"):
        # It does not listen: as the first process of its container it need not.
        try_step(box, step("slow", "trap '' TERM; (sleep 60 &) ; sleep 60", timeout_s=0.5))
    assert time.monotonic() - began < 15


def test_stop(box: Site) -> None:
    lines: list[str] = []
    asked: list[float] = []

    def stop() -> str | None:
        if not lines:
            return None
        asked.append(time.monotonic())
        return "somebody wants it to end"

    with pytest.raises(StepStoppedError, match="somebody wants it to end"):
        try_step(box, step("long", "echo up; sleep 60"), killed=stop, on_line=lambda _, line: lines.append(line))
    assert time.monotonic() - asked[0] < 5


def test_an_image_that_is_not_there(box: Site, docker_engine: Engine) -> None:
    environment = EnvironmentSpec(docker_image="127.0.0.1:9/no/such:1")
    with pytest.raises(Exception) as error:
        try_step(box, step("none", "true", environment=environment))
    said = error.value.message
    assert "compute target 'box': image '127.0.0.1:9/no/such:1' is not on the Docker engine at unix://" in said
    assert "correct its name, load or build it there" in said
    assert "\n" not in said


def test_no_image_at_all(box: Site, docker_engine: Engine) -> None:
    put_target(box, docker_engine, None, "bare")
    with pytest.raises(
        ConfigError, match="environment 'current' names no image, and compute target 'bare' has no default"
    ):
        try_step(box, step("x", "true", compute="bare"))


def test_a_command_that_is_not_in_the_image(box: Site) -> None:
    missing = step("x", "true").model_copy(
        update={"shell": False, "arguments": (Argument(kind="literal", value="no-such-program"),)}
    )
    with pytest.raises(PipelineError, match="step 'x': command 'no-such-program' cannot be run in its image"):
        try_step(box, missing)


def test_an_output_that_is_not_written(box: Site) -> None:
    with pytest.raises(ExecutionError, match="did not write its output 'out'"):
        try_step(box, step("lazy", "true @out"))


def test_many_files_out(box: Site) -> None:
    run_id = try_step(box, step("many", "mkdir @out ; cd @out ; for i in $(seq 1000); do echo $i > $i.txt; done"))
    found = output_of(box, run_id, "many")
    assert sorted(int(path.read_text()) for path in found.iterdir()) == list(range(1, 1001))
    assert {path.stat().st_uid for path in found.iterdir()} == {os.getuid()}


def test_the_entry_point_of_an_image_is_not_asked(box: Site, docker_engine: Engine, busybox_image: str) -> None:
    name = f"{busybox_image.partition(':')[0]}-entry:{os.getpid()}"
    api = docker_engine.client.api
    made = api.create_container(busybox_image, ["true"])
    api.commit(made["Id"], *name.split(":"), changes=['ENTRYPOINT ["echo", "entry"]', 'CMD ["more"]'])
    api.remove_container(made["Id"])
    try:
        run_id = try_step(box, step("ask", "echo mine", environment=EnvironmentSpec(docker_image=name)))
        assert printed(box, run_id, "ask") == b"mine\n"
        words = (Argument(kind="literal", value="hostname"),)
        alone = step("alone", "x", environment=EnvironmentSpec(docker_image=name))
        run_id = try_step(box, alone.model_copy(update={"shell": False, "arguments": words}))
        assert b"more" not in printed(box, run_id, "alone")
    finally:
        api.remove_image(name)


def test_a_datastore_that_is_a_link(box: Site) -> None:
    link = box.dir.parent / "linked"
    if not link.exists():
        link.symlink_to(box.dir.parent / "user data")
        box.catalog.put_datastore(DatastoreRow(name="linked", url=link.as_uri()))
    source = DatasetSpec(kind="file", sources=(DatastorePath(datastore="linked", path="one"),))
    made = step("li", "@out").model_copy(update={"inputs": (InputSpec(name="in", source=source),)})
    arguments = (
        *(Argument(kind="literal", value=word) for word in ("sh", "-c", 'cat "$0"/a.txt > "$1"')),
        Argument(kind="input", value="in"),
        Argument(kind="output", value="out"),
    )
    run_id = try_step(box, made.model_copy(update={"shell": False, "arguments": arguments}))
    assert output_of(box, run_id, "li").read_text() == "one/a.txt\n"


def test_this_package_in_the_image(box: Site, mlpipe_image: str) -> None:
    code = (
        "from airflow_mlpipe import Run; run = Run.get_context(); run.log('loss', 0.5); run.tag('who', 'me')\n"
        "try: run.experiment.workspace.get_default_datastore()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    words = tuple(Argument(kind="literal", value=word) for word in ("python", "-c", code))
    made = step("ctx", "x", environment=EnvironmentSpec(docker_image=mlpipe_image))
    run_id = try_step(box, made.model_copy(update={"shell": False, "arguments": words}))
    result = box.catalog.get_result(box.catalog.step(run_id, "ctx").result_id)
    assert [(metric.name, metric.value) for metric in result.written.metrics] == [("loss", 0.5)]
    assert result.written.tags == {"who": "me"}
    said = printed(box, run_id, "ctx").decode()
    assert said.startswith("UnreachableError Workspace.get_default_datastore cannot be had in step 'ctx'"), said


def test_a_container_that_two_remove_at_once_is_gone_for_both(docker_engine: Engine, busybox_image: str) -> None:
    api = docker_engine.client.api
    labels = {"airflow-mlpipe.tests": "removed-twice"}
    alone = api.create_host_config(network_mode="none")
    for _ in range(5):
        made = api.create_container(busybox_image, ["sleep", "60"], labels=labels, host_config=alone)["Id"]
        api.start(made)

        def remove(container: str = made) -> list[dict]:
            engine = DockerEngine.at(docker_engine.url)
            engine.remove(container)
            found = engine.labelled(labels)
            engine.close()
            return found

        with ThreadPoolExecutor(2) as threads:
            assert [each.result() for each in [threads.submit(remove), threads.submit(remove)]] == [[], []]
