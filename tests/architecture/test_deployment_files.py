"""docker-compose.yaml and the hooks: valid, and without the usual holes."""

from __future__ import annotations

import re
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


def services() -> dict[str, dict[str, Any]]:
    found = compose()["services"]
    assert isinstance(found, dict)
    return found


def test_the_services_of_a_server_are_there() -> None:
    assert {"postgres", "api-server", "scheduler", "dag-processor", "triggerer"} <= set(services())


@pytest.mark.parametrize("name", sorted(services()))
class TestService:
    def test_has_only_known_keys(self, name: str) -> None:
        assert set(services()[name]) <= SERVICE_KEYS

    def test_depends_on_services_and_volumes_that_exist(self, name: str) -> None:
        service = services()[name]
        assert set(service.get("depends_on", {})) <= set(services())
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {v for v in volumes if not v.startswith((".", "/"))} <= set(compose()["volumes"])

    def test_names_an_exact_image_or_builds_one(self, name: str) -> None:
        service = services()[name]
        assert "image" in service
        tag = service["image"].partition(":")[2]
        assert re.search(r"\d", tag), f"{service['image']} does not name a version"

    def test_publishes_on_this_machine_only(self, name: str) -> None:
        assert all(str(port).startswith("127.0.0.1:") for port in services()[name].get("ports", []))

    def test_does_not_run_as_root(self, name: str) -> None:
        user = str(services()[name].get("user", ""))
        assert user, f"{name} says no user: it would run as its image's default"
        assert user.split(":")[0] not in {"0", "root"}

    def test_takes_secrets_from_the_caller(self, name: str) -> None:
        for key, value in services()[name].get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|FERNET_KEY|CONN$", key):
                assert "${" in value, f"{key} has a value in the file"
                assert ":?" in value, f"{key} has a default: it must be required"


def test_no_socket_no_privileges() -> None:
    text = "\n".join(line for line in COMPOSE.read_text("utf-8").splitlines() if not line.strip().startswith("#"))
    assert not re.search(r"docker\.sock|privileged|network_mode|0\.0\.0\.0|:latest", text)


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
