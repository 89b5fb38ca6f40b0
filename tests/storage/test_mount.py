"""Mounts of remote datastores: what they read, what they hide, and how they end."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_proxy import Fault, Proxy, proxying
from mounting import mounted

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage import mount as mount_module
from airflow_mlpipe.storage.datastore import LocalStore, open_store
from airflow_mlpipe.storage.garbage import remove_tree
from airflow_mlpipe.storage.mount import CannotMountError, RemoteMount, why_no_mount
from airflow_mlpipe.storage.mount_points import release_dead, release_mounts
from airflow_mlpipe.storage.mount_table import MountTable
from airflow_mlpipe.storage.read_ahead import BLOCK_BYTES
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.selection import DatasetFile, dataset_files

NUMBERS = itertools.count(1)
SECRET = "s3cr3t-of-the-mount"
LARGE = random.Random(7).randbytes(20 << 20)

# Mounts a file, tells the process of the mount, reads as much as it is told to, and waits for its end.
HOLDER = """
import json, sys
from pathlib import Path
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.mount import RemoteMount
from airflow_mlpipe.storage.selection import dataset_files
url, options, point = json.loads(sys.argv[1])
store = open_store("s3store", url, options)
spec = DatasetSpec(kind="file", sources=(DatastorePath(datastore="s3store"),))
mount = RemoteMount(dataset_files(spec, lambda name: store), Path(point))
print(mount.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    with proxying(s3_server) as running:
        yield running


@pytest.fixture
def store(mounts: None, proxy: Proxy) -> Iterator[RemoteStore]:
    """A store behind a proxy with a small file and a large one."""
    url = f"s3://mounts-{next(NUMBERS)}"
    options = {"endpoint_url": proxy.url, "key": "id", "secret": SECRET, "deadline_s": 5.0}
    # A busy machine may take longer than that to store the large one.
    patient = open_store("s3store", url, {**options, "deadline_s": 60.0})
    assert isinstance(patient, RemoteStore)
    patient.create_container()
    patient.write_bytes("small", b"small")
    patient.write_bytes("large", LARGE)
    patient.close()
    opened = open_store("s3store", url, options)
    assert isinstance(opened, RemoteStore)
    yield opened
    opened.close()


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "work" / "inputs" / "a point"
    yield place
    release_mounts(tmp_path)


def files_of(store: RemoteStore, *paths: str) -> list[DatasetFile]:
    sources = tuple(DatastorePath(datastore=store.name, path=path) for path in paths or ("",))
    return dataset_files(DatasetSpec(kind="file", sources=sources), lambda name: store)


def test_reads_at_random_offsets_by_several_threads(store: RemoteStore, point: Path) -> None:
    mount = RemoteMount(files_of(store), point)

    def look(seed: int) -> bool:
        at = random.Random(seed)
        with (point / "large").open("rb", buffering=0) as file:
            for _ in range(40):
                offset, size = at.randrange(len(LARGE)), at.choice((1, 100, 4096, 300_000))
                # One system call may bring less.
                data = os.pread(file.fileno(), size, offset)
                if not data or data != LARGE[offset : offset + len(data)]:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(8)))
    assert hashlib.sha256((point / "large").read_bytes()).digest() == hashlib.sha256(LARGE).digest()
    mount.close()
    mount.close()
    assert mount.troubles == [] and mounted(point) == [] and list(point.iterdir()) == []


def test_only_what_is_read_comes_over_the_network(store: RemoteStore, proxy: Proxy, point: Path) -> None:
    mount = RemoteMount(files_of(store), point)
    before = proxy.sent_bytes
    assert (point / "large").stat().st_size == len(LARGE)
    assert proxy.sent_bytes == before
    with (point / "large").open("rb", buffering=0) as file:
        for at in (1 << 20, 9 << 20, 17 << 20):
            assert os.pread(file.fileno(), 1000, at) == LARGE[at : at + 1000]
    # A block each, and not one ahead of it.
    assert 0 < proxy.sent_bytes - before <= 3 * BLOCK_BYTES + 10_000
    mount.close()


