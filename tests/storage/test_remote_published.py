"""Commits and published copies in a remote store: what moves the bytes, how often, and how sameness is told."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import Fault, Proxy, proxying

from airflow_mlpipe.errors import DigestMismatchError
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.datastore import LocalStore, open_store
from airflow_mlpipe.storage.published import publish_copy
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_outputs import commit_remote, verify_remote
from airflow_mlpipe.storage.transfer import LARGE_BYTES

pytestmark = pytest.mark.s3

NUMBERS = itertools.count(1)
LARGE = os.urandom(1 << 16) * ((LARGE_BYTES >> 16) + 1) + b"end"
PLACE = "dataset/r1/out"


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    with proxying(s3_server) as running:
        yield running


@pytest.fixture
def store(proxy: Proxy) -> Iterator[RemoteStore]:
    options = {"endpoint_url": proxy.url, "key": "id", "secret": "s3cr3t", "deadline_s": 10}
    opened = open_store("lake", f"s3://published-{os.getpid()}-{next(NUMBERS)}/team", options)
    assert isinstance(opened, RemoteStore)
    opened.create_container()
    yield opened
    opened.close()


def committed(store: RemoteStore, tmp_path: Path, **files: bytes) -> OutputRecord:
    place = tmp_path / "place"
    for name, data in files.items():
        (place / "sub").mkdir(parents=True, exist_ok=True)
        (place / "sub" / name).write_bytes(data)
    return commit_remote("out", place, PLACE, store, LocalStore("manifests", tmp_path / "manifests"))


def moved(proxy: Proxy) -> tuple[int, int]:
    """How many files were read and how many written or copied since the last time, and forget it."""
    requests, proxy.requests[:] = list(proxy.requests), []
    reads = sum(method == "GET" and "list-type" not in path for method, path in requests)
    return reads, sum(method == "PUT" for method, path in requests)


def test_a_copy_is_made_by_the_store_and_only_where_there_is_none(store: RemoteStore, proxy: Proxy, tmp_path: Path):
    record = committed(store, tmp_path, small=b"1", other=b"2", large=LARGE)
    store.write_bytes("mine/readme", b"the author's")
    moved(proxy)
    publish_copy(record, store, "mine")
    reads, writes = moved(proxy)
    assert (reads, writes > 2) == (0, True)
    assert (store.read_bytes("mine/sub/small"), store.read_bytes("mine/sub/large")) == (b"1", LARGE)
    moved(proxy)
    # Of the large one the store tells no MD5, and that it is the same nevertheless.
    publish_copy(record, store, "mine")
    assert len(proxy.requests) <= 4
    assert moved(proxy) == (0, 0)
    store.write_bytes("mine/sub/small", b"x")
    store.remove("mine/sub/other")
    moved(proxy)
    publish_copy(record, store, "mine")
    assert moved(proxy) == (0, 2)
    assert (store.read_bytes("mine/sub/small"), store.read_bytes("mine/sub/other")) == (b"1", b"2")
    assert store.read_bytes("mine/readme") == b"the author's"


def test_a_store_that_knows_no_copies_gets_the_bytes_sent(store: RemoteStore, proxy: Proxy, tmp_path: Path):
    record = committed(store, tmp_path, small=b"1")
    # Nothing is in the body of the request for a copy.
    proxy.faults.append(Fault("unknown", lambda method, path: method == "PUT" and "mine" in path, times=1))
    publish_copy(record, store, "mine")
    assert proxy.faults[0].hits == 1
    assert store.read_bytes("mine/sub/small") == b"1"


def test_a_single_file(store: RemoteStore, tmp_path: Path):
    (tmp_path / "place").write_bytes(b"1")
    record = commit_remote("out", tmp_path / "place", PLACE, store, LocalStore("manifests", tmp_path / "manifests"))
    publish_copy(record, store, "mine/file.csv")
    assert store.read_bytes("mine/file.csv") == b"1"


def test_changed_bytes_are_not_published(store: RemoteStore, tmp_path: Path):
    record = committed(store, tmp_path, small=b"1", other=b"2")
    store.write_bytes(f"{PLACE}/sub/small", b"x")
    with pytest.raises(DigestMismatchError, match="output 'out' in lake: dataset/r1/out is not what was recorded"):
        publish_copy(record, store, "mine")
    assert not store.exists("mine")


def test_what_an_upload_that_was_cut_off_has_left_goes_in_one_request(store: RemoteStore, proxy: Proxy, tmp_path: Path):
    for number in range(5):
        store.write_bytes(f"{PLACE}/old/{number}", b"x")
    proxy.requests.clear()
    record = committed(store, tmp_path, small=b"1")
    assert [file.path for file in store.listing(PLACE)] == [f"{PLACE}/sub/small"]
    assert [method for method, _ in proxy.requests if method in ("POST", "DELETE")] == ["POST"]
    assert verify_remote(record, store) is None
