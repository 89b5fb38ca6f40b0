"""S19: a step's definition opens no way out of its container; what does is the compute target's, by who owns it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from container_engine import Engine
from docker_site import TARGET, containers, output_of, put_target, try_step
from engine_site import Site, shell

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import ParameterError, StepFailedError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.model.docker_arguments import resources_of_arguments
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import StepSpec

REFUSED = [
    "--privileged", "--privileged=true", "--network=host", "--net host", "-v /:/host", "--volume=/:/host",
    "--mount type=bind,source=/,target=/host", "-v /var/run/docker.sock:/var/run/docker.sock", "--pid=host",
    "--ipc=host", "--uts=host", "--userns=host", "--cap-add=SYS_ADMIN", "--device=/dev/sda", "--security-opt=x",
    "--user=root", "-u 0", "--entrypoint=sh", "--add-host=a:1", "--env=A=1", "--env-file=/etc/shadow",
    "--cgroup-parent=x", "--runtime=x", "--volumes-from=x", "--link=x", "-it", "ubuntu", "--gpus=1 --privileged",
]  # fmt: skip


@pytest.mark.parametrize("arguments", REFUSED)
def test_arguments_that_are_refused(arguments: str) -> None:
    for words in ([arguments], arguments.split()):
        with pytest.raises(ParameterError, match="docker argument '.*' is .*; allowed are --cpus, --memory"):
            resources_of_arguments(words)


def step(line: str, **fields) -> StepSpec:
    return shell("s", line, **{"compute": TARGET, "allow_reuse": False, **fields})


@pytest.fixture
def box(tmp_path: Path, docker_engine: Engine, busybox_image: str) -> Site:
    site = Site(tmp_path / "site")
    put_target(site, docker_engine, busybox_image)
    return site


@pytest.mark.airflow
@pytest.mark.docker
def test_a_forged_definition_is_refused_when_it_is_to_run(box: Site, docker_engine: Engine) -> None:
    environment = EnvironmentSpec(docker_arguments=("--privileged",))
    with pytest.raises(ParameterError, match="docker argument '--privileged' is refused"):
        try_step(box, step("true", environment=environment))
    assert containers(box, docker_engine) == []


@pytest.mark.airflow
@pytest.mark.docker
def test_what_a_container_may(box: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "canary-secret")
    line = "; ".join(
        [
            "{ grep -E 'CapEff|NoNewPrivs' /proc/self/status", "ls /var/run/docker.sock /run/docker.sock 2>&1",
            "ls /sys/class/net", "env", f"ls {box.dir} {box.dir}/stores/store {box.dir}/work", "cat /proc/1/cmdline",
        ]
    )  # fmt: skip
    run_id = try_step(box, step(line + "; } > @out 2>&1"))
    text = output_of(box, run_id, "s").read_text()
    assert "NoNewPrivs:\t1" in text
    # Docker's usual ones: none that reaches the machine.
    granted = int(text.partition("CapEff:\t")[2].split()[0], 16) if os.getuid() == 0 else 0
    assert not granted & (1 << 21 | 1 << 12 | 1 << 16 | 1 << 19)
    assert text.count("No such file") >= 2
    assert "eth0" not in text
    for hidden in ("canary-secret", "catalog.db", "config.json", "snapshots", "AIRFLOW"):
        assert hidden not in text, text


@pytest.mark.airflow
@pytest.mark.docker
def test_a_link_in_data_leads_to_nothing_of_the_machine(box: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    data = tmp_path / "data" / "in"
    data.mkdir(parents=True)
    (data / "link").symlink_to(secret)
    box.catalog.put_datastore(DatastoreRow(name="data", url=data.parent.as_uri()))
    reference = InputSpec(name="in", source=DatastorePath(datastore="data", path="in"), mode="mount")
    made = step("cat $AZUREML_DATAREFERENCE_in/link").model_copy(update={"inputs": (reference,)})
    with pytest.raises((StepFailedError, StorageError)) as error:
        try_step(box, made)
    assert "canary" not in error.value.message
    dataset = DatasetSpec(kind="file", sources=(DatastorePath(datastore="data", path="in"),))
    made = made.model_copy(update={"inputs": (InputSpec(name="in", source=dataset),)})
    with pytest.raises(StorageError, match="leads? out of"):
        try_step(box, made)


@pytest.mark.airflow
@pytest.mark.docker
def test_what_the_target_allows_is_allowed(box: Site, docker_engine: Engine, busybox_image: str) -> None:
    put_target(box, docker_engine, busybox_image, "open", network_mode="host")
    run_id = try_step(box, step("ls /sys/class/net | wc -l > @out", compute="open"))
    inside = try_step(box, step("ls /sys/class/net | wc -l > @out"))
    assert int(output_of(box, run_id, "s").read_text()) >= int(output_of(box, inside, "s").read_text()) == 1
