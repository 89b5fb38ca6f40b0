"""F19 to F22: what networks and servers do to a datastore, and what comes of it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_proxy import Fault, Kind, Proxy, proxying

from airflow_mlpipe.errors import DigestMismatchError, StorageError, UnreachableError
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.download import draft_name
from airflow_mlpipe.storage.remote import DRAFTS, RemoteStore
from airflow_mlpipe.storage.transfer import LARGE_BYTES

pytestmark = pytest.mark.s3

NUMBERS = itertools.count(1)
DEADLINE_S = 2.0
SLACK_S = 8.0
"""What a machine with other work may take longer: far less than s3fs would without a deadline."""
DATA = bytes(range(256)) * 40
LARGE = os.urandom(1 << 16) * ((LARGE_BYTES >> 16) + 20) + b"end"


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    with proxying(s3_server) as running:
        yield running


@pytest.fixture
def store(proxy: Proxy) -> Iterator[RemoteStore]:
    """A store behind the proxy, with one small file in it."""
    opened = open_behind(proxy, f"faults-{next(NUMBERS)}")
    opened.create_container()
    opened.write_bytes("f", DATA)
    yield opened
    opened.close()


@pytest.fixture
def patient(proxy: Proxy, store: RemoteStore) -> Iterator[RemoteStore]:
    """The same store with time enough, where it is to succeed and nothing stalls."""
    opened = open_behind(proxy, store.url.removeprefix("s3://"), deadline_s=60)
    yield opened
    opened.close()


def open_behind(proxy: Proxy, bucket: str, deadline_s: float = DEADLINE_S) -> RemoteStore:
    options = {"endpoint_url": proxy.url, "key": "id", "secret": "s3cr3t", "deadline_s": deadline_s}
    opened = open_store("faulty", f"s3://{bucket}", options)
    assert isinstance(opened, RemoteStore)
    return opened


def gets(name: str) -> Callable[[str, str], bool]:
    return lambda method, path: method == "GET" and f"/{name}" in path


def took(action: Callable[[], object], error: type[Exception], match: str) -> float:
    """Check that `action` ends with this error, and return after how many seconds."""
    began = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        action()
    assert "s3cr3t" not in str(caught.value)
    return time.monotonic() - began


def put(store: RemoteStore, tmp_path: Path, data: bytes, path: str = "up") -> None:
    (tmp_path / "local").write_bytes(data)
    store.put(tmp_path / "local", path)


OPERATIONS: dict[str, Callable[[RemoteStore, Path], object]] = {
    "read": lambda store, folder: store.read_bytes("f"),
    "fetch": lambda store, folder: store.fetch(store.listing("f"), folder / "out"),
    "list": lambda store, folder: store.listing(""),
    "look": lambda store, folder: store.exists("f"),
    "write": lambda store, folder: store.write_bytes("new", DATA),
    "put": lambda store, folder: put(store, folder, LARGE),
    "remove": lambda store, folder: store.remove("f"),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", ["busy", "cut", "late"])
def test_a_burst_of_failures_is_sat_out(
    name: str, kind: Kind, proxy: Proxy, patient: RemoteStore, tmp_path: Path
) -> None:
    fault = Fault(kind, times=2)
    proxy.faults.append(fault)
    OPERATIONS[name](patient, tmp_path)
    assert fault.hits == 2
    proxy.faults.clear()
    if name == "fetch":
        assert (tmp_path / "out/f").read_bytes() == DATA
    elif name == "write":
        assert patient.read_bytes("new") == DATA
    elif name == "put":
        assert patient.read_bytes("up") == LARGE
    elif name == "remove":
        assert not patient.exists("f")


@pytest.mark.parametrize("name", OPERATIONS)
def test_failures_that_stay_end_within_the_deadline(
    name: str, proxy: Proxy, store: RemoteStore, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("busy"))
    seconds = took(
        lambda: OPERATIONS[name](store, tmp_path), StorageError, r"datastore 'faulty' \(s3://.*(SlowDown|Service Unav)"
    )
    assert seconds < DEADLINE_S + SLACK_S
    assert not (tmp_path / "out/f").exists()


@pytest.mark.parametrize("kind", ["stall", "stall midway"])
def test_an_answer_that_stalls_is_asked_for_again(kind: Kind, proxy: Proxy, store: RemoteStore, tmp_path: Path) -> None:
    proxy.faults.append(Fault(kind, gets("f"), times=1))
    store.fetch(store.listing("f"), tmp_path / "out")
    assert (tmp_path / "out/f").read_bytes() == DATA and proxy.faults[0].hits == 1
    proxy.faults[0].hits = 0
    assert store.read_bytes("f") == DATA and proxy.faults[0].hits == 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_server_that_never_answers(name: str, proxy: Proxy, store: RemoteStore, tmp_path: Path) -> None:
    proxy.faults.append(Fault("stall"))
    seconds = took(
        lambda: OPERATIONS[name](store, tmp_path),
        UnreachableError,
        r"'faulty' .*check that http://127.0.0.1:\d+ can be",
    )
    assert seconds < DEADLINE_S + SLACK_S


def test_a_slow_answer_is_waited_for_as_long_as_it_gets_on(proxy: Proxy, s3_server: str, store: RemoteStore) -> None:
    store.write_bytes("slow", b"0123456789")
    quick = open_behind(proxy, store.url.removeprefix("s3://"), deadline_s=0.6)
    proxy.pace_s = 0.1
    proxy.faults.append(Fault("trickle", gets("slow")))
    began = time.monotonic()
    assert quick.read_bytes("slow") == b"0123456789"
    assert time.monotonic() - began > 0.9
    quick.close()


@pytest.mark.parametrize("hide_checksums", [False, True])
@pytest.mark.parametrize("kind", ["truncate", "flip"])
def test_spoilt_bytes_are_read_again(
    kind: Kind, hide_checksums: bool, proxy: Proxy, patient: RemoteStore, tmp_path: Path
) -> None:
    fault = Fault(kind, gets("f"), times=1, hide_checksums=hide_checksums)
    proxy.faults.append(fault)
    patient.fetch(patient.listing("f"), tmp_path / "out")
    assert fault.hits == 1 and (tmp_path / "out/f").read_bytes() == DATA
    fault.hits = 0
    assert patient.read_bytes("f") == DATA and fault.hits == 1


@pytest.mark.parametrize("hide_checksums", [False, True])
def test_bytes_that_always_come_spoilt_are_never_delivered(
    hide_checksums: bool, proxy: Proxy, store: RemoteStore, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("flip", gets("f"), hide_checksums=hide_checksums))
    listed = store.listing("f")
    seconds = took(lambda: store.fetch(listed, tmp_path / "out"), DigestMismatchError, r"'faulty' .*check the network")
    assert seconds < DEADLINE_S + SLACK_S and proxy.faults[0].hits == 3
    took(lambda: store.read_bytes("f"), DigestMismatchError, "faulty")
    assert list((tmp_path / "out").rglob("f")) == []


def test_bytes_without_an_md5_are_compared_as_well(proxy: Proxy, patient: RemoteStore, tmp_path: Path) -> None:
    """A file that was sent in parts has an MD5 of its parts alone."""
    put(patient, tmp_path, LARGE)
    listed = patient.listing("up")
    assert listed.files[0].md5 is None
    fault = Fault("flip", gets("up"), times=1)
    proxy.faults[:] = [fault]
    patient.fetch(listed, tmp_path / "out")
    assert fault.hits == 1 and (tmp_path / "out/up").read_bytes() == LARGE
    fault.hits = 0
    assert patient.read_bytes("up") == LARGE and fault.hits == 1
    proxy.faults[:] = [Fault("flip", gets("up"))]
    took(lambda: patient.fetch(listed, tmp_path / "new"), DigestMismatchError, r"MD5 checksum that the store says")
    took(lambda: patient.read_bytes("up"), DigestMismatchError, r"MD5 checksum that the store says")
    assert list((tmp_path / "new").rglob("up")) == []


def test_parts_of_any_size_are_compared(proxy: Proxy, patient: RemoteStore, tmp_path: Path) -> None:
    """Other programs make parts that are not equal; as many equal parts would fit the first one's size."""
    parts = [LARGE[: 6 << 20], LARGE[6 << 20 : 11 << 20], LARGE[11 << 20 :]]
    bucket, call = patient.url.removeprefix("s3://"), patient.filesystem().call_s3
    upload = call("create_multipart_upload", Bucket=bucket, Key="up")["UploadId"]
    told = [
        call("upload_part", Bucket=bucket, Key="up", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, start=1)
    ]
    listed = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(told, start=1)]
    call("complete_multipart_upload", Bucket=bucket, Key="up", UploadId=upload, MultipartUpload={"Parts": listed})
    patient.fetch(patient.listing("up"), tmp_path / "out")
    assert (tmp_path / "out/up").read_bytes() == LARGE == patient.read_bytes("up")
    proxy.faults[:] = [Fault("flip", gets("up"))]
    took(lambda: patient.fetch(patient.listing("up"), tmp_path / "new"), DigestMismatchError, r"MD5 checksum")


