"""What machines find in a catalog that they share: the workspace, published specs, locks."""

from __future__ import annotations

import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.joining import join_workspace
from airflow_mlpipe.catalog.rows import Publication, WorkspaceRow
from airflow_mlpipe.errors import ConfigError

TEAM = WorkspaceRow(id="1", name="team")


def test_the_first_to_name_the_workspace_is_heard(catalog: Catalog):
    assert catalog.workspace() is None
    assert catalog.name_workspace(TEAM) == TEAM
    assert catalog.name_workspace(WorkspaceRow(id="2", name="other")) == TEAM
    assert catalog.workspace() == TEAM


def version(before: Publication | None, digest: str, name: str) -> str:
    return f"{0 if before is None else int(before.version[0]) + 1}:{digest}:{name}"


def test_a_pipeline_has_in_each_version_the_spec_it_had(catalog: Catalog):
    assert catalog.newest_publication() is None
    assert catalog.add_publication("p", "b3:1", version) == "0:b3:1:p"
    assert catalog.add_publication("p", "b3:1", version) == "0:b3:1:p"
    catalog.add_publication("q", "b3:2", version)
    catalog.add_publication("p", None, version)

    assert [change.name for change in catalog.publications()] == ["p", "q", "p"]
    assert [change.name for change in catalog.publications(2)] == ["p", "q"]
    assert catalog.publication_of("p", 2).digest == "b3:1"
    assert catalog.publication_of("p").digest is None
    assert catalog.publication_of("r") is None
    assert catalog.publication_numbered(2).name == "q"
    assert catalog.newest_publication() == "2:-:p"


def test_a_log_of_before_is_taken_over_once(catalog: Catalog):
    log = [Publication(version="1-a", digest="b3:1", name="p"), Publication(version="2-b", digest=None, name="p")]
    catalog.copy_publications(log)
    catalog.copy_publications(log[:1])
    assert catalog.publications() == log


def test_failures_are_counted_by_step(catalog: Catalog):
    assert [catalog.count_failure("a"), catalog.count_failure("a"), catalog.count_failure("b")] == [1, 2, 1]


def test_one_machine_at_a_time_holds_a_lock(postgres: str):
    catalog = Catalog.create(postgres)
    order: list[str] = []
    waits = threading.Event()

    def other() -> None:
        waits.set()
        with catalog.holding("pipeline p"):
            order.append("other")

    with catalog.holding("pipeline p"):
        thread = threading.Thread(target=other)
        thread.start()
        waits.wait()
        with catalog.holding("pipeline q"):
            order.append("mine")
        # Statements beside the lock are not of its transaction.
        catalog.name_workspace(TEAM)
    thread.join(20)
    assert order == ["mine", "other"]
    catalog.close()


def test_a_folder_joins_what_the_environment_names(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/catalog.db"
    folder = tmp_path / "machine" / ".mlpipe"
    environment = {"MLPIPE_CATALOG_CONN": url, "MLPIPE_SETTINGS": '{"lease_ttl_s": 30}'}
    join_workspace(folder, {})
    assert not folder.exists()
    catalog = Catalog.create(url)
    with pytest.raises(ConfigError, match="has no workspace yet; make it with: mlpipe init NAME"):
        join_workspace(folder, environment)
    catalog.name_workspace(TEAM)

    join_workspace(folder, environment)
    config = json.loads((folder / "config.json").read_text())
    assert config == {
        "workspace_name": "team",
        "id": "1",
        "folder": str(folder),
        "catalog_conn": url,
        "settings": {"lease_ttl_s": 30},
    }
    # The URL may hold a password.
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    catalog.close()


def test_processes_of_one_number_join_with_a_folder_at_once(tmp_path: Path):
    """As containers do: here they are threads."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    catalog = Catalog.create(url)
    catalog.name_workspace(TEAM)
    catalog.close()
    folder = tmp_path / "machine"
    gate = threading.Barrier(8)

    def join(number: int) -> None:
        for lease_ttl_s in range(10):
            gate.wait(20)
            # Other settings each time, so that there is something to write.
            settings = json.dumps({"lease_ttl_s": 10 * number + lease_ttl_s + 1})
            join_workspace(folder, {"MLPIPE_CATALOG_CONN": url, "MLPIPE_SETTINGS": settings})

    with ThreadPoolExecutor(8) as pool:
        for joined in [pool.submit(join, number) for number in range(8)]:
            joined.result()
    assert json.loads((folder / "config.json").read_text())["workspace_name"] == "team"
    assert {path.name for path in folder.iterdir()} == {"config.json", "work"}


def test_a_folder_of_another_workspace_is_refused(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/catalog.db"
    catalog = Catalog.create(url)
    catalog.name_workspace(TEAM)
    catalog.close()
    (tmp_path / "config.json").write_text(json.dumps({"workspace_name": "mine", "id": "7"}))
    with pytest.raises(
        ConfigError, match="is of workspace 'mine', but MLPIPE_CATALOG_CONN names the catalog of 'team'"
    ):
        join_workspace(tmp_path, {"MLPIPE_CATALOG_CONN": url})


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_that_are_no_object_are_named(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="MLPIPE_SETTINGS is"):
        join_workspace(tmp_path, {"MLPIPE_CATALOG_CONN": "sqlite:////x", "MLPIPE_SETTINGS": text})
