"""The images made without a registry, and the private engine."""

from __future__ import annotations

import re

import container_engine
import images
import pytest

pytestmark = pytest.mark.docker


def output(engine: container_engine.Engine, image: str, *command: str) -> str:
    done = engine.client.containers.run(image, list(command), network_mode="none", remove=True)
    return done.decode().strip()


def test_the_busybox_image_has_a_shell_and_no_python(docker_engine, busybox_image):
    assert output(docker_engine, busybox_image, "sh", "-c", "echo $((6 * 7)); command -v python3 || true") == "42"


def test_the_python_image_has_the_standard_library(docker_engine, python_image):
    script = "import ctypes, decimal, lzma, pwd, sqlite3, ssl; print(pwd.getpwuid(0).pw_name)"
    assert output(docker_engine, python_image, "python", "-I", "-c", script) == "root"
    missing = "import importlib.util as u; print(u.find_spec('airflow_mlpipe'), u.find_spec('pydantic'))"
    assert output(docker_engine, python_image, "python3", "-c", missing) == "None None"


def test_the_packages_image_has_ours_and_what_its_core_needs(docker_engine, mlpipe_image):
    script = (
        "import airflow_mlpipe.catalog.catalog, airflow_mlpipe.execution.start, airflow_mlpipe.storage.outputs as o; "
        "print(airflow_mlpipe.__version__, o.__file__)"
    )
    version, file = output(docker_engine, mlpipe_image, "python", "-c", script).split()
    assert re.match(r"\d", version)
    assert "packages/airflow_mlpipe/" in file


def test_an_image_is_made_once(docker_engine, busybox_image):
    before = docker_engine.client.images.get(busybox_image).id
    assert images.busybox(docker_engine) == busybox_image
    assert docker_engine.client.images.get(busybox_image).id == before


def test_a_private_engine_can_be_killed_and_started_again(private_docker_engine):
    image = images.busybox(private_docker_engine)
    assert output(private_docker_engine, image, "echo", "first") == "first"
    private_docker_engine.kill()
    with pytest.raises(Exception, match=r"Connection|refused"):
        private_docker_engine.client.ping()
    private_docker_engine.start()
    assert output(private_docker_engine, image, "echo", "second") == "second"


def test_what_a_killed_private_engine_ran_is_ended(docker_engine):
    import psutil

    with docker_engine_of_its_own() as engine:
        image = images.busybox(engine)
        container = engine.client.containers.run(image, ["sleep", "600"], network_mode="none", detach=True)
        pid = engine.client.api.inspect_container(container.id)["State"]["Pid"]
        engine.kill()
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def docker_engine_of_its_own():
    reason = container_engine.private_missing()
    if reason is not None:
        pytest.skip(reason)
    return container_engine.private()