def test_an_answer_that_always_ends_early_is_put_together_or_given_up(
    proxy: Proxy, store: RemoteStore, tmp_path: Path
) -> None:
    """A half of the rest comes each time: a download gets there but for the last byte, which has no half."""
    proxy.faults.append(Fault("truncate", gets("f")))
    listed = store.listing("f")
    assert took(lambda: store.fetch(listed, tmp_path / "out"), StorageError, "faulty") < DEADLINE_S + SLACK_S
    assert proxy.sent_bytes < 2 * len(DATA)
    assert took(lambda: store.read_bytes("f"), StorageError, "faulty") < DEADLINE_S + SLACK_S
    assert not (tmp_path / "out/f").exists()


def test_a_write_that_was_done_though_the_answer_was_an_error(
    proxy: Proxy, patient: RemoteStore, tmp_path: Path
) -> None:
    joins = Fault("late", lambda method, path: method == "POST" and "uploadId=" in path, times=1)
    proxy.faults.append(joins)
    put(patient, tmp_path, LARGE)
    assert joins.hits == 1
    # It was there when it was looked for: nothing is sent twice.
    assert sum(method == "POST" and "uploadId=" in path for method, path in proxy.requests) == 1
    assert patient.read_bytes("up") == LARGE


def test_an_upload_that_is_spoilt_is_sent_again(proxy: Proxy, patient: RemoteStore, tmp_path: Path) -> None:
    for data, path in ((DATA, "small"), (LARGE, "large")):
        fault = Fault("flip upload", lambda method, path: method == "PUT", times=1)
        proxy.faults[:] = [fault]
        put(patient, tmp_path, data, path)
        assert fault.hits == 1
        proxy.faults.clear()
        assert patient.read_bytes(path) == data
    proxy.faults.append(Fault("flip upload", lambda method, path: method == "PUT"))
    took(lambda: put(patient, tmp_path, DATA), DigestMismatchError, "MD5")
    took(lambda: put(patient, tmp_path, LARGE), DigestMismatchError, "MD5")


