"""docker-compose.yaml and the hooks: valid, and without the usual holes."""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yaml"

SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "profiles",
    "read_only",
    "restart",
    "security_opt",
    "tmpfs",
    "user",
    "volumes",
}


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load(COMPOSE.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def default_of(name: str) -> str:
    """Return the name of a volume that a variable may replace."""
    found = re.fullmatch(r"\$\{\w+:-([\w-]+)\}", name)
    return found[1] if found else name


def services() -> dict[str, dict[str, Any]]:
    found = compose()["services"]
    assert isinstance(found, dict)
    return found


def test_the_services_of_a_server_are_there() -> None:
    plain = {name for name, service in services().items() if "profiles" not in service}
    airflow = {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert plain == {"postgres", "object-store", "prepare", *airflow}
    assert {name for name, service in services().items() if "celery" in service.get("profiles", [])} == {
        "redis",
        "worker",
    }


@pytest.mark.parametrize("name", sorted(services()))
class TestService:
    def test_has_only_known_keys(self, name: str) -> None:
        assert set(services()[name]) <= SERVICE_KEYS

    def test_depends_on_services_and_volumes_that_exist(self, name: str) -> None:
        service = services()[name]
        assert set(service.get("depends_on", {})) <= set(services())
        volumes = {re.split(r":(?!-)", volume)[0] for volume in service.get("volumes", [])}
        assert {default_of(v) for v in volumes if not v.startswith((".", "/"))} <= set(compose()["volumes"])

    def test_names_an_exact_image_or_builds_one(self, name: str) -> None:
        service = services()[name]
        assert "image" in service
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d", tag), f"{service['image']} does not name a version"

    def test_publishes_on_this_machine_only(self, name: str) -> None:
        assert all(str(port).startswith("127.0.0.1:") for port in services()[name].get("ports", []))

    def test_says_when_it_is_well(self, name: str) -> None:
        # The others end by themselves.
        assert name in ("prepare", "client") or services()[name]["healthcheck"]["test"][0] == "CMD"

    def test_has_no_powers(self, name: str) -> None:
        assert services()[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services()[name]["security_opt"]

    def test_does_not_run_as_root(self, name: str) -> None:
        user = str(services()[name].get("user", ""))
        assert user, f"{name} says no user: it would run as its image's default"
        assert user.split(":")[0] not in {"0", "root"}

    def test_takes_secrets_from_the_caller(self, name: str) -> None:
        for key, value in services()[name].get("environment", {}).items():
            if re.search(r"PASSWORD(?!S_FILE)|SECRET(?!S$)|FERNET_KEY|_KEY(_ID)?$|_CONN|BROKER|BACKEND", key):
                assert "${" in value, f"{key} has a value in the file"
                assert ":?" in value, f"{key} has a default: it must be required"


def test_no_privileges() -> None:
    text = "\n".join(line for line in COMPOSE.read_text("utf-8").splitlines() if not line.strip().startswith("#"))
    assert not re.search(r"privileged|network_mode|0\.0\.0\.0|:latest", text)


def test_the_engines_socket_is_behind_a_proxy_that_somebody_asks_for() -> None:
    holders = {name for name, s in services().items() if any("docker.sock" in v for v in s.get("volumes", []))}
    assert holders == {"docker-proxy"}
    proxy = services()["docker-proxy"]
    assert (proxy["profiles"], proxy.get("ports")) == (["docker"], None)
    assert all(volume.endswith(":ro") for volume in proxy["volumes"])
    rules = [line.split() for line in (ROOT / "deploy" / "docker-proxy.cfg").read_text("utf-8").splitlines()]
    rules = [words for words in rules if words[:1] == ["http-request"]]
    # Each that lets something through names a method, and a path from its first to its last letter.
    assert rules.pop() == ["http-request", "deny"]
    for words in rules:
        assert words[:3] == ["http-request", "allow", "if"]
        assert words[3] in ("asks", "tells", "removes")
        assert words[4:8] == ["{", "path", "-m", "reg"]
        assert words[8].startswith("^(/v[0-9.]+)?/")
        assert words[8].endswith("$")
        assert words[9:] == ["}"]


def test_the_secrets_that_are_made_are_those_that_are_required(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "secrets.sh", tmp_path / "deploy")
    for _ in range(2):
        subprocess.run(["sh", script], check=True, capture_output=True)
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert set(made) == set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text("utf-8")))
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert len(base64.urlsafe_b64decode(made.pop("MLPIPE_FERNET_KEY"))) == 32
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made)


def test_docker_compose_takes_it(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    required = sorted(set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text("utf-8"))))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COMPOSE_PROFILES": "celery,docker,client"}
    # What somebody has in .env beside the file does not count.
    (nothing := tmp_path / "env").touch()
    command = [program, "--env-file", str(nothing), "--file", str(COMPOSE), "config", "--quiet"]
    whole = subprocess.run(command, env={**env, **dict.fromkeys(required, "x")}, capture_output=True, text=True)
    assert (whole.returncode, whole.stderr) == (0, "")
    refused = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (refused.returncode, "see the head of docker-compose.yaml" in refused.stderr) == (1, True)


def test_the_image_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("FROM "))
    assert [line.split()[1] for line in lines[last:] if line.startswith("USER ")] == ["50000:50000"]
    assert not [line for line in lines if ":latest" in line or re.match(r"FROM [^:]+$", line) and "${" not in line]


def test_every_required_setting_is_explained() -> None:
    text = COMPOSE.read_text("utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    head = text[: text.index("services:")]
    assert required, "nothing is required: where do the passwords come from?"
    assert {name for name in required if not re.search(rf"^#.*\b{name}\b", head, re.M)} == set()


def test_hooks_download_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert {hook["language"] for repo in hooks["repos"] for hook in repo["hooks"]} == {"system"}
