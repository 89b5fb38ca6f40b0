"""docs/how-to/deploy.md from a clone to the digits pipeline, workers, steps in containers, backup and restore."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import compose_site
import container_engine
import pytest
from compose_site import ROOT, ComposeSite
from engine_site import eventually

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(compose_site.missing() is not None, reason=compose_site.missing() or ""),
    pytest.mark.timeout(1500),
]

SOCKET = Path("/var/run/docker.sock")
SPREAD = """
from airflow_mlpipe import CommandStep, ComputeTarget, DockerCompute, Pipeline, PipelineData, Workspace

ws = Workspace.from_config()
box = DockerCompute.attach_configuration(image="mlpipe-local/python:3.11", network_mode="none")
ComputeTarget.attach(ws, "box", box)
places = [PipelineData(f"place{i}") for i in range(8)]
words = ["sh", "-c", 'sleep 2; cat /etc/hostname > "$1"', "step"]
steps = [CommandStep(name=o.name, command=[*words, o], outputs=[o]) for o in places]
told = PipelineData("told")
tell = ["sh", "-c", 'told=$1; shift; { cat "$@" | sort | uniq -c; id -u; env; } | tee "$told"', "step"]
last = CommandStep(name="tell", command=[*tell, told, *places], inputs=places, outputs=[told], compute_target="box")
pipeline = Pipeline(ws, steps=[last], name="spread")
"""
ASK = """
import sys, urllib.error, urllib.request

for line in sys.argv[1:]:
    method, _, path = line.partition(" ")
    try:
        code = urllib.request.urlopen(urllib.request.Request("http://docker-proxy:2375" + path, method=method)).status
    except urllib.error.HTTPError as error:
        code = error.code
    print(code, line)