def test_parts_of_an_upload_that_failed_are_thrown_away(proxy: Proxy, store: RemoteStore, tmp_path: Path) -> None:
    proxy.faults.append(Fault("busy", lambda method, path: "partNumber=2" in path))
    took(lambda: put(store, tmp_path, LARGE), StorageError, "SlowDown")
    bucket = store.url.removeprefix("s3://")
    assert "Uploads" not in store.filesystem().call_s3("list_multipart_uploads", Bucket=bucket)
    assert not store.exists("up")


def test_a_download_goes_on_where_the_one_before_was_cut_off(proxy: Proxy, store: RemoteStore, tmp_path: Path) -> None:
    put(store, tmp_path, LARGE)
    listed = store.listing("")
    # Half of it comes, and then nothing any more.
    up = gets("up")
    proxy.faults.append(Fault("stall midway", up, times=1))
    proxy.faults.append(Fault("busy", up))
    took(lambda: store.fetch(listed, tmp_path / "out"), StorageError, "faulty")
    proxy.faults.clear()
    proxy.sent_bytes = 0
    store.fetch(listed, tmp_path / "out")
    assert (tmp_path / "out/up").read_bytes() == LARGE and (tmp_path / "out/f").read_bytes() == DATA
    assert proxy.sent_bytes <= len(LARGE) - (8 << 20)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["f", "up"]


def test_a_download_goes_on_after_its_process_was_killed(proxy: Proxy, store: RemoteStore, tmp_path: Path) -> None:
    put(store, tmp_path, LARGE)
    proxy.faults.append(Fault("stall midway", gets("up")))
    script = (
        "import sys; from pathlib import Path\n"
        "from airflow_mlpipe.storage.datastore import open_store\n"
        "options = {'endpoint_url': sys.argv[1], 'key': 'id', 'secret': 's3cr3t'}\n"
        "store = open_store('faulty', sys.argv[2], options); listed = store.listing('up')\n"
        "store.fetch(listed, Path(sys.argv[3]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, proxy.url, store.url, str(tmp_path / "out")])
    ledger = tmp_path / "out" / DRAFTS / f"{draft_name(store.listing('up').files[0])}.ranges"
    # One range came whole; the rest never will.
    while not ledger.exists() or b"1" not in ledger.read_bytes():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out/up").exists()
    proxy.faults.clear()
    proxy.sent_bytes = 0
    store.fetch(store.listing("up"), tmp_path / "out")
    assert (tmp_path / "out/up").read_bytes() == LARGE
    assert proxy.sent_bytes <= len(LARGE) - (8 << 20)
