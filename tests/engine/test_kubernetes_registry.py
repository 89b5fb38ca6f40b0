"""Images of pods in a registry: pulled with the target's secrets, built by a docker target, and what is told if not."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import registry as registries
from cluster_site import Cluster
from container_engine import Engine, PrivateEngine
from docker_site import TARGET as BOX
from docker_site import put_target
from engine_site import eventually, shell
from pod_site import TARGET, PodSite, meanwhile, pod_site, pods, target
from registry import Registry

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import StepSpec

pytestmark = [pytest.mark.k8s, pytest.mark.docker, pytest.mark.airflow]

NUMBERS = itertools.count(1)


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodSite]:
    if not cluster.is_standin:
        pytest.skip("nodes of a real cluster do not reach a registry on 127.0.0.1")
    monkeypatch.setenv("AIRFLOW_CONN_REG", registry.connection())
    with pod_site(tmp_path / "one", cluster, image_build_compute=BOX) as made:
        yield made


@contextmanager
def image(registry: Registry, engine: Engine, busybox: str, name: str = "team/train:1") -> Iterator[str]:
    """An image that the registry has and the engine has not; it is forgotten again."""
    registry.put(engine, busybox, name)
    try:
        yield f"{registry.host}/{name}"
    finally:
        forget(engine, f"{registry.host}/{name}")


def forget(engine: Engine, name: str) -> None:
    from docker.errors import ImageNotFound

    with suppress(ImageNotFound):
        engine.client.api.remove_image(name, force=True)


def secret(cluster: Cluster, registry: Registry, password: str) -> str:
    """A secret for pulls from the registry."""
    token = base64.b64encode(f"ada:{password}".encode()).decode()
    kept = base64.b64encode(json.dumps({"auths": {registry.host: {"auth": token}}}).encode()).decode()
    name = f"pulls-{next(NUMBERS)}"
    body = {"metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": kept}}
    cluster.api.create_namespaced_secret(cluster.namespace, body)
    return name


def step(line: str, image: str) -> StepSpec:
    return shell("a", line, compute=TARGET, environment=EnvironmentSpec(name="train", docker_image=image))


def test_an_image_is_pulled_with_the_targets_secrets(site, cluster, registry, docker_engine, busybox_image) -> None:
    right, wrong = secret(cluster, registry, "s3cr3t"), secret(cluster, registry, "another")
    target(site, cluster, image_pull_secrets=["absent", wrong, right])
    with image(registry, docker_engine, busybox_image) as name:
        site.go(step("echo pulled > @out", name))
        assert site.made() == "pulled\n"
        assert docker_engine.client.api.inspect_image(name)["RepoTags"]


def test_a_registry_that_wants_a_user_is_told_at_once_in_one_line(
    site, cluster, registry, docker_engine, busybox_image
) -> None:
    with image(registry, docker_engine, busybox_image) as name:
        head = rf"step 'a' on compute target 'cluster': image '{name}' cannot be pulled \(\w+\): Failed to pull image"
        says = r"no basic auth credentials; correct its name, or the target's image_pull_secrets \(none\)"
        with pytest.raises(ConfigError, match=f"{head}.*{says}") as error:
            site.go(step("true > @out", name))
    assert "\n" not in error.value.message


def test_a_registry_that_comes_back_in_time_fails_nobody(site, tmp_path, cluster, docker_engine, busybox_image) -> None:
    port = registries.free_port()
    with registries.registry(tmp_path / "away", port=port) as away:
        away.put(docker_engine, busybox_image, "train:1")
    name = f"127.0.0.1:{port}/train:1"
    with meanwhile(lambda: site.go(step("echo late > @out", name))) as ending:
        eventually(lambda: "ErrImagePull" in str(pods(cluster)) or ending.done(), 60)
        with registries.registry(tmp_path / "away", port=port):
            ending.result(60)
    forget(docker_engine, name)
    assert site.made() == "late\n"


def test_an_image_that_another_engine_has_built_and_pushed_is_pulled_for_the_pod(
    site, cluster, registry, docker_engine, busybox_image, private_docker_engine: PrivateEngine
) -> None:
    """What `image_build_compute` is for: the machine that builds is none of the cluster's nodes."""
    target(site, cluster, image_pull_secrets=[secret(cluster, registry, "s3cr3t")])
    put_target(site, private_docker_engine, None, network_mode="host", registry_conn_id="reg")
    archive = docker_engine.client.api.get_image(busybox_image)
    private_docker_engine.client.api.load_image(io.BytesIO(b"".join(archive)))
    dockerfile = EnvironmentSpec(name="built", dockerfile=f"FROM {busybox_image}\nRUN echo elsewhere > /made\n")
    site.go(shell("a", "cat /made > @out", compute=TARGET, environment=dockerfile))
    assert site.made() == "elsewhere\n"
    (name,) = [
        tag for tags in docker_engine.client.api.images() for tag in tags["RepoTags"] or () if registry.host in tag
    ]
    forget(docker_engine, name)
    assert name.startswith(f"{registry.host}/team/mlpipe-env-base:")
