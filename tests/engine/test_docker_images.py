"""Images of steps: built for packages, known by content, pulled and pushed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pod_site
import pytest
from cluster_site import Cluster
from container_engine import Engine
from docker_site import TARGET, output_of, put_target, try_step
from engine_site import Site, shell
from wheels import PackageIndex, only_index

from airflow_mlpipe import CommandStep, Environment, Experiment, Pipeline, RunConfiguration, Workspace
from airflow_mlpipe.engine.docker_engine import DockerEngine
from airflow_mlpipe.engine.image_build import BUILT_LABEL, ImageBuilder
from airflow_mlpipe.engine.images import Images
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import ConfigError, EnvironmentBuildError, StepStoppedError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec

pytestmark = [pytest.mark.airflow, pytest.mark.docker]


def never() -> None:
    return None


@pytest.fixture
def remove(docker_engine: Engine) -> Iterator[list[str]]:
    """Names of images that go after the test."""
    names: list[str] = []
    yield names
    for name in reversed(names):
        docker_engine.client.api.remove_image(name, force=True)


def target(engine: Engine, image: str | None, **settings) -> ComputeSpec:
    docker = DockerSettings(**{"image": image, "network_mode": "host", "engine_url": engine.url, **settings})
    return ComputeSpec(name=TARGET, type="DockerCompute", kind="docker", docker=docker)


# --- identity


@pytest.fixture
def tagged(docker_engine: Engine, busybox_image: str, remove: list[str]) -> str:
    """A tag of the test's own."""
    name = f"mlpipe-tests/moving:{os.getpid()}"
    docker_engine.client.api.tag(busybox_image, *name.split(":"))
    remove.append(name)
    return name


def test_what_an_image_is(tmp_path: Path, docker_engine: Engine, tagged: str, python_image: str) -> None:
    known = Images(DockerEngine.at(docker_engine.url), target(docker_engine, None), tmp_path)
    first = known.identity(tagged)
    assert first == docker_engine.client.api.inspect_image(tagged)["Id"]
    docker_engine.client.api.tag(python_image, *tagged.split(":"))
    assert known.identity(tagged) == docker_engine.client.api.inspect_image(python_image)["Id"] != first
    assert known.identity(f"x@sha256:{'0' * 64}") == f"sha256:{'0' * 64}"
    assert known.identity("127.0.0.1:9/no/such:1") is None


def test_submit_and_engine_agree_and_a_moved_tag_is_a_change(
    workspace: Workspace, docker_engine: Engine, tagged: str, python_image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.catalog.put_compute(target(docker_engine, None, network_mode="none"))
    configuration = RunConfiguration()
    configuration.environment.docker.base_image = tagged
    step = CommandStep(name="hello", command="echo hello", compute_target=TARGET, runconfig=configuration)
    pipeline = Pipeline(workspace, steps=[step])
    experiment = Experiment(workspace, "e")
    run = experiment.submit(pipeline)
    run.wait_for_completion(show_output=False)
    assert run.get_status() == "Finished"
    # Known at the submit already: no engine is started for what the engine itself has stored.
    again = experiment.submit(pipeline)
    assert again.get_status() == "Finished"
    assert workspace.catalog.get_run(again.id).engine == "none"
    docker_engine.client.api.tag(python_image, *tagged.split(":"))
    (planned,) = experiment.submit(pipeline, dry_run=True).steps
    assert planned.decision == "run"
    assert "image" in planned.reason


def test_nobody_can_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture, busybox_image: str) -> None:
    site = Site(tmp_path / "site")
    put_target(site, Engine(f"unix://{tmp_path}/no.sock"), "default:tag")
    room = Room(site.dir)
    one = shell("s", "true", compute=TARGET, environment=EnvironmentSpec(docker_image="some/image:tag"))
    assert dict(room.facts.environment(one)) == {"image": "some/image:tag"}
    # What the target has by default is the target's.
    assert "image" not in room.facts.environment(shell("d", "true", compute=TARGET))
    assert "reuse cannot see it change; name it by its digest" in caplog.text
    # A step beside it has the software of this machine.
    assert "python" in room.facts.environment(shell("t", "true"))


# --- builds