"""
LET_THROUGH = (
    "GET /_ping",
    "GET /v1.41/version",
    "GET /v1.41/containers/json",
    "GET /images/mlpipe-local/redis:7/json",
)
DENIED = (
    "POST /v1.41/containers/{id}/exec",
    "POST /exec/{id}/start",
    "GET /containers/{id}/archive?path=/etc/passwd",
    "POST /containers/{id}/update",
    "POST /v1.41/build",
    "POST /commit",
    "GET /v1.41/volumes",
    "POST /volumes/create",
    "POST /containers/../volumes/create",
    "POST /containers/%2e%2e/volumes/create",
    "GET /networks",
    "GET /secrets",
    "GET /info",
    "DELETE /images/mlpipe-local/redis:7",
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeSite]:
    if (reason := container_engine.missing()) is not None:
        pytest.skip(reason)
    with compose_site.running(tmp_path_factory.mktemp("compose")) as site:
        if (reason := site.unconnected()) is not None:
            pytest.skip(reason)
        yield site


@pytest.fixture(scope="module")
def demo(clone: ComposeSite) -> str:
    """What `make compose-demo` has printed."""
    return clone.run("make compose-demo")


def block(first_line: str) -> str:
    """The commands that the page has under a heading comment."""
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text("utf-8")
    (found,) = re.findall(rf"```bash\n# {first_line}\n(.*?)```", page, re.S)
    return str(found)


def test_a_newcomer_sees_the_digits_run_then_reused_then_explained(clone: ComposeSite, demo: str) -> None:
    ran, reused, changed = re.findall(r"^5 steps: (.*)$", demo, re.M)
    assert ran == "5 ran"
    assert reused.startswith("5 reused")
    assert re.match(r"\d reused .*, \d ran", changed)
    assert "train_logistic" in demo
    assert "parameter regularization: 0.1 -> 1.0" in demo
    assert f"the UI: http://127.0.0.1:{clone.port}" in demo


def test_what_runs_has_no_powers_and_is_reached_from_this_machine_only(clone: ComposeSite, demo: str) -> None:
    eventually(
        lambda: {about["State"]["Health"]["Status"] for about in clone.containers().values()} == {"healthy"}, 180
    )
    found = clone.containers()
    assert set(found) == {"postgres", "object-store", "api-server", "scheduler", "dag-processor", "triggerer"}
    for name, about in found.items():
        assert clone.run(f"docker exec {about['Id']} id -u").strip() != "0", name
        status = clone.run(f"docker exec {about['Id']} cat /proc/1/status")
        assert re.search(r"^CapBnd:\t0+$", status, re.M), name
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M), name
        published = [at["HostIp"] for ports in about["NetworkSettings"]["Ports"].values() for at in ports or ()]
        assert published == (["127.0.0.1"] if name == "api-server" else []), name


def test_secrets_are_made_once(clone: ComposeSite, demo: str) -> None:
    before = (clone.folder / ".env").read_text()
    clone.run("deploy/secrets.sh")
    assert (clone.folder / ".env").read_text() == before
    assert (clone.folder / ".env").stat().st_mode & 0o777 == 0o600
    logs = clone.run("docker compose logs --no-color")
    # The key of the object store is a name.
    secrets = [line.partition("=") for line in before.splitlines() if not line.startswith("MLPIPE_S3_KEY=")]
    assert [name for name, _, value in secrets if value in logs] == []
    assert "Traceback" not in logs


def test_the_ui_has_the_run_and_the_pages_of_its_steps(clone: ComposeSite, demo: str) -> None:
    login = {"username": "admin", "password": clone.secret("MLPIPE_ADMIN_PASSWORD")}
    token = clone.ask("/auth/token", login)["access_token"]
    assert clone.ask("/api/v2/importErrors", token=token)["total_entries"] == 0
    (first, *_) = clone.ask("/api/v2/dags/digits/dagRuns?order_by=run_after", token=token)["dag_runs"]
    task = f"/dags/digits/dagRuns/{first['dag_run_id']}/taskInstances/train_logistic"
    links = clone.ask(f"/api/v2{task}/links", token=token)["extra_links"]
    assert "azureml/" in clone.ask(links["Outputs"], token=token)
    assert clone.ask("/", token=token).lower().startswith("<!doctype html>")


def test_a_backup_is_restored_where_workers_and_containers_carry_the_steps(
    clone: ComposeSite, demo: str, tmp_path: Path
) -> None:
    clone.run(block("back up"))
    clone.run("docker compose down --volumes")
    # A folder below another that the container's user could not make it in.
    machine = tmp_path / "machine"
    machine.mkdir(mode=0o700)
    os.chown(machine, 50000, 50000)
    clone.set(COMPOSE_PROFILES="celery,docker", MLPIPE_EXECUTOR="CeleryExecutor", MLPIPE_MACHINE_DIR=str(machine))
    clone.set(MLPIPE_DOCKER_HOST="tcp://docker-proxy:2375", MLPIPE_DOCKER_GROUP=str(SOCKET.stat().st_gid))

    restored = clone.run(block("restore"))

    assert "no problems" in restored
    clone.run("docker compose up --detach --scale worker=2")
    again = clone.run("docker compose run --rm --no-deps client mlpipe run examples/digits/pipeline.py")
    assert "5 steps: 5 reused" in again
    (clone.folder / "spread.py").write_text(SPREAD)
    project = '--volume "$PWD/spread.py:/project/spread.py:ro" --workdir /project'
    spread = clone.run(f"docker compose run --rm --no-deps {project} client mlpipe run spread.py", check=False)
    assert "9 steps: 9 ran" in spread, spread + clone.run(
        "docker compose logs --no-color --tail 60 worker docker-proxy"
    )
    shown = clone.run(f"docker compose run --rm --no-deps client mlpipe logs {run_of(spread)} tell")
    assert len(re.findall(r"^ +\d [0-9a-f]{12}$", shown, re.M)) == 2, shown
    assert "50000" in shown
    assert not re.search(r"AIRFLOW__|PASSWORD|SECRET", shown)

    found = clone.containers()
    for name in ("redis", "worker", "docker-proxy"):
        assert clone.run(f"docker exec {found[name]['Id']} id -u").strip() != "0", name
    lines = " ".join(f"'{line.format(id=found['redis']['Id'])}'" for line in (*LET_THROUGH, *DENIED))
    (clone.folder / "ask.py").write_text(ASK)
    answers = clone.run(f'docker exec {found["worker"]["Id"]} python -c "$(cat ask.py)" {lines}').splitlines()
    assert [answer[:3] for answer in answers] == ["200"] * len(LET_THROUGH) + ["403"] * len(DENIED)


def run_of(told: str) -> str:
    """The id of the run that `mlpipe run` tells of."""
    found = re.search(r"^run ([0-9a-f-]{36})", told, re.M)
    assert found, told
    return found[1]
