"""The workspace's pipelines as a DAG bundle with versions, read by Airflow's own code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_site import shell

from airflow_mlpipe.engine.spec_registry import SpecRegistry, shard_of
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.spec import PipelineSpec

pytestmark = pytest.mark.airflow

OTHER_SHARD = next(name for i in range(99) if shard_of(name := f"q{i}") != shard_of("p"))
SAME_SHARD = next(name for i in range(999) if shard_of(name := f"s{i}") == shard_of("p"))


def spec(name: str, line: str = "true", **fields) -> PipelineSpec:
    return PipelineSpec(name=name, steps=(shell("a", line),), **fields)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpecRegistry:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    (tmp_path / ".mlpipe").mkdir()
    return SpecRegistry(tmp_path / ".mlpipe")


def bundle(registry: SpecRegistry, version: str | None = None):
    """The bundle, as a process finds it that asks for a version: a task; or for the newest: the DAG processor."""
    from airflow_mlpipe.engine.bundle import WorkspaceBundle

    made = WorkspaceBundle(name="mlpipe", workspace=str(registry._folder.parent), version=version)
    made.initialize()
    return made


def read(bundle) -> tuple[dict[str, str], dict[str, str]]:
    """What Airflow makes of a bundle: the digest of each DAG's spec, and errors by file."""
    import structlog
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import _serialize_dags

    digests, errors = {}, {}
    for file in sorted(bundle.path.glob("*.py")):
        bag = BundleDagBag(dag_folder=str(file), bundle_path=bundle.path, bundle_name=bundle.name)
        dags, unserialized = _serialize_dags(bag, structlog.get_logger())
        errors |= bag.import_errors | unserialized
        for dag in dags:
            tag = next(tag for tag in dag.data["dag"]["tags"] if tag.startswith("mlpipe:"))
            digests[dag.dag_id] = tag.removeprefix("mlpipe:")
    return digests, errors


def test_a_task_gets_the_specs_of_its_version(registry: SpecRegistry):
    first = registry.publish(spec("p"))
    registry.publish(spec("p", "false"))

    assert read(bundle(registry, first)) == ({"p": spec("p").digest}, {})
    assert read(bundle(registry)) == ({"p": spec("p", "false").digest}, {})


def test_a_version_is_told_as_airflow_wants_it(registry: SpecRegistry):
    from airflow.dag_processing.bundles.base import unpack_bundle_version

    head = registry.publish(spec("p"))
    newest = bundle(registry)

    assert newest.supports_versioning
    assert unpack_bundle_version(newest.get_current_version(), newest) == (head, None)
    registry.publish(spec("q"))
    # Until it is refreshed its files are of the version before.
    assert newest.get_current_version().version == head
    newest.refresh()
    assert newest.get_current_version().version == registry.head()


def test_a_task_builds_its_own_dag_alone(registry: SpecRegistry, monkeypatch: pytest.MonkeyPatch):
    registry.publish(spec("p"))
    registry.publish(spec(SAME_SHARD))
    opened = []
    # How Airflow's task runner tells which DAG it needs.
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "p")
    monkeypatch.setattr(SpecRegistry, "spec", lambda self, digest, real=SpecRegistry.spec: (
        opened.append(digest), real(self, digest))[1])  # fmt: skip

    assert read(bundle(registry, registry.head())) == ({"p": spec("p").digest}, {})
    assert opened == [spec("p").digest]


def test_a_publish_makes_airflow_read_one_file(registry: SpecRegistry):
    registry.publish(spec("p"))
    registry.publish(spec(OTHER_SHARD))
    newest = bundle(registry)
    newest.refresh()
    before = {file.name: file.stat().st_mtime_ns for file in newest.path.iterdir()}
    registry.publish(spec("p", "false"))
    newest.refresh()
    after = {file.name: file.stat().st_mtime_ns for file in newest.path.iterdir()}

    assert [name for name in after if after[name] != before.get(name)] == [f"mlpipe_dags_{shard_of('p')}.py"]


def test_a_file_that_changed_while_it_was_read_is_read_again(registry: SpecRegistry):
    registry.publish(spec("p"))
    newest = bundle(registry)
    (file,) = newest.path.iterdir()
    # Airflow began to read before the publish, and is done now.
    read_at = time.time_ns()
    newest.refresh()
    assert file.stat().st_mtime_ns >= read_at
    once = file.stat().st_mtime_ns
    newest.refresh()
    assert file.stat().st_mtime_ns == once


def test_a_pipeline_that_is_gone_takes_its_file_along(registry: SpecRegistry):
    registry.publish(spec("p"))
    registry.publish(spec(OTHER_SHARD))
    newest = bundle(registry)
    registry.remove("p")
    newest.refresh()

    assert read(newest) == ({OTHER_SHARD: spec(OTHER_SHARD).digest}, {})
    assert len(list(newest.path.glob("*.py"))) == 1


