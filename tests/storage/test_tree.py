"""Digests of trees: what counts, what does not, and when a file is read again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlpipe.errors import MissingDataError, StorageError
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.storage import hashing
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.ignore import IgnoreRules
from airflow_mlpipe.storage.manifests import read_manifest, write_manifest
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import manifest_of, scan_tree, tree_digest
from airflow_mlpipe.storage.walk import walk

LONG_AGO_NS = 1_500_000_000 * 10**9

NAMES = st.binary(min_size=1, max_size=12).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b".."))
TREES = st.dictionaries(
    st.tuples(NAMES, st.one_of(st.none(), NAMES)),
    st.one_of(st.none(), st.tuples(st.binary(max_size=40), st.booleans())),
    max_size=8,
)


def plant(root: Path, tree: dict, order: int = 1) -> None:
    """Make files (content, executable) and empty folders (None); a key is a folder and a name in it, or a name."""
    root.mkdir()
    for (first, second), content in list(tree.items())[::order]:
        folder = root if second is None else root / os.fsdecode(b"d-" + first)
        folder.mkdir(exist_ok=True)
        path = folder / os.fsdecode(b"f-" + (first if second is None else second))
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content[0])
            path.chmod(0o755 if content[1] else 0o644)


def entries(manifest) -> dict[str, str]:
    return {entry.path: entry.type for entry in manifest.entries}


def ticked() -> None:
    """Wait until files written before are no longer racy."""
    time.sleep(0.03)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the path of each file that is hashed."""
    seen: list[str] = []
    real = hashing.hash_record

    def spy(root, record):
        seen.append(record[0])
        return real(root, record)

    monkeypatch.setattr(hashing, "hash_record", spy)
    return seen


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_equal_trees_have_equal_digests_wherever_and_however_they_were_made(tree: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "one"), Path(folder, "two")
        plant(one, tree)
        plant(two, tree, order=-1)
        for path in two.rglob("*"):
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        manifest = scan_tree(one)
        with StatIndex(Path(folder, "index.db")) as index:
            for _ in range(2):
                summary = tree_digest(one, index)
                assert summary.digest == manifest.digest == scan_tree(two, index).digest
                assert summary.size_bytes == manifest.size_bytes
        assert [e.path for e in manifest.entries] == sorted(e.path for e in manifest.entries)
        store = LocalStore("store", Path(folder, "store"))
        write_manifest(manifest, store)
        assert read_manifest(manifest.digest, store) == manifest


@settings(max_examples=30, deadline=None)
@given(tree=TREES.filter(bool), data=st.data())
def test_any_difference_changes_the_digest(tree: dict, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(tree, key=repr)))
    content = tree[key]
    other = {**tree, key: (b"", False) if content is None else (content[0] + b"x", content[1])}
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder, "one"), tree)
        plant(Path(folder, "two"), other)
        assert scan_tree(Path(folder, "one")).digest != scan_tree(Path(folder, "two")).digest


def test_a_manifest_tells_files_programs_links_and_empty_folders_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "empty" / "inner").mkdir(parents=True)
    (root / "data.txt").write_text("12345")
    (root / "run.sh").write_text("")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("data.txt")
    manifest = scan_tree(root)
    assert entries(manifest) == {"data.txt": "file", "empty/inner": "dir", "link": "link", "run.sh": "exec"}
    assert manifest.entries[0].digest == digest_bytes(b"12345")
    assert next(e for e in manifest.entries if e.type == "link").digest == digest_bytes(b"data.txt")
    summary = tree_digest(root)
    assert (summary.files, summary.size_bytes, summary.is_file) == (2, 5, False)


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    assert entries(scan_tree(tmp_path / "a")) == {"": "file"}
    summary = tree_digest(tmp_path / "a")
    assert summary.is_file
    assert summary.digest == tree_digest(tmp_path / "b").digest != tree_digest(tmp_path).digest