class Served:
    """A folder behind HTTP on this machine, for ``user:password`` only if one is given."""

    def __init__(self, folder: Path, login: str | None = None) -> None:
        handler = partial(_Quiet, login, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def __init__(self, login: str | None, *arguments: object, **options: str) -> None:
        self._wants = login and f"Basic {base64.b64encode(login.encode()).decode()}"
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self._wants and self.headers.get("Authorization") != self._wants:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """A package index that the build is told of by this machine's settings."""
    found = PackageIndex(tmp_path / "index")
    found.add("mlpipe-probe", "1.0")
    served = Served(found.root)
    monkeypatch.setenv("PIP_INDEX_URL", served.url)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    yield found
    served.close()


@pytest.fixture(scope="module")
def pip_image(docker_engine: Engine, mlpipe_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with Python, pip and what this package needs, as python:3.11-slim has the first two."""
    folder = tmp_path_factory.mktemp("pip")
    asked = subprocess.run(["python3", "-c", "import pip; print(pip.__path__[0])"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip("python3 has no pip: apt-get install python3-pip")
    name = f"mlpipe-tests/pip:{os.getpid()}"
    (folder / "Dockerfile").write_text(f"FROM {mlpipe_image}\nCOPY pip /opt/pip/pip\nENV PYTHONPATH=/opt/pip\n")
    (folder / "pip").symlink_to(asked.stdout.strip())
    docker_engine.client.images.build(path=str(_copied(folder)), tag=name, rm=True, forcerm=True)
    yield name
    _remove_with_all_on_it(docker_engine, name)


def _remove_with_all_on_it(engine: Engine, name: str) -> None:
    """Remove an image with what was built on it, the layers of failed builds included."""
    from docker.errors import ImageNotFound

    api = engine.client.api
    found = [api.inspect_image(name)["Id"]]
    for parent in found:
        found += [image["Id"] for image in api.images(all=True) if image["ParentId"] == parent]
    for image in reversed(found):
        with suppress(ImageNotFound):
            # One without a name goes with the last one that stands on it.
            api.remove_image(image, force=True)


def _copied(folder: Path) -> Path:
    import shutil

    target = folder / "context"
    shutil.copytree(folder / "pip", target / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(folder / "Dockerfile", target)
    return target


def lock_of(*packages: str) -> EnvironmentLock:
    return EnvironmentLock(definition=digest_bytes(repr(packages).encode()), python="3.11", packages=packages)


def test_an_image_is_built_once_for_its_packages(
    tmp_path: Path, docker_engine: Engine, pip_image: str, index: PackageIndex, remove: list[str]
) -> None:
    compute = target(docker_engine, pip_image)
    engine = DockerEngine.at(docker_engine.url)
    builder = ImageBuilder(engine, compute, Images(engine, compute, tmp_path))
    spec, said = EnvironmentSpec(name="probe"), []
    name = builder.provide(spec, lock_of("mlpipe-probe==1.0"), say=said.append, stop=never)
    remove.append(name)
    assert any("mlpipe" in line and "1.0" in line for line in said), said
    probe = "import mlpipe_probe; from airflow_mlpipe import Run; print(mlpipe_probe.__version__)"
    container = docker_engine.client.containers.run(
        name, ["python", "-c", probe], network_mode="none", remove=True, labels={BUILT_LABEL: "probe"}
    )
    assert container == b"1.0\n"
    said.clear()
    assert builder.provide(spec, lock_of("mlpipe-probe==1.0"), say=said.append, stop=never) == name
    assert said == []


def test_logins_of_package_indexes_and_proxies_are_nowhere_in_the_image(
    tmp_path: Path, docker_engine: Engine, pip_image: str, remove: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("of%the@first", "of-the-second", "of-the-proxy")
    for name in ("first", "second"):
        PackageIndex(tmp_path / name).add(f"mlpipe-{name}", "1.0")
    first = Served(tmp_path / "first", f"ada:{secrets[0]}")
    second = Served(tmp_path / "second", f"bob:{secrets[1]}")
    monkeypatch.setenv("PIP_INDEX_URL", first.url.replace("//", f"//ada:{quote(secrets[0], safe='')}@"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", second.url)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login bob password {secrets[1]}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", f"http://u:{secrets[2]}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    compute = target(docker_engine, pip_image)
    engine = DockerEngine.at(docker_engine.url)
    builder, said = ImageBuilder(engine, compute, Images(engine, compute, tmp_path)), []
    lock = lock_of("mlpipe-first==1.0", "mlpipe-second==1.0")
    try:
        name = builder.provide(EnvironmentSpec(name="private"), lock, say=said.append, stop=never)
    finally:
        first.close()
        second.close()
    remove.append(name)
    api = docker_engine.client.api
    # Its layers, configuration and history; what was built before has nothing of it.
    kept = [json.dumps(api.history(name)), json.dumps(api.inspect_image(name)), "\n".join(said)]
    for secret in (*secrets, quote(secrets[0], safe="")):
        assert not any(secret in text for text in kept)
    probe = "import os, pathlib, mlpipe_first, mlpipe_second; print(dict(os.environ)); "
    probe += "print([p.read_text() for p in pathlib.Path('/root').rglob('*') if p.is_file()])"
    seen = docker_engine.client.containers.run(name, ["python", "-c", probe], network_mode="none", remove=True)
    assert not any(word in seen.decode() for word in (*secrets, "PIP_", "PROXY"))
    assert not any(secret.encode() in b"".join(api.get_image(name)) for secret in secrets)


def test_a_build_that_fails_names_the_lines(
    tmp_path: Path, docker_engine: Engine, pip_image: str, index: PackageIndex
) -> None:
    compute = target(docker_engine, pip_image)
    engine = DockerEngine.at(docker_engine.url)
    builder = ImageBuilder(engine, compute, Images(engine, compute, tmp_path))
    with pytest.raises(EnvironmentBuildError) as error:
        builder.provide(EnvironmentSpec(name="bad"), lock_of("mlpipe-absent==3"), say=lambda _: None, stop=never)
    head, *lines = error.value.message.splitlines()
    assert head.startswith("environment 'bad': its image cannot be built: The command '/bin/sh -c ")
    assert any("No matching distribution found for mlpipe-absent==3" in line for line in lines)


def test_a_step_on_a_dockerfile(site: Site, docker_engine: Engine, busybox_image: str, remove: list[str]) -> None:
    put_target(site, docker_engine, None, network_mode="host")
    text = f"FROM {busybox_image}\nRUN echo made > /made\n"
    run_id = try_step(
        site, shell("df", "cat /made > @out", compute=TARGET, environment=EnvironmentSpec(name="f", dockerfile=text))
    )
    assert output_of(site, run_id, "df").read_text() == "made\n"
    built = docker_engine.client.api.images(filters={"label": f"{BUILT_LABEL}=f"})
    remove += [image["RepoTags"][0] for image in built]


# --- registries


class Registry(BaseHTTPRequestHandler):
    """A registry that answers as the test says, and remembers what it was asked with."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        if self.path == "/v2/":
            self._answer(200, {})
        else:
            answers = self.server.answers  # type: ignore[attr-defined]
            self._answer(*(answers.pop(0) if len(answers) > 1 else answers[0]))

    do_HEAD = do_POST = do_GET

    def _answer(self, code: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


@pytest.fixture
def registry() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.asked, server.answers = [], []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


UNKNOWN = (404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
HIDDEN = (403, {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]})
BUSY = (503, {"errors": [{"code": "UNAVAILABLE", "message": "busy"}]})


def test_an_image_that_no_registry_has_is_not_asked_for_twice(
    tmp_path: Path, docker_engine: Engine, registry: ThreadingHTTPServer
) -> None:
    registry.answers[:] = [UNKNOWN]
    name = f"127.0.0.1:{registry.server_port}/no/such:1"
    known = Images(DockerEngine.at(docker_engine.url), target(docker_engine, None), tmp_path)
    with pytest.raises(ConfigError, match=f"compute target 'box': image '{name}' is not on the Docker engine at unix"):
        known.bring(name, never)
    assert len([path for path, _ in registry.asked if "manifests" in path]) <= 2


def test_a_busy_registry_is_asked_again(
    tmp_path: Path, docker_engine: Engine, registry: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.answers[:] = [BUSY]
    name = f"127.0.0.1:{registry.server_port}/some:1"
    monkeypatch.setattr("airflow_mlpipe.engine.image_transfer._PAUSE_S", 0.01)
    known = Images(DockerEngine.at(docker_engine.url), target(docker_engine, None), tmp_path)
    with pytest.raises(UnreachableError, match="cannot be pulled"):
        known.bring(name, never)
    assert len([path for path, _ in registry.asked if "manifests" in path]) >= 3


def test_a_registry_that_hides_what_is_not_there_is_built_for(
    tmp_path: Path,
    docker_engine: Engine,
    registry: ThreadingHTTPServer,
    busybox_image: str,
    remove: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It knows the user, and yet denies access to a repository that the first push would make."""
    registry.answers[:] = [HIDDEN]
    host = f"127.0.0.1:{registry.server_port}"
    monkeypatch.setenv("AIRFLOW_CONN_REG", json.dumps({"host": host, "login": "u", "password": "p"}))
    compute, engine = target(docker_engine, None, registry_conn_id="reg"), DockerEngine.at(docker_engine.url)
    builder, said = ImageBuilder(engine, compute, Images(engine, compute, tmp_path)), []
    dockerfile = EnvironmentSpec(name="first", dockerfile=f"FROM {busybox_image}\nRUN echo {tmp_path} > /made\n")

    def begins_to_push() -> str | None:
        # The engine itself would try for a minute.
        return "it is pushed" if any("/blobs/uploads/" in path for path, _ in registry.asked) else None

    with pytest.raises(StepStoppedError, match="it is pushed"):
        builder.provide(dockerfile, None, say=said.append, stop=begins_to_push)
    built = docker_engine.client.api.images(filters={"label": f"{BUILT_LABEL}=first"})
    remove += [image["RepoTags"][0] for image in built]
    assert said[0].startswith(f"building image {host}/mlpipe-env-base:")


def test_a_connection_is_for_its_registry_only(
    tmp_path: Path, docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_REG", json.dumps({"host": "https://r.example.com/team", "login": "u", "password": "p"})
    )
    known = Images(DockerEngine.at(docker_engine.url), target(docker_engine, None, registry_conn_id="reg"), tmp_path)
    assert known.registry.place == "r.example.com/team"
    assert known.login("r.example.com/team/x:1") == {"username": "u", "password": "p"}
    assert known.login("python:3.11") is None
    assert known.login("r.example.com.evil.com/x") is None
    lost = Images(DockerEngine.at(docker_engine.url), target(docker_engine, None, registry_conn_id="lost"), tmp_path)
    with pytest.raises(ConfigError, match="compute target 'box': there is no connection 'lost'"):
        lost.login("x")


def test_an_environment_is_built_by_name(
    workspace: Workspace, docker_engine: Engine, busybox_image: str, remove: list[str]
) -> None:
    workspace.catalog.put_compute(target(docker_engine, None))
    environment = Environment.from_dockerfile("byname", f"FROM {busybox_image}\nRUN echo by name > /made\n")
    build = environment.build(workspace, image_build_compute=TARGET).wait_for_completion(show_output=False)
    (name,) = [line.rpartition(" ")[2] for line in build.log.splitlines() if line.startswith("image of environment")]
    remove.append(name)
    assert "RUN echo by name > /made" in build.log
    assert docker_engine.client.api.inspect_image(name)["Config"]["Labels"][BUILT_LABEL] == "byname"
    with pytest.raises(ConfigError, match="image_build_compute='aml' runs steps by local"):
        workspace.catalog.put_compute(ComputeSpec(name="aml"))
        environment.build(workspace, image_build_compute="aml").wait_for_completion(show_output=False)


# --- for pods


@pytest.mark.k8s
def test_a_pod_runs_in_the_image_that_a_docker_target_builds(
    tmp_path: Path,
    docker_engine: Engine,
    cluster: Cluster,
    busybox_image: str,
    remove: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(pod_site.CONNECTION, pod_site.connection(cluster))
    only_index(tmp_path, monkeypatch).add("mlpipe-probe", "1.0")
    site = pod_site.PodSite(tmp_path / "one" / "site", cluster)
    packages = EnvironmentSpec(name="probe", pip_packages=("mlpipe-probe",))
    with pytest.raises(ConfigError, match="'probe' asks for packages, which nobody builds an image of; set the"):
        site.go(shell("a", "true > @out", compute=pod_site.TARGET, environment=packages))
    site = pod_site.PodSite(tmp_path / "two" / "site", cluster, image_build_compute=TARGET)
    put_target(site, docker_engine, None, network_mode="host")
    dockerfile = EnvironmentSpec(name="pod", dockerfile=f"FROM {busybox_image}\nRUN echo by docker > /made\n")
    site.go(shell("a", "cat /made > @out", compute=pod_site.TARGET, environment=dockerfile))
    built = docker_engine.client.api.images(filters={"label": f"{BUILT_LABEL}=pod"})
    remove += [image["RepoTags"][0] for image in built]
    assert site.made() == "by docker\n"
