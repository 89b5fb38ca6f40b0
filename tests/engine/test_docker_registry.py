"""Images in a registry: pulled, seen to move, pushed for other engines, and what is told when that fails."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import registry as registries
from container_engine import Engine, PrivateEngine
from docker_site import TARGET, output_of, put_target, try_step
from engine_site import Site, shell
from registry import Registry

from airflow_mlpipe.engine.container_launcher import ContainerLauncher
from airflow_mlpipe.engine.docker_engine import DockerEngine
from airflow_mlpipe.engine.image_build import ImageBuilder
from airflow_mlpipe.engine.image_registry import TargetRegistry, full_name
from airflow_mlpipe.engine.images import Images
from airflow_mlpipe.errors import ConfigError, MlpipeError, StepStoppedError, UnreachableError
from airflow_mlpipe.execution.image_recipe import ImageRecipe
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec

pytestmark = [pytest.mark.airflow, pytest.mark.docker]


def never() -> None:
    return None


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch, registry: Registry, docker_engine: Engine) -> Iterator[None]:
    """The registry's connection; afterwards the engine has none of its images."""
    monkeypatch.setenv("AIRFLOW_CONN_REG", registry.connection())
    with forgotten(docker_engine, registry):
        yield


@contextmanager
def forgotten(engine: Engine, registry: Registry) -> Iterator[None]:
    """Let an engine have no image of a registry after this block."""
    from docker.errors import ImageNotFound

    try:
        yield
    finally:
        api = engine.client.api
        for image in api.images():
            for name in [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]:
                if name.startswith(f"{registry.host}/"):
                    # With the last tag of a repository its digests go.
                    with suppress(ImageNotFound):
                        api.remove_image(name, force=True)


@pytest.fixture(scope="module")
def versions(docker_engine: Engine, busybox_image: str) -> Iterator[list[str]]:
    """Two images that tell in /version which one they are."""
    names = []
    for number in (1, 2):
        names.append(f"mlpipe-tests/registry-version:{number}")
        text = f"FROM {busybox_image}\nRUN echo {number} > /version\n"
        build(docker_engine, names[-1], text)
    yield names
    for name in names:
        docker_engine.client.api.remove_image(name, force=True)


def build(engine: Engine, name: str, dockerfile: str) -> None:
    said = engine.client.api.build(
        fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True, forcerm=True, decode=True, network_mode="none"
    )
    assert all("error" not in entry for entry in said)


def target(engine: Engine, **settings) -> ComputeSpec:
    given = {"network_mode": "host", "engine_url": engine.url, "registry_conn_id": "reg", **settings}
    return ComputeSpec(name=TARGET, type="DockerCompute", kind="docker", docker=DockerSettings(**given))


def known(engine: Engine, folder: Path, **settings) -> Images:
    return Images(DockerEngine.at(engine.url), target(engine, **settings), folder)


def builder(engine: Engine, folder: Path, **settings) -> ImageBuilder:
    compute = target(engine, **settings)
    return ImageBuilder(DockerEngine.at(engine.url), compute, known(engine, folder, **settings))


# --- what is there


@pytest.fixture
def site(tmp_path: Path, docker_engine: Engine) -> Site:
    found = Site(tmp_path / "one" / "site")
    put_target(found, docker_engine, None, registry_conn_id="reg")
    return found


def version(site: Site, registry: Registry) -> str:
    """Run a step in ``team/train:1`` and return which version it ran in."""
    environment = EnvironmentSpec(name="train", docker_image=f"{registry.host}/team/train:1")
    run_id = try_step(site, shell("a", "cat /version > @out", compute=TARGET, environment=environment))
    return output_of(site, run_id, "a").read_text().strip()


