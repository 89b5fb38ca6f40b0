"""Records of results, specs and models kept in a store."""

from __future__ import annotations

import json
import logging
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.record import RecordedRun, RecordedStep, ResultRecord
from airflow_mlpipe.model.result import FileRecord, MetricRecord, StepResult, Written
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.ledger import (
    DAMAGED,
    MISSING,
    NEWER,
    list_models,
    list_results,
    read_result,
    read_spec,
    result_path,
    spec_path,
    write_model,
    write_result,
    write_spec,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = digest_bytes(b"key")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore("store", tmp_path / "store")


def record(result_id: str = "r", **written) -> ResultRecord:
    result = StepResult(
        id=result_id, fingerprint=KEY, derivation=KEY, components={"command": [["literal", "é"]]}, run_id="run",
        step_run_id="step", pipeline="p", step="s", written=Written(**written), started_at=NOON, ended_at=NOON,
    )  # fmt: skip
    run = RecordedRun(id="run", experiment="e", pipeline="p", spec_digest=KEY, engine="embedded", created_at=NOON)
    step = RecordedStep(step_id="s", step_run_id="step", name="s", position=0)
    return ResultRecord(result=result, run=run, step=step, workspace="w", default_datastore="store")


def test_a_record_comes_back_as_it_was_written(store: LocalStore) -> None:
    odd = FileRecord(name="outputs/\udcff\n", datastore="store", path="runs/step/\udcff")
    given = record(files=(odd,), metrics=(MetricRecord(name="loss", value=1e-300),))
    write_result(given, store)
    found = read_result("r", store)
    assert (found.record, found.problem) == (given, "")
    (listed,) = list_results(store)
    assert store.path_of(result_path("r")).stat().st_mtime_ns == listed.written_ns


def test_nothing_is_looked_for_under_a_new_id(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(_relative: str) -> bytes:
        raise AssertionError("a store elsewhere answers each question with a request")

    with monkeypatch.context() as patched:
        patched.setattr(store, "read_bytes", unread)
        write_result(record(), store, is_new=True)
    assert read_result("r", store).problem == ""


def test_a_metric_may_be_no_number(store: LocalStore) -> None:
    write_result(record(metrics=(MetricRecord(name="loss", value=math.nan),)), store)
    found = read_result("r", store).record
    assert found is not None
    assert math.isnan(found.result.written.metrics[0].value)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff", b'{"schema_version": "x"}', "half", "flipped"])
def test_a_damaged_one_is_not_there_and_is_written_again(
    store: LocalStore, caplog: pytest.LogCaptureFixture, content: bytes | str
) -> None:
    write_result(record(), store)
    path = store.path_of(result_path("r"))
    whole = path.read_bytes()
    harmed = {"half": whole[: len(whole) // 2], "flipped": whole.replace(b'"p"', b'"q"')}
    path.write_bytes(harmed[content] if isinstance(content, str) else content)
    with caplog.at_level(logging.WARNING):
        assert (read_result("r", store).record, read_result("r", store).problem) == (None, DAMAGED)
    assert f"{result_path('r')} is damaged" in caplog.text
    write_result(record(), store)
    assert read_result("r", store).record == record()


def test_one_of_a_newer_version_is_left_alone(store: LocalStore, caplog: pytest.LogCaptureFixture) -> None:
    newer = json.dumps({"schema_version": 2, "sealed": True}).encode()
    store.write_bytes(result_path("r"), newer)
    write_result(record(), store)
    assert read_result("r", store).problem == NEWER
    assert "is of a newer version" in caplog.text
    assert store.read_bytes(result_path("r")) == newer


def test_one_under_the_name_of_another_is_damaged(store: LocalStore) -> None:
    write_result(record("r"), store)
    store.path_of(result_path("r")).rename(store.path_of(result_path("other")))
    assert read_result("other", store).problem == DAMAGED
    assert read_result("r", store).problem == MISSING


def test_they_are_listed_in_the_order_in_which_they_were_written(store: LocalStore) -> None:
    assert list(list_results(store)) == []
    for age, name in enumerate("bca"):
        write_result(record(name), store)
        os.utime(store.path_of(result_path(name)), (age, age))
    (store.path_of(result_path("b")).parent / ".tmp-draft").touch()
    assert [found.record.result.id for found in list_results(store) if found.record] == ["b", "c", "a"]


def test_a_spec_that_is_not_what_its_name_says_is_not_there(store: LocalStore) -> None:
    digest = digest_bytes(b"{}")
    assert read_spec(digest, store) is None
    write_spec(digest, "{}", store)
    assert read_spec(digest, store) == "{}"
    store.write_bytes(spec_path(digest), b"{ }")
    assert read_spec(digest, store) is None


def test_models_are_listed_with_what_is_wrong_with_them(store: LocalStore) -> None:
    write_model("m", 1, {"name": "m", "created_at": NOON}, store)
    store.write_bytes("models/m/2.json", b"")
    store.write_bytes("models/m/1/model.json", b"the user's own")
    assert sorted(list_models(store)) == [
        ("models/m/1.json", {"name": "m", "created_at": NOON.isoformat()}, ""),
        ("models/m/2.json", None, DAMAGED),
    ]


def test_renewing_tells_whether_a_file_is_there_and_makes_it_young(store: LocalStore) -> None:
    assert not store.renew("manifests/x")
    store.write_bytes("manifests/x", b"")
    os.utime(store.path_of("manifests/x"), (1, 1))
    assert store.renew("manifests/x")
    assert store.path_of("manifests/x").stat().st_mtime > 1
