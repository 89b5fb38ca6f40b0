"""What every datastore does, wherever it is: one suite over a folder, S3, Azure, GCS and the web."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import emulators
import pytest
from web_site import serving

from airflow_mlpipe.errors import (
    DigestMismatchError,
    MissingDataError,
    NotSupportedError,
    ParameterError,
    PermissionDeniedError,
    StorageError,
)
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.storage import remote_garbage
from airflow_mlpipe.storage.datastore import LocalStore, open_store
from airflow_mlpipe.storage.listing import Usage
from airflow_mlpipe.storage.local_cache import LocalCache
from airflow_mlpipe.storage.mount import CannotMountError, RemoteMount
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_errors import BrokenAnswerError, ChangedError
from airflow_mlpipe.storage.s3 import S3Driver
from airflow_mlpipe.storage.selection import DatasetFile, dataset_files
from airflow_mlpipe.storage.transfer import LARGE_BYTES, Progress

NUMBERS = itertools.count(1)
SECRET = "s3cr3t-of-the-store"
NAMES = ["a.csv", "d/b.csv", "d/e/c.csv", "d/e/c.txt", "dd/b.csv", "ü ä/% +#&=.txt", "empty"]
PATTERNS = [
    "**",
    "*",
    "*.csv",
    "**/*.csv",
    "d/*",
    "d/**",
    "d/?.csv",
    "d/*/c.*",
    "**/e/*.txt",
    "d/[ab].csv",
    "none/*",
    "ü*/**",
]


@dataclass
class Place:
    """A datastore, and how to put files into it if it is only read itself."""

    store: LocalStore | RemoteStore
    folder: Path | None = None

    def write(self, path: str, data: bytes) -> None:
        if self.folder is None:
            self.store.write_bytes(path, data)
        else:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)

    @property
    def remote(self) -> RemoteStore:
        assert isinstance(self.store, RemoteStore)
        return self.store


def s3_place(endpoint: str, **more: object) -> Place:
    options = {"endpoint_url": endpoint, "key": "an-id", "secret": SECRET, **more}
    store = open_store("s3store", f"s3://bucket-{next(NUMBERS)}/some/folder", options)
    return made(store)


def azure_place(endpoint: str) -> Place:
    options = {"endpoint": endpoint, "account_name": emulators.AZURE_ACCOUNT, "account_key": emulators.AZURE_KEY}
    return made(open_store("azstore", f"az://container-{next(NUMBERS)}/some/folder", options))


def gcs_place(endpoint: str) -> Place:
    options = {"endpoint_url": endpoint, "token": "anon", "project": "p"}
    return made(open_store("gstore", f"gs://bucket-{next(NUMBERS)}/some/folder", options))


def made(store: LocalStore | RemoteStore) -> Place:
    assert isinstance(store, RemoteStore)
    store.create_container()
    store.create_container()
    return Place(store)


REMOTE = [
    pytest.param("s3", marks=pytest.mark.s3),
    pytest.param("azure", marks=pytest.mark.azure),
    pytest.param("gcs", marks=pytest.mark.gcs),
]


@pytest.fixture
def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    opened: list[Place] = []
    kinds = {"s3": s3_place, "azure": azure_place, "gcs": gcs_place}

    def make(kind: str) -> Place:
        if kind == "local":
            place = Place(LocalStore("local", tmp_path / "store"))
        elif kind == "web":
            site = request.getfixturevalue("site")
            place = Place(open_store("web", site.url, {"allow_private": True}), site.folder)
        else:
            place = kinds[kind](request.getfixturevalue(f"{kind}_server"))
        opened.append(place)
        return place

    yield make
    for place in opened:
        if isinstance(place.store, RemoteStore):
            place.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[object]:
    with serving(tmp_path / "site") as served:
        yield served


@pytest.fixture(params=["local", *REMOTE])
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """Every store that is written."""
    return place_of(request.param)


@pytest.fixture(params=["local", *REMOTE, "web"])
def readable(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """Every store."""
    return place_of(request.param)


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> RemoteStore:
    """Every remote store that is written."""
    return place_of(request.param).remote


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_tree(folder: Path, names: list[str] = NAMES) -> dict[str, bytes]:
    content = {name: f"content of {name}".encode() * (name != "empty") for name in names}
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return content


def test_bytes_come_back(readable: Place) -> None:
    readable.write("a/f", b"1")
    assert readable.store.read_bytes("a/f") == b"1"
    readable.write("a/f", b"22")
    assert readable.store.read_bytes("/a/f") == b"22"
    readable.write("a/none", b"")
    assert readable.store.read_bytes("a/none") == b""
    assert readable.store.exists("a/f")
    assert not readable.store.exists("a/g")


def test_what_is_not_there(readable: Place) -> None:
    readable.write("a/f", b"1")
    with pytest.raises(MissingDataError, match=r"a/g"):
        readable.store.read_bytes("a/g")


def test_a_folder_exists_as_long_as_a_file_is_in_it(place: Place) -> None:
    place.write("a/b/f", b"1")
    assert place.store.exists("a") and place.store.exists("a/b") and not place.store.exists("a/b/f/g")
    assert not place.store.exists("a/bb")
    place.store.remove("a/b/f")
    place.store.remove("a/b/f")
    assert not place.store.exists("a/b/f")


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/..", "a\0b"])
def test_nothing_leaves_the_store(path: str, readable: Place) -> None:
    with pytest.raises(ParameterError):
        readable.store.read_bytes(path)
    if ".." in path:
        with pytest.raises(ParameterError):
            readable.store.glob(f"{path}/*")


def test_patterns_mean_the_same_everywhere(place: Place, tmp_path: Path) -> None:
    reference = LocalStore("reference", tmp_path / "reference")
    for store in (reference, place.store):
        for name in [*NAMES, "models/m.csv", "azureml/id/out.csv", "d/models/n.csv"]:
            store.write_bytes(name, b"x")
    found = {pattern: place.store.glob(pattern) for pattern in [*PATTERNS, "models/*"]}
    assert found == {pattern: reference.glob(pattern) for pattern in [*PATTERNS, "models/*"]}
    # What this package keeps in a store is no content of its root.
    assert found["**/*.csv"] == ["a.csv", "d/b.csv", "d/e/c.csv", "d/models/n.csv", "dd/b.csv"]


def test_listings(remote: RemoteStore) -> None:
    for name in [*NAMES, "models/m.csv"]:
        remote.write_bytes(name, name.encode())
    whole = remote.listing("")
    assert [file.path for file in whole] == sorted(NAMES) and (whole.base, whole.is_file) == ("", False)
    below = remote.listing("/d/")
    assert [file.path for file in below] == ["d/b.csv", "d/e/c.csv", "d/e/c.txt"] and below.base == "d"
    one = remote.listing("d/b.csv")
    assert ([file.path for file in one], one.base, one.is_file) == (["d/b.csv"], "d", True)
    matches = remote.listing("d/**/*.csv")
    assert [file.path for file in matches] == ["d/b.csv", "d/e/c.csv"] and matches.base == "d"
    assert len(remote.listing("d/*.none")) == 0
    assert [file.size_bytes for file in below] == [len(file.path) for file in below]
    assert all(file.mtime_ns > 10**18 for file in below)
    with pytest.raises(MissingDataError, match=r"no 'nope' in datastore"):
        remote.listing("nope")
    folders, files = remote.list_folder("d")
    assert (folders, [file.path for file in files]) == (["e"], ["d/b.csv"])
    assert remote.list_folder("")[0] == ["d", "dd", "models", "ü ä"]


def test_a_name_that_looks_like_a_pattern(remote: RemoteStore) -> None:
    remote.write_bytes("a[1].csv", b"1")
    remote.write_bytes("a1.csv", b"2")
    assert [file.path for file in remote.listing("a[1].csv")] == ["a[1].csv"]


def test_identity_changes_with_the_content_alone(remote: RemoteStore) -> None:
    written = remote.write_bytes("f", b"1")
    remote.write_bytes("g", b"x")
    first = remote.stat("f")
    assert first is not None and first.identity
    assert first.identity == written.identity == remote.listing("").files[0].identity
    remote.write_bytes("f", b"2")
    second = remote.stat("f")
    assert second is not None and second.size_bytes == first.size_bytes and second.identity != first.identity


def test_a_folder_there_and_back(place: Place, tmp_path: Path) -> None:
    content = a_tree(tmp_path / "in")
    if isinstance(place.store, LocalStore):
        place.store.copy_in(tmp_path / "in", "up")
        place.store.copy_out("up", tmp_path / "out")
    else:
        written = place.store.put(tmp_path / "in", "up")
        listed = place.store.listing("up")
        assert [(file.path, file.identity, file.size_bytes) for file in written] == [
            (file.path, file.identity, file.size_bytes) for file in listed
        ]
        place.store.fetch(listed, tmp_path / "out", base=listed.base)
    assert tree(tmp_path / "out") == content
    assert all(os.access(path, os.W_OK) for path in (tmp_path / "out").rglob("*"))


def test_large_files_there_and_back(remote: RemoteStore, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 21 + b"end"
    assert len(data) > LARGE_BYTES
    (tmp_path / "in").mkdir()
    (tmp_path / "in/large").write_bytes(data)
    (tmp_path / "in/small").write_bytes(b"s")
    seen: list[tuple[int, int]] = []

    def report(progress: Progress) -> None:
        seen.append((progress.size_bytes, progress.files))

    remote.put(tmp_path / "in", "up", report)
    assert seen[-1] == (len(data) + 1, 2)
    listed = remote.listing("up")
    assert [file.size_bytes for file in listed] == [len(data), 1]
    seen.clear()
    remote.fetch(listed, tmp_path / "out", base="up", progress=report)
    assert seen[-1] == (len(data) + 1, 2)
    assert hashlib.sha256((tmp_path / "out/large").read_bytes()).digest() == hashlib.sha256(data).digest()
    assert remote.read_bytes("up/large") == data
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["large", "small"]


def test_the_time_of_the_original_is_kept(remote: RemoteStore, tmp_path: Path) -> None:
    remote.write_bytes("f", b"1")
    listed = remote.listing("f")
    remote.fetch(listed, tmp_path)
    assert abs((tmp_path / "f").stat().st_mtime_ns - listed.files[0].mtime_ns) < 1000


def test_a_file_that_changed_since_it_was_listed_is_not_delivered(remote: RemoteStore, tmp_path: Path) -> None:
    for data in (b"old", b"x" * (LARGE_BYTES + 1)):
        remote.write_bytes("kept", b"kept")
        remote.put_files([(_file(tmp_path / "local", data), "f")])
        listed = remote.listing("")
        remote.put_files([(_file(tmp_path / "local", data[::-1][:-1] + b"!"), "f")])
        with pytest.raises(ChangedError, match=r"changed since it was listed"):
            remote.fetch(listed, tmp_path / "out")
        assert not (tmp_path / "out/f").exists() and not (tmp_path / "out/kept").exists()
        remote.fetch(remote.listing(""), tmp_path / "out")
        assert (tmp_path / "out/f").read_bytes()[-1:] == b"!"
        remote.remove("f")
        (tmp_path / "out/f").unlink()
        (tmp_path / "out/kept").unlink()


def test_trees_are_removed_and_their_neighbours_are_not(remote: RemoteStore) -> None:
    for name in ("a/f", "a/b/g", "ab", "a.txt"):
        remote.write_bytes(name, b"1")
    assert remote.remove_tree("a") == 2
    assert remote.remove_tree("a") == 0
    assert [file.path for file in remote.listing("")] == ["a.txt", "ab"]
    with pytest.raises(ParameterError, match="root"):
        remote.remove_tree("/")


def test_how_much_lies_in_a_folder_and_what_time_it_is_there(remote: RemoteStore) -> None:
    before = remote.clock_ns()
    for name in ("a/f", "a/b/g", "ab"):
        remote.write_bytes(name, name.encode())
    used = remote.usage("a")
    newest = max(file.mtime_ns for file in remote.listing("a"))
    assert (used.files, used.size_bytes, used.written_ns) == (2, 8, newest)
    # One clock stamps the files and tells the time, to the second.
    assert before <= newest and newest // 10**9 * 10**9 <= remote.clock_ns()
    assert remote.usage("none") == Usage(0, 0, None)


def test_the_store_copies_by_itself(remote: RemoteStore, tmp_path: Path) -> None:
    content = a_tree(tmp_path / "in") | {"large": os.urandom(1 << 20) * 21 + b"end"}
    (tmp_path / "in/large").write_bytes(content["large"])
    remote.put(tmp_path / "in", "from")
    listed = remote.listing("from").files
    assert remote.copy_files([(file, file.path.replace("from/", "to/", 1)) for file in listed]) == []
    copied = remote.listing("to").files
    # Whoever looks at both is told that they are the same.
    assert [mine.has_bytes_of(theirs) for mine, theirs in zip(listed, copied, strict=True)] == [True] * len(listed)
    remote.fetch(copied, tmp_path / "out", base="to")
    assert tree(tmp_path / "out") == content
    assert remote.copy_files([(listed[0], "to/empty")]) == []
    assert remote.read_bytes("to/empty") == remote.read_bytes(listed[0].path) != b""


def test_a_file_that_changed_since_it_was_listed_is_not_copied(remote: RemoteStore) -> None:
    remote.write_bytes("f", b"old")
    (listed,) = remote.listing("f").files
    remote.write_bytes("f", b"new")
    # Not every server heeds the condition; all of them tell the MD5 of what is there then.
    with pytest.raises((ChangedError, DigestMismatchError), match=r"changed since it was listed|something else at 'g'"):
        remote.copy_files([(listed, "g")])


def test_places_of_attempts_are_found_measured_and_removed(remote: RemoteStore) -> None:
    ours = ["azureml/one/out/f", "azureml/one/out/d/g", "azureml/two/out", "dataset/one/made/f"]
    others = ["azureml-of-mine/one/f", "azureml/loose", "dataset", "data/azureml/one/f", "f", "azureml/on/f"]
    for name in [*ours, *others]:
        remote.write_bytes(name, b"1")
    found, away = remote_garbage.list_places([remote])
    assert sorted(place.path for place in found) == ["azureml/on", "azureml/one", "azureml/two", "dataset/one"]
    measured, _ = remote_garbage.measure([place for place in found if place.name == "one"])
    assert ({place.path: place.size_bytes for place in measured}, away) == ({"azureml/one": 2, "dataset/one": 1}, {})
    assert [(place.is_younger(0), place.is_younger(10**15)) for place in measured] == [(False, True)] * 2
    assert remote_garbage.remove_places(measured) == [None, None]
    left = [file.path for folder in ("", "azureml", "dataset") for file in remote.listing(folder)]
    assert sorted(set(left)) == sorted({"azureml/two/out", *others})


def test_many_files_are_removed_at_once(remote: RemoteStore) -> None:
    for name in ("a", "d/b", "d/c"):
        remote.write_bytes(name, b"1")
    remote.remove_files(["a", "d/b", "never/there"])
    assert [file.path for file in remote.listing("")] == ["d/c"]


@pytest.mark.s3
def test_a_listing_that_stops_without_an_end_is_no_listing() -> None:
    driver = S3Driver("bucket", "", {}, 1.0)

    async def cut_off(method: str, **arguments: object) -> dict[str, object]:
        return {"IsTruncated": True, "Contents": []}

    driver._call = cut_off
    with pytest.raises(BrokenAnswerError):
        asyncio.run(driver.page("", ""))


def test_no_bucket(remote: RemoteStore) -> None:
    options = {**remote._options}
    gone = open_store("gone", f"{remote.scheme}://never-made-{next(NUMBERS)}/x", options)
    assert isinstance(gone, RemoteStore)
    with pytest.raises(MissingDataError, match=r"datastore 'gone' .*check .* that the bucket or container exists"):
        gone.listing("")
    gone.close()


def test_the_cache(remote: RemoteStore, tmp_path: Path) -> None:
    remote.write_bytes("a", b"a" * 1000)
    remote.write_bytes("b", b"b" * 1000)
    cache = LocalCache(tmp_path / "cache", limit_bytes=1500)
    seen: list[int] = []
    listed = remote.listing("")
    with cache.holding(remote, listed.files, lambda progress: seen.append(progress.total_files)) as paths:
        assert {path: local.read_bytes()[:1] for path, local in paths.items()} == {"a": b"a", "b": b"b"}
        # More than the limit, and all of it in use.
        assert cache.size_bytes() == 2000 and seen[-1] == 2
        assert all(not local.stat().st_mode & 0o222 for local in paths.values())
    assert cache.size_bytes() == 1000


@pytest.mark.s3
def test_credentials_that_are_wrong(s3_server: str, azure_server: str) -> None:
    options = {"endpoint": azure_server, "account_name": emulators.AZURE_ACCOUNT, "account_key": "bm90IHRoZSBrZXk="}
    store = open_store("azstore", "az://container/f", options)
    assert isinstance(store, RemoteStore)
    with pytest.raises(PermissionDeniedError, match=r"MLPIPE_DATASTORE_AZSTORE_<OPTION>") as caught:
        store.read_bytes("x")
    store.close()
    assert "bm90IHRoZSBrZXk=" not in str(caught.value) + repr(store)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@pytest.mark.azure
@pytest.mark.parametrize("access", ["container", "blob", None])
def test_a_container_that_everybody_may_read_needs_no_key(access: str | None, azure_server: str) -> None:
    """With access to its blobs alone it cannot be listed, and so is asked for by whoever is logged in."""
    from azure.storage.blob import ContainerClient

    container = f"container-{next(NUMBERS)}"
    options = {"endpoint": azure_server, "account_name": emulators.AZURE_ACCOUNT}
    owner = open_store("azstore", f"az://{container}", {**options, "account_key": emulators.AZURE_KEY})
    assert isinstance(owner, RemoteStore)
    owner.create_container()
    owner.write_bytes("d/x", b"for all")
    with ContainerClient(azure_server, container, emulators.AZURE_KEY) as client:
        client.set_container_access_policy({}, public_access=access)
    anybody = open_store("azstore", f"az://{container}", options)
    assert isinstance(anybody, RemoteStore)
    if access == "container":
        assert (anybody.read_bytes("d/x"), [file.path for file in anybody.listing("d")]) == (b"for all", ["d/x"])
        with pytest.raises(PermissionDeniedError, match=r"MLPIPE_DATASTORE_AZSTORE_<OPTION>"):
            anybody.write_bytes("d/y", b"")
    else:
        with pytest.raises(PermissionDeniedError, match=r"cannot read 'd/x': DefaultAzureCredential failed"):
            anybody.read_bytes("d/x")
    anybody.close()
    owner.close()


@pytest.mark.s3
def test_names_that_no_file_can_have(s3_server: str, tmp_path: Path) -> None:
    store = s3_place(s3_server).remote
    names = store.filesystem()
    bucket = store.url.removeprefix("s3://").partition("/")[0]
    names.call_s3("put_object", Bucket=bucket, Key="some/folder/d/../../../evil", Body=b"x")
    names.call_s3("put_object", Bucket=bucket, Key="some/folder/good", Body=b"x")
    with pytest.raises(StorageError, match=r"evil', which cannot be a file"):
        store.fetch(store.listing(""), tmp_path / "out")
    store.fetch(store.listing("g*"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["good", "out"]
    store.close()


@pytest.mark.s3
def test_listings_of_many_pages(s3_server: str) -> None:
    store = s3_place(s3_server).remote
    names = [f"f{number:04d}" for number in range(1, 1206)]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            Path(folder, name).write_bytes(b"")
        store.put(Path(folder), "many")
    assert [file.path for file in store.listing("many")] == [f"many/{name}" for name in names]
    assert len(store.list_folder("many")[1]) == 1205
    assert store.remove_tree("many") == 1205
    store.close()


@pytest.mark.s3
def test_versions_are_the_identity_where_they_are_asked_for(s3_server: str, tmp_path: Path) -> None:
    store = s3_place(s3_server, version_aware=True).remote
    bucket = store.url.removeprefix("s3://").partition("/")[0]
    store.filesystem().call_s3("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = store.write_bytes("f", b"1")
    listed = store.listing("")
    assert listed.files[0].identity == first.identity != first.md5
    store.write_bytes("f", b"2")
    assert store.listing("").files[0].identity != first.identity
    # The old version is still there to be read.
    store.fetch(listed, tmp_path)
    assert (tmp_path / "f").read_bytes() == b"1"
    store.close()


def test_the_web_is_read_only_and_lists_nothing(place_of: Callable[[str], Place]) -> None:
    web = place_of("web")
    web.write("d/f", b"1")
    assert [file.path for file in web.remote.listing("d/f")] == ["d/f"]
    for call in (lambda: web.remote.listing("d"), lambda: web.remote.listing("*"), lambda: web.remote.list_folder("d")):
        with pytest.raises(NotSupportedError, match=r"name each file"):
            call()
    for call in (
        lambda: web.remote.write_bytes("x", b""),
        lambda: web.remote.remove("d/f"),
        lambda: web.remote.put(Path(__file__), "x"),
        web.remote.create_container,
    ):
        with pytest.raises(NotSupportedError, match=r"can only be read"):
            call()


@pytest.mark.parametrize("lacking", ["", "etags", "lengths", "ranges"])
def test_files_of_plainer_web_servers(
    lacking: str, place_of: Callable[[str], Place], site: object, tmp_path: Path
) -> None:
    if lacking:
        setattr(site, lacking, False)
    web = place_of("web")
    data = os.urandom(LARGE_BYTES + 11)
    web.write("large", data)
    web.write("empty", b"")
    for name, content in (("large", data), ("empty", b"")):
        listed = web.remote.listing(name)
        assert listed.files[0].size_bytes == len(content)
        assert (listed.files[0].identity is None) == (lacking == "etags")
        web.remote.fetch(listed, tmp_path / "out")
        assert (tmp_path / "out" / name).read_bytes() == content


def test_a_mount_shows_what_was_listed(mounts: None, remote: RemoteStore, tmp_path: Path) -> None:
    content = a_tree(tmp_path / "in")
    content["d/large"] = os.urandom(1 << 20) * (LARGE_BYTES >> 20) + b"end"
    (tmp_path / "in/d/large").write_bytes(content["d/large"])
    remote.put(tmp_path / "in", "up")
    point = tmp_path / "point"
    with mounted(_files(remote, "up"), point) as mount:
        remote.write_bytes("up/later", b"not listed")
        assert tree(point) == content
        assert sorted(path.name for path in point.iterdir()) == sorted({name.partition("/")[0] for name in content})
        times = {file.path: file.mtime_ns for file in remote.listing("up")}
        assert (point / "a.csv").stat().st_mtime_ns == times["up/a.csv"]
        with (point / "d/large").open("rb") as file:
            for at in (5_000_000, 17, LARGE_BYTES, 3_000_000):
                file.seek(at)
                assert file.read(1000) == content["d/large"][at : at + 1000]
        for change in (
            lambda: (point / "a.csv").write_bytes(b"x"),
            lambda: (point / "new").write_bytes(b"x"),
            lambda: (point / "a.csv").unlink(),
            lambda: shutil.rmtree(point / "d"),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                change()
        assert mount.troubles == []
    assert list(point.iterdir()) == [] and len(remote.listing("up")) == len(content) + 1


def test_a_file_that_changes_under_a_mount_is_an_error(mounts: None, remote: RemoteStore, tmp_path: Path) -> None:
    old, new = os.urandom(1 << 20) * 17, os.urandom(1 << 20) * 17
    remote.put_files([(_file(tmp_path / "local", old), "f")])
    remote.write_bytes("kept", b"kept")
    point = tmp_path / "point"
    with mounted(_files(remote, ""), point) as mount:
        with (point / "f").open("rb", buffering=0) as file:
            assert file.read(4096) == old[:4096]
        remote.put_files([(_file(tmp_path / "local", new), "f")])
        with pytest.raises(OSError) as caught:
            (point / "f").read_bytes()
        assert caught.value.errno == errno.EIO
        # Not what the kernel keeps of it either.
        with pytest.raises(OSError):
            (point / "f").open("rb")
        assert (point / "kept").read_bytes() == b"kept"
    # A server that answers whatever version it is asked for is found out by the MD5 of the whole.
    assert "'f'" in mount.troubles[0]
    assert ("the bytes have MD5" if remote.scheme == "gs" else "changed since it was listed") in mount.troubles[0]


def test_mounts_of_the_web(mounts: None, place_of: Callable[[str], Place], site: object, tmp_path: Path) -> None:
    web = place_of("web")
    data = os.urandom(6 << 20)
    web.write("d/large", data)
    with mounted(_files(web.remote, "d/large"), tmp_path / "point"):
        assert (tmp_path / "point/large").read_bytes() == data
    # A server that knows no ranges sends all of it each time, and is right all the same.
    site.ranges = False
    with mounted(_files(web.remote, "d/large"), tmp_path / "point"), (tmp_path / "point/large").open("rb") as file:
        file.seek(5 << 20)
        assert file.read(100) == data[5 << 20 :][:100]
    site.etags = False
    with pytest.raises(CannotMountError, match=r"'web' does not tell one version of 'd/large' from the next"):
        RemoteMount(_files(web.remote, "d/large"), tmp_path / "point")


@contextmanager
def mounted(files: list[DatasetFile], point: Path) -> Iterator[RemoteMount]:
    mount = RemoteMount(files, point)
    try:
        yield mount
    finally:
        mount.close()


def _files(store: RemoteStore, path: str) -> list[DatasetFile]:
    spec = DatasetSpec(kind="file", sources=(DatastorePath(datastore=store.name, path=path),))
    return dataset_files(spec, lambda name: store)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