def test_a_tag_that_moves_in_the_registry_is_another_key_and_another_image(
    site: Site, registry: Registry, docker_engine: Engine, versions: list[str]
) -> None:
    registry.put(docker_engine, versions[0], "team/train:1")
    assert version(site, registry) == "1"
    (first,) = site.catalog.list_runs()
    assert version(site, registry) == "1"
    again = site.catalog.step(site.catalog.list_runs()[0].id, "a")
    assert (again.status, again.reused_from) == ("reused", first.id)
    digest = registry.put(docker_engine, versions[1], "team/train:1")
    assert version(site, registry) == "2"
    moved = site.catalog.step(site.catalog.list_runs()[0].id, "a")
    assert moved.status == "completed"
    assert digest in str(moved.components)
    # And back: what was computed in the first one is still known.
    registry.put(docker_engine, versions[0], "team/train:1")
    assert version(site, registry) == "1"
    assert site.catalog.step(site.catalog.list_runs()[0].id, "a").reused_from == first.id


def test_what_is_brought_is_what_was_planned_though_the_tag_has_moved_meanwhile(
    tmp_path: Path, registry: Registry, docker_engine: Engine, versions: list[str]
) -> None:
    ours, name = known(docker_engine, tmp_path), f"{registry.host}/team/train:1"
    planned = registry.put(docker_engine, versions[0], "team/train:1")
    assert ours.identity(name) == planned
    newer = registry.put(docker_engine, versions[1], "team/train:1")
    assert ours.bring(name, never, planned) == f"{registry.host}/team/train@{planned}"
    # The engine's own tag is as a pull leaves it, and does not count.
    assert docker_engine.client.api.inspect_image(name)["RepoDigests"] == [f"{registry.host}/team/train@{planned}"]
    assert ours.identity(name) == newer
    assert ours.bring(name, never) == f"{registry.host}/team/train@{newer}"
    asked = len(registry.asked())
    assert ours.bring(name, never, planned) == f"{registry.host}/team/train@{planned}"
    assert len(registry.asked()) == asked


