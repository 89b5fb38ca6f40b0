"""The cache of downloads: bounded, shared, never wrong, and nothing in use is removed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_site import Site, serving

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.errors import ParameterError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.sdk.tables import unchanged
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.listing import RemoteFile
from airflow_mlpipe.storage.local_cache import LocalCache
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.selection import at_hand, dataset_files

CLOCK = itertools.count(10**9)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    for name in "abcd":
        (tmp_path / "site" / name).write_bytes(name.encode() * 100)
    with serving(tmp_path / "site") as served:
        yield served


@pytest.fixture
def store(site: Site) -> Iterator[RemoteStore]:
    opened = open_store("web", site.url, {"allow_private": True})
    assert isinstance(opened, RemoteStore)
    yield opened
    opened.close()


def files(store: RemoteStore, names: str) -> list[RemoteFile]:
    found = [store.stat(name) for name in names]
    return [file for file in found if file is not None]


def hold(cache: LocalCache, store: RemoteStore, names: str) -> dict[str, bytes]:
    with cache.holding(store, files(store, names)) as paths:
        content = {name: path.read_bytes() for name, path in paths.items()}
        for path in paths.values():
            # Uses follow each other, however coarse the clock of the file system is.
            os.utime(path, (next(CLOCK),) * 2)
    return content


def reads(site: Site) -> list[str]:
    return [path.strip("/") for method, path, _ in site.requests if method == "GET"]


def test_a_second_use_downloads_nothing(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache")
    assert hold(cache, store, "ab") == {"a": b"a" * 100, "b": b"b" * 100}
    assert hold(LocalCache(tmp_path / "cache"), store, "abc")["c"] == b"c" * 100
    assert sorted(reads(site)) == ["a", "b", "c"]


def test_a_changed_file_is_another_entry(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache")
    hold(cache, store, "a")
    (site.folder / "a").write_bytes(b"A" * 100)
    assert hold(cache, store, "a") == {"a": b"A" * 100}


def test_without_an_identity_nothing_is_kept(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    site.etags = False
    cache = LocalCache(tmp_path / "cache")
    assert hold(cache, store, "a") == hold(cache, store, "a") == {"a": b"a" * 100}
    assert reads(site) == ["a", "a"] and cache.size_bytes() == 0


def test_what_was_not_used_for_the_longest_time_goes_first(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache", limit_bytes=250)
    for names in ("a", "b", "a", "c"):
        hold(cache, store, names)
    assert cache.size_bytes() == 200
    site.requests.clear()
    hold(cache, store, "ac")
    assert reads(site) == []
    hold(cache, store, "b")
    assert reads(site) == ["b"]


def test_what_is_in_use_stays(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache", limit_bytes=150)
    with cache.holding(store, files(store, "a")) as held:
        hold(cache, store, "b")
        hold(LocalCache(tmp_path / "cache", limit_bytes=0), store, "c")
        assert held["a"].read_bytes() == b"a" * 100
        assert cache.size_bytes() == 100
    hold(LocalCache(tmp_path / "cache", limit_bytes=0), store, "d")
    assert cache.size_bytes() == 0


def test_the_use_of_a_process_ends_with_it(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from airflow_mlpipe.storage.datastore import open_store\n"
        "from airflow_mlpipe.storage.local_cache import LocalCache\n"
        "store = open_store('web', sys.argv[1], {'allow_private': True})\n"
        "with LocalCache(Path(sys.argv[2])).holding(store, [store.stat('a')]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, site.url, str(tmp_path / "cache")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        cache = LocalCache(tmp_path / "cache", limit_bytes=0)
        hold(cache, store, "b")
        assert cache.size_bytes() == 100
        process.send_signal(signal.SIGKILL)
    hold(cache, store, "b")
    assert cache.size_bytes() == 0 and list((tmp_path / "cache/used").iterdir()) == []


def test_those_who_ask_at_once_download_once(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    wanted = files(store, "abcd")
    barrier = threading.Barrier(4)
    seen: list[dict[str, bytes]] = []

    def use() -> None:
        barrier.wait()
        with LocalCache(tmp_path / "cache").holding(store, wanted) as paths:
            seen.append({name: path.read_bytes() for name, path in paths.items()})

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{name: name.encode() * 100 for name in "abcd"}] * 4
    assert sorted(reads(site)) == list("abcd")


def test_another_use_is_no_change_of_a_file_that_is_being_read(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    with LocalCache(tmp_path / "cache").holding(store, files(store, "a")) as paths:
        os.utime(paths["a"], (1, 1))
        with unchanged(paths["a"]), LocalCache(tmp_path / "cache").holding(store, files(store, "a")):
            pass
    assert reads(site) == ["a"]


def test_an_entry_that_is_short_is_not_given(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache")
    with cache.holding(store, files(store, "a")) as paths:
        entry = paths["a"]
    entry.chmod(0o644)
    entry.write_bytes(b"a")
    assert hold(cache, store, "a") == {"a": b"a" * 100}


def test_what_failed_leaves_no_entry(site: Site, store: RemoteStore, tmp_path: Path) -> None:
    wanted = files(store, "ab")
    (site.folder / "b").write_bytes(b"other")
    cache = LocalCache(tmp_path / "cache")
    with pytest.raises(StorageError, match="changed since it was listed"), cache.holding(store, wanted):
        pass
    assert cache.size_bytes() == 0 and list((tmp_path / "cache/used").iterdir()) == []


@pytest.mark.parametrize("side", ["workspace", "engine"])
def test_the_setting_of_a_workspace_bounds_it(side: str, site: Site, tmp_path: Path) -> None:
    made = Workspace.create("tests", path=tmp_path)
    made.catalog.put_datastore(DatastoreRow(name="web", url=site.url, options={"allow_private": True}))
    config = json.loads((made.dir / "config.json").read_text())
    (made.dir / "config.json").write_text(json.dumps({**config, "settings": {"cache_limit_bytes": 250}}))
    opener = Workspace.from_config(made.dir / "config.json").store if side == "workspace" else Room(made.dir).store
    spec = DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore="web", path=name) for name in "abcd"))
    with at_hand(dataset_files(spec, opener)) as found:
        assert [file.place.read_bytes()[:1] for file in found] == [b"a", b"b", b"c", b"d"]
    assert LocalCache(made.dir / "cache").size_bytes() == 200
    opener("web").close()


@pytest.mark.parametrize("limit", [-1, 1.5, True, "1"])
def test_limits_that_are_none(limit: int, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cache_limit_bytes"):
        LocalCache(tmp_path, limit)
