"""Results whose outputs lie in a remote datastore: in doubt only for what the store says, collected like all others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fault_proxy import Fault, Kind, Proxy, proxying
from fault_site import FaultSite
from lake import LAKE, SIZE_BYTES, Lake

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.cli import main
from airflow_mlpipe.engine.attempt import Attempt
from airflow_mlpipe.engine.bookkeeping import close_run
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import MlpipeError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.reuse import facts
from airflow_mlpipe.reuse.gc import DOUBTFUL, KINDS, NO_RESULT, Collected
from airflow_mlpipe.sdk.housekeeping import collect_garbage, verify_workspace
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.ledger import result_path
from airflow_mlpipe.storage.manifests import manifest_path
from airflow_mlpipe.storage.outputs import verify_output
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_outputs import fetch_copy
from airflow_mlpipe.storage.tree import tree_digest

pytestmark = pytest.mark.s3

NONE = timedelta(0)
SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    with proxying(s3_server) as running:
        yield running


@pytest.fixture
def lake(site: FaultSite, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    made = Lake.make(site, proxy, monkeypatch)
    yield made
    made.store.close()


def gc(lake: Lake, **options) -> Collected:
    return collect_garbage(lake.workspace, **{"grace": NONE, "delete": True, **options})


def counts(done: Collected) -> dict[str, int]:
    return {kind: tally.count for kind, tally in done.kinds.items() if kind not in KINDS.values()}


def lists(method: str, path: str) -> bool:
    return method == "GET" and "list-type=2" in path


# --- whether a result is whole


def test_a_store_that_is_away_is_a_miss_of_that_run_and_no_doubt(lake: Lake):
    first = lake.run()
    lake.proxy.faults.append(Fault("busy", lists))
    run_id = lake.site.enqueue(lake.step())
    assert Room(lake.site.dir).run(run_id).plan() == []
    row = lake.site.catalog.step(run_id, "make")
    assert row.decision == "run"
    assert "output 'out' cannot be looked at: datastore 'lake'" in row.reason
    assert lake.site.catalog.doubt_of(first.steps["make"].result_id) is None
    lake.proxy.faults.clear()
    assert lake.run().decisions == {"make": "reuse"}


def test_a_store_that_is_away_is_asked_once_for_a_plan(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    looks: list[str] = []

    def looked(output, *more):
        looks.append(output.path)
        return verify_output(output, *more)

    monkeypatch.setattr(facts, "verify_output", looked)
    lake.run()
    lake.run(id="two", name="two")
    lake.proxy.faults.append(Fault("busy", lists))
    run_id = lake.site.enqueue(lake.step(), lake.step(id="two", name="two"))
    looks.clear()
    Room(lake.site.dir).run(run_id).plan()
    assert len(looks) == 1, "each look may take its whole patience"
    assert {row.decision for row in lake.site.catalog.steps(run_id)} == {"run"}


def test_a_bucket_that_is_gone_puts_nothing_in_doubt(lake: Lake):
    first = lake.run()
    lake.register(LAKE, "s3://never-made/team")
    (problem,) = verify_workspace(lake.workspace).problems
    assert problem.subject == "datastore 'lake'" and "that the bucket or container exists" in problem.text
    run_id = lake.site.enqueue(lake.step())
    assert Room(lake.site.dir).run(run_id).plan() == []
    assert lake.site.catalog.doubt_of(first.steps["make"].result_id) is None


def test_a_missing_manifest_names_what_writes_it(lake: Lake):
    (output,) = lake.site.catalog.get_result(lake.run().steps["make"].result_id).outputs
    default = lake.workspace.documents
    default.remove(manifest_path(output.digest))
    (problem,) = verify_workspace(lake.workspace).problems
    assert problem.text.endswith("missing from store; its step writes it when it runs again")
    lake.site.run(lake.step(), regenerate=True)
    assert verify_workspace(lake.workspace).problems == []


def test_a_damaged_entry_of_the_cache_is_brought_anew(lake: Lake, tmp_path):
    result = lake.site.catalog.get_result(lake.run().steps["make"].result_id)
    (output,) = result.outputs
    store = lake.workspace.store(LAKE)
    whole = fetch_copy(output.path, store, tmp_path / "first", output.digest)
    kept = {path: path.read_bytes() for path in sorted((store.cache[0] / "files").rglob("*")) if path.is_file()}
    for path, data in kept.items():
        path.chmod(0o644)
        path.write_bytes(bytes(len(data)))
    again = fetch_copy(output.path, store, tmp_path / "second", output.digest)
    assert tree_digest(again).digest == tree_digest(whole).digest == output.digest
    assert kept and {path: path.read_bytes() for path in kept} == kept


def test_verify_looks_at_outputs_there(lake: Lake):
    first = lake.run()
    result_id = first.steps["make"].result_id
    done = verify_workspace(lake.workspace, read_data=True)
    assert (done.problems, done.outputs, done.files, done.size_bytes) == ([], 1, 2, SIZE_BYTES)
    path = lake.paths(first)[0]
    lake.store.write_bytes(path, b"one\ntwO\n")
    assert verify_workspace(lake.workspace).problems == []
    (problem,) = verify_workspace(lake.workspace, read_data=True, dry_run=True).problems
    assert (problem.result_id, "has changed bytes" in problem.text) == (result_id, True)
    lake.store.remove(path)
    done = verify_workspace(lake.workspace)
    assert (["has 1 files; it had 2" in problem.text for problem in done.problems], done.marked) == ([True], 1)


def test_verify_tells_a_store_that_is_away_once(lake: Lake):
    first, second = lake.run(), lake.run(id="two", name="two")
    lake.proxy.faults.append(Fault("busy"))
    done = verify_workspace(lake.workspace, read_data=True)
    assert [problem.subject for problem in done.problems] == ["datastore 'lake'"]
    assert done.marked == 0
    lake.proxy.faults.clear()
    # It goes away after it has answered.
    lake.proxy.faults.append(Fault("busy", lambda method, path: "azureml" in path))
    done = verify_workspace(lake.workspace)
    assert done.problems and done.marked == 0
    for ended in (first, second):
        for row in ended.steps.values():
            assert lake.site.catalog.doubt_of(row.result_id) is None


# --- garbage


def test_only_what_nobody_needs_goes(lake: Lake):
    good = lake.run()
    place = lake.leave()
    for path in ("team.txt", "azureml-of-mine/f", "data/azureml/f", "dataset", "models/m/1/f"):
        lake.store.write_bytes(path, b"a user's own")
    before = lake.everything()
    told = gc(lake, delete=False)
    assert lake.everything() == before
    assert counts(told) == {NO_RESULT: 1}
    assert (told.datastores[LAKE].count, told.datastores[LAKE].size_bytes) == (1, 8)
    lake.proxy.requests.clear()
    done = gc(lake)
    assert (done.datastores, done.away, done.refused) == (told.datastores, {}, [])
    assert before.keys() - lake.everything().keys() == {f"{place}/out/all.txt", f"{place}/out/sub/deep.txt"}
    assert [method for method, _ in lake.proxy.requests if method in ("POST", "DELETE")] == ["POST"]
    assert gc(lake).datastores == {}
    assert len(lake.paths(good)) == 2
    assert lake.run().decisions == {"make": "reuse"}
    assert verify_workspace(lake.workspace, read_data=True).problems == []


def test_the_age_is_told_by_the_clock_of_the_store(lake: Lake):
    place = lake.leave()
    done = gc(lake, grace=timedelta(hours=1))
    assert (counts(done), done.young.count > 0, lake.store.exists(place)) == ({}, True, True)
    # The clocks of this machine and of the store may differ by days; files and the present are stamped by one clock.
    for days, gone in ((-10, False), (10, True)):
        lake.proxy.headers = {"Date": format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)}
        done = gc(lake, grace=timedelta(days=9) if gone else NONE)
        assert (NO_RESULT in done.kinds, lake.store.exists(place)) == (gone, not gone)


def test_a_store_that_does_not_tell_the_time_is_left_out(lake: Lake):
    place = lake.leave()
    lake.proxy.headers = {"Date": None}
    assert "does not tell the time" in gc(lake).away[LAKE]
    assert lake.store.exists(place)


def test_damaged_and_unused_outputs_go_and_their_records_go_first(lake: Lake):
    first = lake.run()
    lake.store.write_bytes(lake.paths(first)[0], b"tampered")
    second = lake.run()
    assert second.decisions == {"make": "run"}
    assert counts(gc(lake)) == {DOUBTFUL: 1}
    assert (lake.paths(first), len(lake.paths(second))) == ([], 2)
    assert counts(gc(lake, unused_for=2 * timedelta(days=1), now=lambda: SOON)) == {}
    lake.proxy.faults.append(Fault("busy", lambda method, path: method == "POST"))
    done = gc(lake, unused_for=NONE, now=lambda: SOON)
    assert ("datastore 'lake'" in done.refused[0], counts(done)) == (True, {})
    assert not lake.site.store.exists(result_path(second.steps["make"].result_id))
    assert len(lake.paths(second)) == 2
    lake.proxy.faults.clear()
    assert counts(gc(lake)) == {DOUBTFUL: 1}
    assert lake.paths(second) == []
    assert lake.run().reasons == {"make": "its outputs were collected as garbage"}


def test_a_run_in_progress_keeps_what_it_has_taken_and_what_it_writes(lake: Lake):
    first = lake.run()
    run_id = lake.site.enqueue(lake.step(), lake.step("echo", id="other", name="other"))
    lake.site.catalog.update_run(run_id, status="Running")
    assert Room(lake.site.dir).run(run_id).plan() == ["make"]
    (writing,) = [row.step_run_id for row in lake.site.catalog.steps(run_id) if row.step_id == "other"]
    lake.store.write_bytes(f"azureml/{writing}/out/part", b"half")
    for delete in (False, True):
        assert gc(lake, unused_for=NONE, now=lambda: SOON, delete=delete).datastores == {}
    assert len(lake.paths(first)) == 2
    assert lake.store.exists(f"azureml/{writing}/out/part")


@pytest.mark.parametrize("moment", ["before the upload", "after the upload"])
def test_a_commit_that_comes_too_late_finds_its_place_collected(lake: Lake, moment: str):
    """Somebody finds the run dead, closes it and collects, while its worker is at the upload of what it made."""
    run_id = lake.site.enqueue(lake.step())
    room = Room(lake.site.dir)
    run = room.run(run_id)
    lake.site.catalog.update_run(run_id, status="Running")
    assert run.plan() == []
    store = room.store(LAKE)
    put = store.put
    collected = []

    def collect() -> None:
        lake.site.catalog.update_step(run_id, "make", status="failed", error="the dispatcher died")
        close_run(lake.site.catalog, run_id, run.spec)
        collected.append(gc(lake))

    def put_and_collect(*given):
        if moment == "before the upload":
            # Something of an earlier try, so that there is a place to collect.
            (row,) = lake.site.catalog.steps(run_id)
            lake.store.write_bytes(f"azureml/{row.step_run_id}/out/old", b"half")
            collect()
        written = put(*given)
        if moment == "after the upload":
            collect()
        return written

    store.put = put_and_collect
    with pytest.raises(MlpipeError):
        run.step("make", Attempt(number=1, last=True))
    assert counts(collected[0]) == {NO_RESULT: 1}
    assert lake.site.results() == []
    # What came after the collection goes with the next one.
    gc(lake)
    assert lake.paths() == []
    assert lake.run().decisions == {"make": "run"}
    assert lake.run().decisions == {"make": "reuse"}


def test_outputs_that_somebody_reads_by_their_path_stay_and_those_of_others(lake: Lake):
    place = lake.leave()
    source = DatastorePath(datastore=LAKE, path=f"{place}/out")
    lake.site.catalog.register_dataset("kept", DatasetSpec(kind="file", sources=(source,)), "b3:0")
    lake.store.write_bytes("dataset/11111111-2222-3333-4444-555555555555/out", b"theirs")
    # The same place under another name, and what is not written.
    lake.register("alias", lake.store.url)
    lake.site.catalog.put_datastore(DatastoreRow(name="web", url="http://127.0.0.1:9/x"))
    lake.site.catalog.put_datastore(DatastoreRow(name="sql", url="sqlite:////nowhere/x.db"))
    before = lake.everything()
    done = gc(lake)
    assert (done.named.count, done.unknown_elsewhere, counts(done), done.away) == (1, 1, {}, {})
    assert lake.everything() == before


@pytest.mark.parametrize(("kind", "of"), [("busy", "all"), ("truncate", "all"), ("busy", "one place")])
def test_a_listing_that_fails_leaves_out_its_datastore_and_no_other(
    lake: Lake, kind: Kind, of: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    pond = opened_beside(lake)
    places = lake.leave(), lake.leave()
    in_pond = lake.leave(pond)
    monkeypatch.setenv("MLPIPE_DATASTORE_POND_KEY", "id")
    monkeypatch.setenv("MLPIPE_DATASTORE_POND_SECRET", "s3cr3t")
    part = places[0].removeprefix("azureml/") if of == "one place" else "list-type=2"
    lake.proxy.faults.append(Fault(kind, lambda method, path: "prefix=team" in path and part in path))
    monkeypatch.chdir(lake.site.folder)
    assert main(["gc", "--grace", "0s", "--delete"]) == 3
    out = capsys.readouterr().out
    assert "left out: datastore 'lake'" in out and "s3cr3t" not in out
    assert "in datastore 'pond': 1 item (8 bytes)" in out
    assert [lake.store.exists(place) for place in places] == [True, True]
    assert not pond.exists(in_pond)
    lake.proxy.faults.clear()
    assert counts(gc(lake)) == {NO_RESULT: 2}
    pond.close()


def test_a_datastore_without_its_credentials_is_left_out(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    lake.leave()
    options = {"endpoint_url": lake.proxy.url, "conn_id": "nobody_knows_it"}
    lake.site.catalog.put_datastore(DatastoreRow(name=LAKE, url=lake.store.url, options=options))
    assert "nobody_knows_it" in gc(lake).away[LAKE]
    assert lake.paths() != []


def test_a_lost_catalog_stops_it_though_all_outputs_lie_elsewhere(lake: Lake):
    lake.run()
    lake.site.close()
    for part in ("", "-wal", "-shm"):
        (lake.site.dir / f"catalog.db{part}").unlink(missing_ok=True)
    Catalog.create(f"sqlite:///{lake.site.dir / 'catalog.db'}").close()
    fresh = FaultSite(lake.site.folder).move_in()
    before = sorted(lake.site.store.root.rglob("*"))
    # Whether or not the place of the outputs is known.
    for known in (False, True):
        if known:
            Lake(fresh, lake.proxy, lake.store).register(LAKE, lake.store.url)
        with pytest.raises(StorageError, match=f"{int(known)} outputs and 1 records .*catalog rebuild.* nothing was"):
            gc(lake)
    assert sorted(lake.site.store.root.rglob("*")) == before
    assert len(lake.paths()) == 2
    fresh.close()


def opened_beside(lake: Lake) -> RemoteStore:
    """A second datastore in the same bucket, named ``pond``."""
    url = lake.store.url.replace("/team", "/pond")
    lake.register("pond", url)
    store = open_store("pond", url, {"endpoint_url": lake.proxy.upstream, "key": "id", "secret": "s3cr3t"})
    assert isinstance(store, RemoteStore)
    return store
