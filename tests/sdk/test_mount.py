"""FileDataset.mount() of a datastore elsewhere."""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import mounted

from airflow_mlpipe import Dataset, Datastore, FileDataset, Workspace
from airflow_mlpipe.storage import mount as mount_module
from airflow_mlpipe.storage.mount_points import release_mounts

pytestmark = pytest.mark.s3

NUMBERS = itertools.count(1)


@pytest.fixture
def files(workspace: Workspace, s3_server: str, tmp_path: Path) -> Iterator[FileDataset]:
    """Two files of a bucket and one of this machine."""
    url = f"s3://mounting-{next(NUMBERS)}"
    lake = Datastore.register(workspace, "lake", url, endpoint_url=s3_server, key="k", secret="s3cr3t")
    store = workspace.store("lake")
    store.create_container()
    store.write_bytes("in/a.txt", b"a")
    store.write_bytes("in/deep/b.txt", b"b")
    workspace.get_default_datastore()._store.write_bytes("c.txt", b"c")
    yield Dataset.File.from_files([(lake, "in"), (workspace.get_default_datastore(), "c.txt")])
    store.close()
    release_mounts(tmp_path)


@pytest.mark.parametrize("how", ["mounted", "downloaded"])
def test_the_layout_is_the_same(
    how: str,
    files: FileDataset,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if how == "mounted":
        request.getfixturevalue("mounts")
    else:
        monkeypatch.setattr(mount_module, "DEVICE", tmp_path / "no-fuse")
    with files.mount() as mount:
        point = Path(mount.mount_point)
        assert sorted(f"/{path.relative_to(point)}" for path in point.rglob("*.txt")) == files.to_path()
        assert [(point / path.lstrip("/")).read_bytes() for path in files.to_path()] == [b"a", b"b", b"c"]
        assert bool(mounted(point)) == (how == "mounted")
    assert not point.exists()
    notes = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert notes == [] if how == "mounted" else "the files are downloaded, not mounted: there is no" in notes[0]


def test_start_and_stop(mounts: None, files: FileDataset, tmp_path: Path) -> None:
    mount = files.mount(tmp_path / "here")
    for _ in range(2):
        mount.start()
        mount.start()
        assert (tmp_path / "here/lake/a.txt").read_bytes() == b"a"
        mount.stop()
        mount.stop()
        assert not (tmp_path / "here").exists() and mounted(tmp_path) == []


def test_a_place_where_a_killed_mount_was(mounts: None, files: FileDataset, tmp_path: Path) -> None:
    mount = files.mount(tmp_path / "here")
    mount.start()
    server = mount._mount._process
    server.kill()
    server.wait()
    with pytest.raises(OSError) as caught:
        (tmp_path / "here").stat()
    assert caught.value.errno == errno.ENOTCONN
    with files.mount(tmp_path / "here") as again:
        assert Path(again.mount_point, "lake/a.txt").read_bytes() == b"a"
    mount.stop()