@pytest.mark.parametrize("fault", ["damaged", "missing", "of another", "schedule"])
def test_a_bad_spec_is_one_import_error_and_spares_its_neighbour(registry: SpecRegistry, fault: str):
    bad = spec("p", schedule="every now and then" if fault == "schedule" else None)
    registry.publish(bad)
    registry.publish(spec(SAME_SHARD))
    file = registry._path(bad.digest)
    if fault == "damaged":
        file.write_text("{")
    elif fault == "missing":
        file.unlink()
    elif fault == "of another":
        file.write_text(spec("other").to_json())
    digests, errors = read(bundle(registry))

    assert digests == {SAME_SHARD: spec(SAME_SHARD).digest}
    # Not under the name of the file: Airflow would take all DAGs of the file for gone.
    assert list(errors) == ["p.json"]
    assert "pipeline 'p': no DAG can be made of its spec b3:" in errors["p.json"]
    assert "submit the pipeline again" in errors["p.json"]


def test_a_version_is_made_once_and_by_one_of_many(registry: SpecRegistry):
    head = registry.publish(spec("p"))
    code = "import sys; sys.path[:0] = sys.argv[1:2]; import test_bundle, pathlib; "
    code += "registry = test_bundle.SpecRegistry(pathlib.Path(sys.argv[2]));"
    code += "print(list(test_bundle.read(test_bundle.bundle(registry, sys.argv[3]))[0]))"
    arguments = [str(Path(__file__).parent), str(registry._folder.parent), head]
    path = str(Path(__file__).parents[1] / "support")
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]

    assert [task.communicate()[0].splitlines()[-1] for task in tasks] == ["['p']"] * 3
    versions = bundle(registry, head).versions_dir
    assert [folder.name for folder in versions.iterdir()] == [head]
    made = (versions / head).stat().st_ctime_ns
    bundle(registry, head)
    assert (versions / head).stat().st_ctime_ns == made


def test_airflows_cleanup_takes_old_versions_and_harms_nothing(registry: SpecRegistry, monkeypatch: pytest.MonkeyPatch):
    from airflow.dag_processing.bundles import base

    monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", base.get_bundle_storage_root_path() / "_tracking")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD", "0")
    newest = bundle(registry)
    versions = [registry.publish(spec("p", f"echo {i}")) for i in range(4)]
    for version in versions:
        with base.BundleVersionLock("mlpipe", bundle(registry, version).version):
            pass
    cleaner = base.BundleUsageTrackingManager()
    with base.BundleVersionLock("mlpipe", versions[0]):
        # What a scheduler does every half hour; whatever it raises ends the scheduler.
        cleaner._remove_stale_bundle_versions_for_bundle("mlpipe")
        cleaner._remove_stale_bundle_versions_for_bundle("mlpipe")
    newest.refresh()

    # In use is the first one, which makes it the one used last; the others are gone.
    assert [folder.name for folder in newest.versions_dir.iterdir()] == [versions[0]]
    assert read(newest) == ({"p": spec("p", "echo 3").digest}, {})
    # A run of an old version, cleared by a person months later.
    assert read(bundle(registry, versions[1])) == ({"p": spec("p", "echo 1").digest}, {})


def test_a_bundle_without_a_workspace_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    from airflow_mlpipe.engine.bundle import WorkspaceBundle

    with pytest.raises(ConfigError, match=r"DAG bundle 'mlpipe' has no workspace: give it workspace="):
        WorkspaceBundle(name="mlpipe")


def test_the_loader_of_a_plain_dags_folder_shows_the_newest(registry: SpecRegistry, monkeypatch: pytest.MonkeyPatch):
    from airflow_mlpipe.engine.loader import load_dags

    registry.publish(spec("p"))
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(registry._folder.parent))

    assert [(name, dag.fileloc) for name, dag in load_dags("/dags/mlpipe.py").items()] == [("p", "/dags/mlpipe.py")]


def test_the_loader_leaves_to_the_bundle_what_that_shows(registry: SpecRegistry, monkeypatch: pytest.MonkeyPatch):
    from airflow_mlpipe.engine.loader import load_dags

    registry.publish(spec("p"))
    workspace = str(registry._folder.parent)
    monkeypatch.setenv("MLPIPE_WORKSPACE", workspace)
    bundles = '[{"name": "b", "classpath": "airflow_mlpipe.engine.bundle.WorkspaceBundle", "kwargs": {}}]'
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)

    assert load_dags("/dags/mlpipe.py") == {}
    assert list(load_dags("/bundle/file.py", workspace)) == ["p"]