@pytest.mark.parametrize("size", [0, 1, (1 << 20), (1 << 20) + 1, 3_000_001])
def test_large_files_have_the_digest_of_their_bytes(size: int, tmp_path: Path) -> None:
    data = os.urandom(1000) * (size // 1000) + b"z" * (size % 1000)
    for name in ("a", "b", "c"):
        (tmp_path / "r" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "r" / name).write_bytes(data)
    assert {entry.digest for entry in scan_tree(tmp_path / "r").entries} == {digest_bytes(data)}


def test_a_file_of_several_windows(tmp_path: Path) -> None:
    size = (64 << 20) + 5
    with (tmp_path / "f").open("wb") as file:
        file.truncate(size)
    assert scan_tree(tmp_path / "f").entries[0].digest == digest_bytes(bytes(size))


def test_a_large_file_that_became_shorter_since_the_walk_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(3 << 20))
    found = walk(tmp_path / "f")
    os.truncate(tmp_path / "f", 10)
    (content,) = hashing.hash_records(found.root, found.records)
    assert not content.stable and content.size_bytes == 10


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="nowhere"):
        scan_tree(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/below"):
        scan_tree(tmp_path / "file" / "below")


def test_names_left_out_at_the_root(tmp_path: Path) -> None:
    for path in ("keep/models", "models"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "f").write_text("")
    assert entries(scan_tree(tmp_path, exclude_top={"models"})) == {"keep/models/f": "file"}
    assert tree_digest(tmp_path, exclude_top={"models"}).digest != tree_digest(tmp_path).digest


def test_a_folder_with_hidden_files_only_is_no_entry_and_an_empty_one_is(tmp_path: Path) -> None:
    (tmp_path / "cache" / "__pycache__").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert entries(scan_tree(tmp_path, ignore=IgnoreRules(tmp_path))) == {"empty": "dir"}


class TestUnchanged:
    """Which files are read."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "root"
        (root / "sub").mkdir(parents=True)
        for name in ("a", "b", "sub/c"):
            (root / name).write_text(name * 3)
        ticked()
        return root

    def test_nothing_is_read_twice(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = reads(monkeypatch)
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(root, index)
            assert sorted(seen) == ["a", "b", "sub/c"]
            seen.clear()
            assert tree_digest(root, index) == first
            assert scan_tree(root, index).digest == first.digest
        with StatIndex(tmp_path / "i.db") as index:
            assert tree_digest(root, index) == first
        assert seen == []

    def test_only_the_changed_file_is_read(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = reads(monkeypatch)
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(root, index)
            (root / "b").write_text("new")
            ticked()
            seen.clear()
            assert tree_digest(root, index).digest == scan_tree(root).digest != first.digest
            assert seen.count("b") == 2 and seen.count("a") == 1  # each once by the scan without an index

    def test_a_touched_file_has_the_same_digest(self, root: Path, tmp_path: Path) -> None:
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(root, index)
            os.utime(root / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))
            assert tree_digest(root, index) == first

    @pytest.mark.parametrize("how", ["in place", "replaced"])
    def test_other_bytes_with_the_same_size_and_mtime_are_seen(self, how: str, root: Path, tmp_path: Path) -> None:
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(root, index)
            before = (root / "a").stat()
            target = root / "a" if how == "in place" else tmp_path / "new"
            target.write_text("AAA")
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
            target.replace(root / "a")
            after = (root / "a").stat()
            assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
            assert tree_digest(root, index).digest == scan_tree(root).digest != first.digest

    def test_a_racy_file_is_read_again(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = reads(monkeypatch)
        with StatIndex(tmp_path / "i.db") as index:
            # A time to come is never older than the scan.
            os.utime(root / "a", ns=(LONG_AGO_NS, time.time_ns() + 3_600 * 10**9))
            ticked()
            tree_digest(root, index)
            seen.clear()
            tree_digest(root, index)
            assert seen == ["a"]
            os.utime(root / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))
            seen.clear()
            tree_digest(root, index)
            assert seen == ["a"]  # Its change time is of this moment.
            ticked()
            tree_digest(root, index)
            seen.clear()
            tree_digest(root, index)
            assert seen == []

    def test_a_write_right_after_the_read_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with StatIndex(tmp_path / "i.db") as index:
            for number in range(200):
                path.write_bytes(b"%05d" % number)
                os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
                assert scan_tree(path, index).entries[0].digest == digest_bytes(b"%05d" % number)
                assert tree_digest(path, index).digest == scan_tree(path).digest

    @pytest.mark.parametrize("change", ["add", "remove", "rename", "exec", "empty folder", "link"])
    def test_every_kind_of_change_is_seen(self, change: str, root: Path, tmp_path: Path) -> None:
        (root / "link").symlink_to("a")
        ticked()
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(root, index)
            if change == "add":
                (root / "new").write_text("")
            elif change == "remove":
                (root / "a").unlink()
            elif change == "rename":
                (root / "a").rename(root / "z")
            elif change == "exec":
                (root / "a").chmod(0o755)
            elif change == "empty folder":
                (root / "d").mkdir()
            else:
                (root / "link").unlink()
                (root / "link").symlink_to("b")
            now = tree_digest(root, index)
            assert now.digest == scan_tree(root).digest != first.digest

    def test_a_root_that_becomes_a_file(self, root: Path, tmp_path: Path) -> None:
        with StatIndex(tmp_path / "i.db") as index:
            tree_digest(root, index)
            shutil.rmtree(root)
            root.write_text("x")
            assert tree_digest(root, index) == tree_digest(root)

    def test_a_switched_link_to_a_root(self, root: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        shutil.copytree(root, other)
        (other / "a").write_text("AAA")
        shutil.copystat(root / "a", other / "a")
        link = tmp_path / "link"
        link.symlink_to(root)
        with StatIndex(tmp_path / "i.db") as index:
            first = tree_digest(link, index)
            link.unlink()
            link.symlink_to(other)
            assert tree_digest(link, index).digest == tree_digest(other).digest != first.digest


class TestLinks:
    """Links stay inside, and nothing is read through them."""

    @pytest.mark.parametrize(
        "target",
        ["/etc/passwd", "/nowhere", "../secret", "sub/../../secret", "/etc", "../root/a", ".."],
    )
    def test_a_link_that_leaves_the_tree_is_an_error(self, target: str, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "sub").mkdir(parents=True)
        (root / "a").write_text("")
        (tmp_path / "secret").write_text("secret")
        (root / "bad").symlink_to(target)
        with StatIndex(tmp_path / "i.db") as index:
            for _ in range(2):
                with pytest.raises(StorageError, match="root/bad"):
                    tree_digest(root, index)

    def test_a_chain_that_leaves_the_tree_is_an_error(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (root / "one").symlink_to("two")
        (root / "two").symlink_to("/etc/passwd")
        with pytest.raises(StorageError, match="outside"):
            scan_tree(root)

    @pytest.mark.parametrize("target", ["self", "nowhere", "sub", "sub/f", "."])
    def test_a_link_inside_is_kept_with_its_text(self, target: str, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "f").write_text("")
        (root / "self").symlink_to(target)
        entry = next(e for e in scan_tree(root).entries if e.path == "self")
        assert (entry.type, entry.digest) == ("link", digest_bytes(target.encode()))

    def test_an_absolute_link_inside_does_not_tie_the_tree_to_its_place(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            root = tmp_path / name
            (root / "sub").mkdir(parents=True)
            (root / "f").write_text("")
            (root / "sub" / "link").symlink_to(root / "f")
        assert scan_tree(tmp_path / "one") == scan_tree(tmp_path / "two")
        entry = next(e for e in scan_tree(tmp_path / "one").entries if e.type == "link")
        assert entry.digest == digest_bytes(b"../f")

    def test_a_user_s_data_is_followed_inside_the_store(self, tmp_path: Path) -> None:
        for path in ("store/data/real", "store/shared"):
            (tmp_path / path).mkdir(parents=True)
        (tmp_path / "store/data/real/f").write_text("f")
        (tmp_path / "store/shared/g").write_text("g")
        plain = tmp_path / "plain"
        shutil.copytree(tmp_path / "store/data", plain)
        (plain / "all").mkdir()
        (plain / "all/g").write_text("g")
        (plain / "one").write_text("f")
        (tmp_path / "store/data/all").symlink_to("../shared")
        (tmp_path / "store/data/one").symlink_to(tmp_path / "store/data/real/f")
        store, data = tmp_path / "store", tmp_path / "store/data"
        ticked()
        with StatIndex(tmp_path / "i.db") as index:
            for _ in range(2):
                assert tree_digest(data, index, follow_within=store).digest == scan_tree(plain).digest
            (tmp_path / "store/shared/g").write_text("G")
            changed = tree_digest(data, index, follow_within=store)
            assert changed.digest == tree_digest(data, follow_within=store).digest != scan_tree(plain).digest

    def test_a_user_s_link_out_of_the_store_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store-2").mkdir()
        (tmp_path / "store" / "bad").symlink_to(tmp_path / "store-2")
        with pytest.raises(StorageError, match="store/bad"):
            tree_digest(tmp_path / "store", follow_within=tmp_path / "store")

    def test_loops_end(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "up").symlink_to("..")
        (tmp_path / "x").symlink_to("y")
        (tmp_path / "y").symlink_to("x")
        expected = {"a/b/up": "link", "x": "link", "y": "link"}
        assert entries(scan_tree(tmp_path, follow_within=tmp_path)) == expected
        assert entries(scan_tree(tmp_path)) == expected

    def test_a_file_that_becomes_a_link_after_the_walk_is_not_read(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "d").mkdir(parents=True)
        (root / "d/f").write_text("mine")
        (tmp_path / "d").mkdir()
        (tmp_path / "d/f").write_text("secret")
        found = walk(root)
        shutil.rmtree(root / "d")
        (root / "d").symlink_to(tmp_path / "d")
        with pytest.raises(StorageError, match="replaced while"):
            manifest_of(found, "v", None)


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_file_is_an_error(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # A socket's address is short.
    Path("root").mkdir()
    if kind == "fifo":
        os.mkfifo("root/bad")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("root/bad")
    with pytest.raises(StorageError, match="root/bad.*device, socket or pipe"):
        scan_tree(Path("root"))
    with pytest.raises(StorageError, match="device, socket or pipe"):
        scan_tree(Path("root/bad"))


def test_deep_trees(tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", "for i in $(seq 300); do mkdir d; cd d; done; echo x > f"], cwd=tmp_path, check=True)
    assert list(entries(scan_tree(tmp_path))) == ["d/" * 300 + "f"]
