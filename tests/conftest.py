"""What every test gets: an Airflow home and a user's home of its own, a workspace on demand, and its markers kept."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_site import Cluster
    from container_engine import Engine, PrivateEngine
    from registry import Registry

    from airflow_mlpipe import Workspace

# Airflow reads its home when it is imported and writes there at once, so this cannot wait for a fixture.
if "AIRFLOW_HOME" not in os.environ:
    airflow_home = tempfile.mkdtemp(prefix="mlpipe-tests-airflow-")
    os.environ["AIRFLOW_HOME"] = airflow_home
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(airflow_home, ignore_errors=True) if os.getpid() == owner else None)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of user-level files: a new one, so that no test sees the user's workspaces or another test's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MLPIPE_HOME", str(folder))
    monkeypatch.delenv("MLPIPE_WORKSPACE", raising=False)
    monkeypatch.delenv("MLPIPE_CONTEXT", raising=False)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A real embedded workspace, named ``tests``, in ``tmp_path/.mlpipe``."""
    from airflow_mlpipe import Workspace

    return Workspace.create("tests", path=tmp_path)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server of this session."""
    import emulators

    _need(emulators.missing(emulators.MOTO), "s3fs", "s3")
    with emulators.s3() as url:
        yield url


@pytest.fixture(scope="session")
def azure_server() -> Iterator[str]:
    """The endpoint of a Blob server's account of this session."""
    import emulators

    _need(emulators.missing(emulators.AZURITE), "adlfs", "azure")
    with emulators.azure() as url:
        yield url


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """The endpoint of a Google Cloud Storage server of this session."""
    import emulators

    _need(emulators.missing(emulators.GCS), "gcsfs", "gcs")
    with emulators.gcs() as url:
        yield url


@pytest.fixture(scope="session")
def mounts() -> None:
    """Skips unless datastores can be mounted on this machine."""
    import mounting

    reason = mounting.missing()
    if reason is not None:
        pytest.skip(f"no mounts here: {reason}")


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    """This machine's Docker engine. Tests that take it carry the marker ``docker``."""
    import container_engine

    _skip_if(container_engine.missing())
    return container_engine.machine()


@pytest.fixture
def private_docker_engine() -> Iterator[PrivateEngine]:
    """A Docker engine of the test's own, to be killed and started again."""
    import container_engine

    _skip_if(container_engine.private_missing())
    with container_engine.private() as engine:
        yield engine


@pytest.fixture(scope="session")
def busybox_image(docker_engine: Engine) -> str:
    """An image with a shell and without Python: it stands for any image of a user."""
    import images

    _skip_if(images.missing())
    return images.busybox(docker_engine)


@pytest.fixture(scope="session")
def python_image(docker_engine: Engine) -> str:
    """An image with this machine's Python, its standard library and a shell, nothing of ours."""
    import images

    _skip_if(images.missing())
    return images.python(docker_engine)


@pytest.fixture(scope="session")
def mlpipe_image(docker_engine: Engine) -> str:
    """The Python image with this package, as it lies in the working copy, and what its light core needs."""
    import images

    _skip_if(images.missing())
    return images.python(docker_engine, "airflow-mlpipe")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry of images of the test's own, for the user ``ada`` only."""
    import registry

    _skip_if(registry.missing())
    with registry.registry(tmp_path / "registry", ("ada", "s3cr3t")) as found:
        yield found


@pytest.fixture(scope="session")
def session_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The Kubernetes cluster of this session. Tests take `cluster`."""
    import cluster_site

    _skip_if(cluster_site.missing())
    if cluster_site.REAL in os.environ:
        with cluster_site.real() as found:
            yield found
        return
    engine = request.getfixturevalue("docker_engine")
    images = {name: request.getfixturevalue(f"{name}_image") for name in ("busybox", "python", "mlpipe")}
    with cluster_site.standin(engine, images) as found:
        yield found


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """A Kubernetes cluster: the stand-in, or the real one that ``MLPIPE_KUBECONFIG`` names.

    Tests that take it carry the marker ``k8s``. A fault that one has asked for ends with it.
    """
    yield session_cluster
    if session_cluster.is_standin:
        session_cluster.faults.clear()


def _skip_if(reason: str | None) -> None:
    if reason is not None:
        pytest.skip(reason)


def _need(missing: str | None, library: str, extra: str) -> None:
    if missing is None and find_spec(library) is None:
        missing = f"{library} is not installed: pip install 'airflow-mlpipe[{extra}]'"
    _skip_if(missing)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine cannot run, and lets foreign libraries warn where they take part."""
    for item in items:
        if any(item.get_closest_marker(name) for name in ("airflow", "docker", "k8s")):
            item.add_marker(pytest.mark.filterwarnings("default"))
        if item.get_closest_marker("airflow") and find_spec("airflow") is None:
            item.add_marker(pytest.mark.skip(reason="apache-airflow is not installed"))