def test_a_step_runs_in_the_image_of_its_key_whatever_is_pushed_meanwhile(
    site: Site, registry: Registry, docker_engine: Engine, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = registry.put(docker_engine, versions[0], "team/train:1")
    software = ContainerLauncher.software

    def late(launcher: ContainerLauncher, *arguments: Any) -> Any:
        assert registry.put(docker_engine, versions[1], "team/train:1") != planned
        return software(launcher, *arguments)

    monkeypatch.setattr(ContainerLauncher, "software", late)
    assert version(site, registry) == "1"
    assert planned in str(site.catalog.step(site.catalog.list_runs()[0].id, "a").components)


def test_an_image_of_another_registry_counts_as_the_engine_has_it(
    tmp_path: Path, registry: Registry, docker_engine: Engine, versions: list[str]
) -> None:
    """Nobody may ask a public registry at each plan."""
    with registries.registry(tmp_path / "public") as public, forgotten(docker_engine, public):
        first = public.put(docker_engine, versions[0], "train:1")
        ours, name = known(docker_engine, tmp_path), f"{public.host}/train:1"
        assert ours.identity(name) == first
        assert ours.bring(name, never, first) == f"{public.host}/train@{first}"
        public.put(docker_engine, versions[1], "train:1")
        asked = len(public.asked())
        assert (ours.identity(name), ours.bring(name, never)) == (first, name)
        assert len(public.asked()) == asked


def test_a_registry_that_is_away_stops_nobody_who_has_the_image(
    site: Site, registry: Registry, docker_engine: Engine, versions: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    registry.put(docker_engine, versions[0], "team/train:1")
    assert version(site, registry) == "1"
    registry.stop()
    environment = EnvironmentSpec(name="train", docker_image=f"{registry.host}/team/train:1")
    run_id = try_step(site, shell("b", "cat /version > @out", compute=TARGET, environment=environment))
    assert output_of(site, run_id, "b").read_text() == "1\n"
    assert f"what image '{registry.host}/team/train:1' is now cannot be asked of {registry.host} with" in caplog.text


@pytest.mark.parametrize(
    ("image", "connection", "says"),
    [
        ("team/none:1", "right", "with connection 'reg': manifest for .* not found: .*; correct its name, or push it"),
        ("team/train:2", "right", "with connection 'reg': manifest for .* not found: .*; correct its name, or push it"),
        ("team/train:1", "wrong", "with connection 'reg': unauthorized: .*; correct that connection's user and"),
        ("team/train:1", None, "with no connection: .* no basic auth credentials; let the target name a connection"),
    ],
)
def test_what_cannot_be_pulled_is_told_in_one_line_and_asked_for_once(
    tmp_path: Path,
    registry: Registry,
    docker_engine: Engine,
    versions: list[str],
    monkeypatch: pytest.MonkeyPatch,
    image: str,
    connection: str | None,
    says: str,
) -> None:
    registry.put(docker_engine, versions[0], "team/train:1")
    before = len(registry.asked())
    if connection == "wrong":
        monkeypatch.setenv("AIRFLOW_CONN_REG", registry.connection("another"))
    name = f"{registry.host}/{image}"
    ours = known(docker_engine, tmp_path, registry_conn_id=connection and "reg")
    head = rf"compute target 'box': image '{name}' is not on the Docker engine at \S+ and cannot be pulled from "
    with pytest.raises(ConfigError, match=f"{head}{registry.host} {says}") as error:
        ours.bring(name, never)
    assert "\n" not in error.value.message
    pulls = [line for line in registry.asked()[before:] if line.startswith("HEAD")]
    # One looks what the tag means, the other pulls it.
    assert len(pulls) <= 2


def test_what_docker_login_has_left_counts_where_no_connection_is_named(
    tmp_path: Path,
    registry: Registry,
    docker_engine: Engine,
    versions: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.put(docker_engine, versions[0], "team/train:1")
    token = base64.b64encode(b"ada:s3cr3t").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": token}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    name = f"{registry.host}/team/train:1"
    assert known(docker_engine, tmp_path, registry_conn_id=None).bring(name, never) == name


# --- what is built


def test_what_one_engine_has_built_another_one_pulls(
    tmp_path: Path,
    registry: Registry,
    docker_engine: Engine,
    private_docker_engine: PrivateEngine,
    versions: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with packages on a base that is only a tag: it is the same one for both."""
    registry.put(docker_engine, versions[0], "team/base:1")

    def recipe(lock: EnvironmentLock, base: str) -> ImageRecipe:
        text = f"FROM {base}\nRUN echo {lock.packages[0]} > /packages\n"
        return ImageRecipe(text, {}, digest_bytes(text.encode()))

    monkeypatch.setattr("airflow_mlpipe.engine.image_build.image_recipe", recipe)
    lock = EnvironmentLock(definition=digest_bytes(b"x"), python="3.11", packages=("probe==1",))
    spec = EnvironmentSpec(name="probe", docker_image=f"{registry.host}/team/base:1")
    said: list[str] = []
    name = builder(docker_engine, tmp_path).provide(spec, lock, say=said.append, stop=never)
    assert name.startswith(f"{registry.host}/team/mlpipe-env:")
    assert said[0] == f"building image {name} of environment 'probe'"
    assert said[-1] == f"pushing image {name}"
    said.clear()
    other = builder(private_docker_engine, tmp_path)
    assert other.provide(spec, lock, say=said.append, stop=never) == name
    assert said == []
    assert len(private_docker_engine.client.api.history(name)) == len(docker_engine.client.api.history(name))
    # Once it is there nobody asks the registry.
    asked = len([line for line in registry.asked() if "mlpipe-env" in line])
    assert builder(docker_engine, tmp_path).provide(spec, lock, say=said.append, stop=never) == name
    assert other.provide(spec, lock, say=said.append, stop=never) == name
    assert len([line for line in registry.asked() if "mlpipe-env" in line]) == asked
    base = docker_engine.client.api.inspect_image(versions[0])["Id"].partition(":")[2]
    docker_engine.client.api.remove_image(f"mlpipe-env-base:{base[:24]}")


@pytest.fixture
def dockerfile(busybox_image: str, tmp_path: Path) -> EnvironmentSpec:
    return EnvironmentSpec(name="mine", dockerfile=f"FROM {busybox_image}\nRUN echo {tmp_path.name} > /made\n")


def test_an_image_that_could_not_be_pushed_is_pushed_by_the_next_try_and_not_built_again(
    tmp_path: Path,
    registry: Registry,
    docker_engine: Engine,
    dockerfile: EnvironmentSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, said = registries.free_port(), []
    with registries.registry(tmp_path / "moved", read_only=True, port=port) as refusing:
        monkeypatch.setenv("AIRFLOW_CONN_REG", refusing.connection())
        ours = builder(docker_engine, tmp_path)
        head = (
            r"compute target 'box': image 127\S+/team/mlpipe-env-base:\S+ of environment 'mine' is built and cannot be "
        )
        says = (
            rf"pushed: 127.0.0.1:{port} with connection 'reg', which has no user says: .*method not allowed.*; correct "
        )
        with pytest.raises(ConfigError, match=f"(?i){head}{says}") as error:
            ours.provide(dockerfile, None, say=said.append, stop=never)
        assert "\n" not in error.value.message
    assert said[0].startswith("building image")
    said.clear()
    with registries.registry(tmp_path / "moved", port=port) as taking, forgotten(docker_engine, taking):
        name = ours.provide(dockerfile, None, say=said.append, stop=never)
        assert said == [f"pushing image {name}"]
        assert taking.digest(name.partition("/")[2]) is not None


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (
            "wrong password",
            ConfigError,
            "is not built: .* with connection 'reg' says: .*401 Unauthorized; correct",
        ),
        (
            "no user",
            ConfigError,
            "is not built: .* with connection 'reg', which has no user says: authentication required; correct",
        ),
        ("away", UnreachableError, "is not built: .* with connection 'reg' says: .*connection refused; see whether"),
    ],
)
def test_nothing_is_built_that_could_not_be_pushed(
    tmp_path: Path,
    registry: Registry,
    docker_engine: Engine,
    dockerfile: EnvironmentSpec,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    kind: type[MlpipeError],
    says: str,
) -> None:
    monkeypatch.setattr("airflow_mlpipe.engine.image_transfer._PAUSE_S", 0.01)
    if fault == "wrong password":
        monkeypatch.setenv("AIRFLOW_CONN_REG", registry.connection("another"))
    elif fault == "no user":
        monkeypatch.setenv("AIRFLOW_CONN_REG", f'{{"host": "{registry.host}"}}')
    else:
        registry.stop()
    said: list[str] = []
    with pytest.raises(kind, match=says) as error:
        builder(docker_engine, tmp_path).provide(dockerfile, None, say=said.append, stop=never)
    assert "\n" not in error.value.message
    assert said == []


def test_a_pull_is_given_up_when_the_step_is(
    tmp_path: Path, registry: Registry, docker_engine: Engine, versions: list[str]
) -> None:
    registry.put(docker_engine, versions[0], "team/train:1")
    name = f"{registry.host}/team/train:1"
    with pytest.raises(
        StepStoppedError, match=r"the pull of image '127\S+/team/train@\S+' was stopped: cancelled by test"
    ):
        known(docker_engine, tmp_path).bring(name, lambda: "cancelled by test")


# --- names


@pytest.mark.parametrize(
    ("host", "place", "image", "held"),
    [
        ("https://index.docker.io/v1/", "docker.io", "python:3.12", True),
        ("docker.io/team", "docker.io/team", "team/train:1", True),
        ("docker.io/team", "docker.io/team", "other/train:1", False),
        ("https://r.example.com/v2/", "r.example.com", "r.example.com/a/b@sha256:0", True),
        ("r.example.com/team", "r.example.com/team", "r.example.com/teams/x:1", False),
        ("localhost:5000", "localhost:5000", "localhost:5000/x", True),
        ("localhost:5000", "localhost:5000", "localhost/x", False),
    ],
)
def test_what_lies_in_the_registry_of_a_connection(
    tmp_path: Path,
    docker_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    place: str,
    image: str,
    held: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REG", f'{{"host": "{host}", "login": "u", "password": "p"}}')
    found = TargetRegistry(target(docker_engine), tmp_path)
    assert (found.place, found.holds(image)) == (place, held)
    assert held <= (found.login(image) is not None)


def test_short_names_are_of_dockers_own_registry() -> None:
    assert full_name("python:3.12") == "docker.io/library/python:3.12"
    assert full_name("docker.io/python") == "docker.io/library/python"
    assert full_name("index.docker.io/team/x:1") == full_name("team/x:1") == "docker.io/team/x:1"
