"""F10-F12: records of the store or rows of the catalog are lost, damaged or old; the one is made from the other."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from fault_site import ALL, Ended, FaultSite

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.sdk.housekeeping import RebuiltCatalog, rebuild_catalog
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.ledger import read_result, result_path, write_result

PARTS = ("", "-wal", "-shm")


def rebuild(site: FaultSite, **datastores: str) -> RebuiltCatalog:
    """Rebuild the catalog as the command does, with its files let go of."""
    site.close()
    return rebuild_catalog(Workspace.from_config(site.dir / "config.json"), datastores)


def _remove(site: FaultSite) -> None:
    for part in PARTS:
        (site.dir / f"catalog.db{part}").unlink(missing_ok=True)


def _overwrite(content: bytes) -> Callable[[FaultSite], None]:
    def harm(site: FaultSite) -> None:
        _remove(site)
        (site.dir / "catalog.db").write_bytes(content)

    return harm


def _flip(site: FaultSite) -> None:
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((site.dir / "catalog.db").read_bytes())
    for place in range(4096, len(data), 61):
        data[place] ^= 4
    (site.dir / "catalog.db").write_bytes(data)


def _other_database(site: FaultSite) -> None:
    _remove(site)
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database:
        database.execute("CREATE TABLE other (x)")


def _drop(*tables: str) -> Callable[[FaultSite], None]:
    def harm(site: FaultSite) -> None:
        with closing(sqlite3.connect(site.dir / "catalog.db")) as database:
            for table in tables:
                database.execute(f"DROP TABLE {table}")

    return harm


LOSSES: dict[str, tuple[Callable[[FaultSite], None], bool]] = {
    "removed": (_remove, False),
    "empty": (_overwrite(b""), False),
    "garbage": (_overwrite(os.urandom(8192)), True),
    "flipped": (_flip, True),
    "another database": (_other_database, True),
    "a table dropped": (_drop("results"), False),
    "all tables dropped": (_drop("results", "runs", "steps", "experiments", "specs", "datastores"), False),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_catalog_is_made_again_from_the_store(site: FaultSite, loss: str):
    harm, put_aside = LOSSES[loss]
    first = site.chain()
    before = {result.id: result for result in site.results()}
    users = site.users()
    site.close()
    harm(site)
    there = (site.dir / "catalog.db").read_bytes() if put_aside else None
    done = rebuild(site, data=str(site.data))
    assert (done.results, done.left_out) == (2, ())
    assert (done.aside is not None) == put_aside
    if done.aside is not None:
        assert done.aside.read_bytes() == there, "the old database is not what it was"
    assert {result.id: result for result in site.results()} == before
    again = site.chain()
    assert again.decisions == {"make": "reuse", "follow": "reuse"}, again.reasons
    assert {row.result_id for row in again.steps.values()} == set(before)
    assert again.steps["make"].reused_from == first.run_id
    run, old = site.catalog.get_run(first.run_id), site.ended(first.run_id)
    assert (run.status, run.experiment, run.error, run.number) == ("Completed", "e", None, 1)
    assert {name: row.status for name, row in old.steps.items()} == {"make": "completed", "follow": "completed"}
    assert site.catalog.get_run(again.run_id).number > run.number
    assert site.catalog.get_datastore().name == "store"
    site.check({result.id: result.outputs[0].digest for result in before.values()}, users)


def test_an_older_copy_of_the_catalog_gets_what_has_come_since(site: FaultSite):
    first = site.run()
    site.close()
    dump = site.folder / "dump.db"
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database:
        database.execute("VACUUM INTO ?", (str(dump),))
    (site.data / "in" / "1.txt").write_text("uno\n")
    second = site.run()
    result = site.result(second)
    site.close()
    _remove(site)
    dump.rename(site.dir / "catalog.db")
    done = rebuild(site)
    assert (done.results, done.runs, done.known, done.aside) == (1, 1, 1, None)
    again = site.run()
    assert (again.decisions, again.steps["make"].result_id) == ({"make": "reuse"}, result.id)
    (site.data / "in" / "1.txt").write_text("one\n")
    assert site.run().steps["make"].result_id == site.result(first).id
    site.check({result.id: result.outputs[0].digest})


def test_an_intact_catalog_stays_as_it_is(site: FaultSite):
    site.chain()
    site.run(site.make_step(script='mkdir "$1"; exit 3'), name="fails")

    def content() -> list:
        tables = [row[0] for row in site.catalog._database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [site.catalog._database.rows(f"SELECT * FROM {table}") for table in sorted(tables)]

    before = content()
    done = rebuild(site)
    assert (done.results, done.runs, done.known, done.written, done.left_out) == (0, 0, 2, 0, ())
    assert content() == before


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(200))


def _flip_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"try_number":1', b'"try_number":3'))
    assert path.read_bytes() != data


@pytest.mark.parametrize("harm", [Path.unlink, _empty, _garbage, _flip_bit])
def test_a_lost_or_damaged_record_is_no_loss_while_there_is_a_row(site: FaultSite, caplog, harm: Callable):
    first = site.run()
    result_id = first.steps["make"].result_id
    harm(site.store.path_of(result_path(result_id)))
    assert site.run().decisions == {"make": "reuse"}
    done = rebuild(site)
    assert (done.results, done.written) == (0, 1)
    if harm is not Path.unlink:
        assert "is damaged" in caplog.text
    site.check({result_id: site.result(first).outputs[0].digest})


@pytest.mark.parametrize("harm", [Path.unlink, _empty, _garbage, _flip_bit])
def test_without_its_row_it_is_a_miss(site: FaultSite, harm: Callable):
    first = site.run()
    harm(site.store.path_of(result_path(first.steps["make"].result_id)))
    site.close()
    _remove(site)
    done = rebuild(site, data=str(site.data))
    assert done.results == 0
    if harm is not Path.unlink:
        assert done.left_out == ((result_path(first.steps["make"].result_id), "damaged"),)
    again = site.run()
    assert again.decisions == {"make": "run"}
    assert (site.output(again) / "all.txt").read_text() == ALL
    assert site.run().decisions == {"make": "reuse"}


def test_a_record_of_a_newer_version_is_left_alone(site: FaultSite):
    first = site.run()
    path = site.store.path_of(result_path(first.steps["make"].result_id))
    newer = json.dumps({"schema_version": 9, "sealed_by": "a later release"}).encode()
    path.write_bytes(newer)
    assert rebuild(site).written == 0
    assert path.read_bytes() == newer
    site.close()
    _remove(site)
    done = rebuild(site, data=str(site.data))
    assert done.left_out == ((result_path(first.steps["make"].result_id), "of a newer version"),)
    assert path.read_bytes() == newer
    assert site.run().decisions == {"make": "run"}


HARM = {
    "missing from": lambda output: shutil.rmtree(output),
    "has 2 files; it had 3": lambda output: (output / "zero").unlink(),
    "bytes; it had": lambda output: os.truncate(output / "all.txt", 1),
}


@pytest.mark.parametrize("why", HARM)
def test_only_results_whose_bytes_are_there_come_back(site: FaultSite, why: str):
    first = site.chain()
    HARM[why](site.output(first))
    site.close()
    _remove(site)
    done = rebuild(site, data=str(site.data))
    assert done.results == 1
    ((path, reason),) = done.left_out
    assert (path, why in reason) == (result_path(first.steps["make"].result_id), True), reason
    old = site.ended(first.run_id)
    assert {name: row.status for name, row in old.steps.items()} == {"make": "not_run", "follow": "completed"}
    assert "nothing is known of 1 of its 2 steps" in old.error
    again = site.chain()
    assert again.decisions == {"make": "run", "follow": "reuse"}, again.reasons


def test_the_record_of_a_step_that_ended_otherwise_is_left_out(site: FaultSite):
    first = site.run()
    site.close()
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database, database:
        database.execute("DELETE FROM results")
        database.execute("UPDATE steps SET status = 'failed', result_id = NULL")
    done = rebuild(site)
    assert done.left_out == ((result_path(first.steps["make"].result_id), "its step 'make' ended as 'failed'"),)
    assert site.results() == []


def test_a_process_that_died_between_the_record_and_the_row(site: FaultSite):
    first = site.run()
    kept = site.result(first)
    site.close()
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database, database:
        database.execute("DELETE FROM results")
        database.execute("UPDATE steps SET status = 'running', result_id = NULL, exit_code = NULL, ended_at = NULL")
        database.execute("UPDATE runs SET status = 'Running', ended_at = NULL")
    assert rebuild(site).results == 1
    site.check({kept.id: kept.outputs[0].digest})
    assert site.run().decisions == {"make": "reuse"}


def test_a_datastore_that_only_the_catalog_knew_has_to_be_named(site: FaultSite, tmp_path: Path):
    first = site.run()
    site.close()
    _remove(site)
    elsewhere = tmp_path / "elsewhere"
    site.store.root.rename(elsewhere)
    done = rebuild(site)
    assert (done.results, done.left_out) == (0, ())
    done = rebuild(site, store=str(elsewhere), data=str(site.data))
    assert done.results == 1
    site.store = type(site.store)("store", elsewhere)
    assert site.run().decisions == {"make": "reuse"}
    assert site.result(first).run_id == first.run_id


def test_workspaces_that_share_a_datastore_never_take_each_others_results(site: FaultSite, tmp_path: Path):
    site.run()
    other = FaultSite.make(tmp_path / "other")
    other.store = site.store
    other.move_in()
    done = rebuild(other)
    assert (done.results, done.foreign) == (0, 1)
    assert other.run().decisions == {"make": "run"}
    for each in (site, other):
        each.close()
        _remove(each)
        done = rebuild(each, store=str(site.store.root), data=str(each.data))
        assert (done.results, done.foreign, done.left_out) == (1, 1, ())
        assert each.run().decisions == {"make": "reuse"}
    other.close()


def test_a_record_that_names_no_workspace_is_nobodys(site: FaultSite):
    first = site.run()
    record = read_result(first.steps["make"].result_id, site.store).record
    assert record is not None
    site.store.path_of(result_path(record.result.id)).unlink()
    write_result(record.model_copy(update={"workspace": ""}), site.store)
    site.close()
    _remove(site)
    assert rebuild(site).foreign == 1
    assert site.results() == []


def test_a_catalog_of_a_newer_version_is_refused_and_kept(site: FaultSite):
    site.close()
    with closing(sqlite3.connect(site.dir / "catalog.db")) as database, database:
        database.execute("UPDATE mlpipe_alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="upgrade airflow-mlpipe"):
        rebuild(site)
    assert list(site.dir.glob("catalog.db.lost*")) == []


def test_a_workspace_of_the_first_release_gets_its_records(site: FaultSite):
    ended: Ended = site.chain()
    shutil.rmtree(site.store.path_of("manifests/results"))
    shutil.rmtree(site.store.path_of("manifests/specs"))
    assert rebuild(site).written == 2
    for row in ended.steps.values():
        assert read_result(row.result_id, site.store).record is not None
    site.check()


def test_what_it_wrote_to_its_run_comes_back_as_well(site: FaultSite, tmp_path: Path):
    assert isinstance(site.catalog, Catalog)
    first = site.run()
    written = site.result(first).written
    site.close()
    _remove(site)
    rebuild(site, data=str(site.data))
    assert site.result(first).written == written
    assert written.files
