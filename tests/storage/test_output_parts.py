"""An output of several machines: what they write apart becomes one, or says why it does not."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from airflow_mlpipe.errors import DigestMismatchError, ExecutionError, StorageError
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.datastore import LocalStore, documents_of, open_store
from airflow_mlpipe.storage.output_parts import describe_part, part_of, put_together, upload_part
from airflow_mlpipe.storage.outputs import verify_output

NUMBERS = itertools.count(1)


class Nodes:
    """Machines that write one output of a step run."""

    def __init__(self, folder: Path, store) -> None:
        self.folder, self.store = folder, store
        self.default = LocalStore("default", folder / "default")
        self.spec = OutputSpec(name="out", datastore=store.name)
        self.parts: dict[int, OutputRecord] = {}

    def place(self, node: int) -> Path:
        if isinstance(self.store, LocalStore):
            return part_of(self.store.path_of("azureml/run/out"), node)
        return self.folder / f"machine-{node}" / "out"

    def write(self, node: int, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.place(node) / name if name else self.place(node)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, node: int) -> None:
        part = describe_part(self.spec, "run", self.store, self.place(node), self.default)
        if part is not None:
            self.parts[node] = part
            upload_part(part, self.store, self.place(node))

    def join(self) -> OutputRecord:
        return put_together(self.spec, "run", self.parts, self.store, self.default)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def nodes(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "local":
        yield Nodes(tmp_path, LocalStore("store", tmp_path / "store"))
        return
    options = {"endpoint_url": request.getfixturevalue("s3_server"), "key": "id", "secret": "s"}
    store = open_store("lake", f"s3://parts-{os.getpid()}-{next(NUMBERS)}/team", options)
    store.create_container()
    yield Nodes(tmp_path, store)
    store.close()


def written(nodes: Nodes, *parts: dict[str, str]) -> Nodes:
    for node, files in enumerate(parts):
        nodes.write(node, files)
        nodes.commit(node)
    return nodes


def test_files_of_their_own_become_one_output(nodes: Nodes) -> None:
    written(nodes, {"a": "1", "deep/x": "0"}, {"b": "22", "deep/y": "1"}, {})
    made = nodes.join()
    assert (made.files, made.size_bytes, made.is_file, made.path) == (4, 5, False, "azureml/run/out")
    assert verify_output(made, nodes.store) is None
    assert documents_of(nodes.store).read_bytes("azureml/run/out/deep/y") == b"1"
    # Whoever was interrupted does it again.
    assert nodes.join() == made


def test_the_same_bytes_at_one_path_are_one_file(nodes: Nodes) -> None:
    made = written(nodes, {"same": "1"}, {"same": "1", "b": "2"}).join()
    assert made.files == 2
    assert verify_output(made, nodes.store) is None


def test_one_node_may_write_a_file_for_all(nodes: Nodes) -> None:
    nodes.write(1, {"": "model"})
    nodes.commit(0)
    nodes.commit(1)
    made = nodes.join()
    assert (made.is_file, made.size_bytes) == (True, 5)
    assert verify_output(made, nodes.store) is None


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"a": "1", "x/y": "1"}, {"x/y": "2"}, "nodes 0 and 1 wrote different bytes to 'x/y' of output 'out'; each"),
        ({"x": "1"}, {"x/y": "2"}, "wrote a file and a folder to 'x' of output 'out'"),
        ({"": "1"}, {"": "2"}, "nodes 0 and 1 wrote different bytes to output 'out'"),
        ({"": "1"}, {"a": "1"}, "nodes 0 and 1 wrote a file and a folder to output 'out'"),
    ],
)
def test_what_contradicts_itself_names_path_and_nodes(nodes: Nodes, first, second, said) -> None:
    with pytest.raises(ExecutionError, match=said):
        written(nodes, first, second).join()


@pytest.mark.parametrize("nodes", [pytest.param("s3", marks=pytest.mark.s3)], indirect=True)
def test_what_an_upload_that_was_cut_off_has_left_is_no_part_of_it(nodes: Nodes) -> None:
    written(nodes, {"a": "1"}, {"b": "2"})
    nodes.store.write_bytes("azureml/run/out/stray", b"x")
    made = nodes.join()
    assert made.files == 2
    assert not nodes.store.exists("azureml/run/out/stray")


def test_a_part_that_is_gone_is_found_out(nodes: Nodes) -> None:
    written(nodes, {"a": "1"}, {"b": "2"})
    if isinstance(nodes.store, LocalStore):
        (nodes.place(1) / "b").unlink()
    else:
        nodes.store.remove("azureml/run/out/b")
    with pytest.raises(DigestMismatchError, match="run/out/b is not what a node of the step has written; try again"):
        nodes.join()


def test_empty_folders_and_links_of_a_folder(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, LocalStore("store", tmp_path / "store"))
    nodes.write(0, {"a": "1"})
    (nodes.place(0) / "deep").mkdir()
    (nodes.place(0) / "empty").mkdir()
    (nodes.place(0) / "link").symlink_to("a")
    nodes.write(1, {"deep/x": "1"})
    nodes.commit(0)
    nodes.commit(1)
    made = nodes.join()
    assert verify_output(made, nodes.store) is None
    folder = nodes.store.path_of(made.path)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == sorted(
        ["a", "deep", "deep/x", "empty", "link"]
    )
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_an_output_that_is_a_link_is_refused(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, LocalStore("store", tmp_path / "store"))
    nodes.write(0, {"a": "1"})
    nodes.place(1).parent.mkdir(parents=True)
    nodes.place(1).symlink_to(nodes.place(0))
    with pytest.raises(StorageError, match="output 'out' is a link"):
        nodes.commit(1)