def test_names_of_all_kinds(store: RemoteStore, point: Path, tmp_path: Path) -> None:
    here = LocalStore("here", tmp_path / "here")
    here.write_bytes("data/b.txt", b"of this machine")
    spec = DatasetSpec(
        kind="file",
        sources=(DatastorePath(datastore="s3store", path="small"), DatastorePath(datastore="here", path="data")),
    )
    mount = RemoteMount(dataset_files(spec, {"here": here, "s3store": store}.__getitem__), point, ["empty/folder"])
    found = {path.relative_to(point).as_posix(): path for path in point.rglob("*")}
    assert sorted(found) == ["empty", "empty/folder", "here", "here/b.txt", "s3store", "s3store/small"]
    assert found["here/b.txt"].is_symlink() and found["here/b.txt"].read_bytes() == b"of this machine"
    assert found["s3store/small"].read_bytes() == b"small"
    mount.close()


@pytest.mark.parametrize("name", ["a/../b", "", "a//b", "./a", "a\0b"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be a file on this machine"):
        MountTable({name: 0}, {})


def test_a_name_that_is_a_file_and_a_folder() -> None:
    for names in ({"d/a": 0, "d/a/b": 1}, {"d/a/b": 0, "d/a": 1}):
        with pytest.raises(StorageError, match=r"^'d/a' is a file and a folder; rename one of them$"):
            MountTable(names, {})


def test_a_flipped_bit_is_noticed(store: RemoteStore, proxy: Proxy, point: Path) -> None:
    files = files_of(store)
    proxy.faults = [Fault("flip", lambda method, path: "/small" in path, times=1, hide_checksums=True)]
    mount = RemoteMount(files, point)
    # A small file is read again before anyone sees it ...
    assert (point / "small").read_bytes() == b"small" and proxy.faults[0].hits == 1
    # ... and the end of a large one is not handed out.
    proxy.faults = [Fault("flip", lambda method, path: "/large" in path, times=1, hide_checksums=True)]
    with pytest.raises(OSError, match="Input/output error"):
        (point / "large").read_bytes()
    mount.close()
    assert len(mount.troubles) == 1 and "'large' of datastore 's3store': the bytes have MD5" in mount.troubles[0]


def test_a_network_that_hangs_is_an_error_within_the_deadline(store: RemoteStore, proxy: Proxy, point: Path) -> None:
    mount = RemoteMount(files_of(store), point)
    proxy.faults = [Fault("stall", lambda method, path: method == "GET")]
    with pytest.raises(OSError, match="Input/output error"):
        (point / "small").read_bytes()
    # What needs no network goes on meanwhile.
    assert sorted(path.name for path in point.iterdir()) == ["large", "small"]
    proxy.faults = []
    assert (point / "small").read_bytes() == b"small"
    mount.close()
    assert "datastore 's3store'" in mount.troubles[0] and SECRET not in "".join(mount.troubles)


def test_secrets_are_in_no_command_line_and_no_environment(store: RemoteStore, point: Path) -> None:
    mount = RemoteMount(files_of(store), point)
    process = Path(f"/proc/{mount.pid}")
    assert b"mount_server" in (process / "cmdline").read_bytes()
    for name in ("cmdline", "environ"):
        assert SECRET.encode() not in (process / name).read_bytes()
    assert SECRET not in Path("/proc/self/mountinfo").read_text()
    mount.close()


def holding(store: RemoteStore, point: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A process that has mounted the store, and the process of its mount."""
    given = json.dumps([store.url, store.definition["options"], str(point)])
    process = subprocess.Popen([sys.executable, "-c", HOLDER, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def finish(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for end in (process.stdin, process.stdout):
        assert end is not None
        end.close()


def test_a_mount_ends_with_a_killed_process(store: RemoteStore, point: Path) -> None:
    process, server = holding(store, point)
    assert (point / "small").read_bytes() == b"small"
    descriptor = os.pidfd_open(server)
    finish(process)
    assert select.select([descriptor], [], [], 20)[0]
    os.close(descriptor)
    assert mounted(point) == [] and list(point.iterdir()) == []


def test_what_is_left_when_both_are_killed_is_cleaned_up(store: RemoteStore, point: Path, tmp_path: Path) -> None:
    process, server = holding(store, point)
    descriptor = os.pidfd_open(server)
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    assert select.select([descriptor], [], [], 20)[0]
    os.close(descriptor)
    finish(process)
    # Nobody was left to take it away.
    assert mounted(tmp_path) == [point]
    with pytest.raises(OSError, match="not connected"):
        point.stat()
    with pytest.raises(OSError):
        shutil.rmtree(tmp_path / "work")
    release_dead(point)
    assert mounted(tmp_path) == [] and list(point.iterdir()) == []


def test_a_folder_that_is_removed_takes_no_data_with_it(store: RemoteStore, point: Path, tmp_path: Path) -> None:
    mount = RemoteMount(files_of(store), point)
    release_dead(point)
    assert mounted(tmp_path) == [point]
    remove_tree(tmp_path / "work")
    assert not (tmp_path / "work").exists() and mounted(tmp_path) == []
    assert [file.path for file in store.listing("")] == ["large", "small"]
    mount.close()


def test_a_mount_whose_process_died_is_closed_all_the_same(store: RemoteStore, point: Path) -> None:
    mount = RemoteMount(files_of(store), point)
    mount._process.kill()
    mount._process.wait()
    mount.close()
    assert mounted(point) == []


def test_other_file_systems_are_left_alone(tmp_path: Path) -> None:
    assert mounted(Path("/")) == []
    release_mounts(Path("/proc"))
    assert Path("/proc/self").exists()


class TestNoMount:
    def test_no_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mount_module, "DEVICE", tmp_path / "fuse")
        assert why_no_mount() is not None and f"there is no {tmp_path}/fuse; a container needs" in why_no_mount()
        with pytest.raises(CannotMountError, match="there is no"):
            RemoteMount([], tmp_path / "point")
        assert not (tmp_path / "point").exists()

    def test_no_rights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # What a container answers whose device is not allowed cannot be had without one; a folder is no device either.
        monkeypatch.setattr(mount_module, "DEVICE", tmp_path)
        assert "cannot be opened" in str(why_no_mount())

    def test_no_library(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(mount_module, "DEVICE", Path(os.devnull))
        monkeypatch.setattr(mount_module, "find_spec", lambda name: None)
        assert why_no_mount() == "mfusepy is not installed; pip install 'airflow-mlpipe[mount]'"

    def test_no_libfuse(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(mount_module, "DEVICE", Path(os.devnull))
        # The library takes what this names; it says the rest itself.
        monkeypatch.setenv("FUSE_LIBRARY_NAME", "no-such-library")
        with pytest.raises(CannotMountError, match="Unable to find libfuse; apt-get install fuse3"):
            RemoteMount([], tmp_path / "point")

    @pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="rights are taken from root by setpriv"
    )
    def test_an_unprivileged_container(self, mounts: None, tmp_path: Path) -> None:
        # What root may do in one: everything but to mount.
        code = f"from airflow_mlpipe.storage.mount import *; RemoteMount([], Path({str(tmp_path / 'point')!r}))"
        command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "CannotMountError" in done.stderr and "not permitted" in done.stderr

    def test_what_the_system_says_is_told(self, mounts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mount_module, "_document", lambda *_: refused(tmp_path / "gone"))
        with pytest.raises(CannotMountError, match=r"bad mount point|No such file|gone"):
            RemoteMount([], tmp_path / "point")


def refused(point: Path) -> dict[str, object]:
    return {"point": str(point), "stores": [], "files": [], "names": {}, "links": {}, "folders": []}
