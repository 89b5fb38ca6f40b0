from __future__ import annotations

import os
import stat
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_mlpipe import DataPath, Dataset, Datastore, FileDataset, Workspace
from airflow_mlpipe.errors import MissingDataError, MlpipeError, NotSupportedError, ParameterError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.sdk import dataset_paths
from airflow_mlpipe.storage.datastore import LocalStore


@pytest.fixture
def store(workspace):
    store = workspace.get_default_datastore()
    for number in range(20):
        store._store.write_bytes(f"in/{number % 2}/f{number:02}.txt", b"x" * number)
    return store


@pytest.fixture
def files(store):
    return Dataset.File.from_files((store, "in"))


class TestOperations:
    def test_take_and_skip(self, files):
        assert files.take(2).to_path() == ["/0/f00.txt", "/0/f02.txt"]
        assert files.skip(18).to_path() == ["/1/f17.txt", "/1/f19.txt"]
        assert files.skip(1).take(1).to_path() == ["/0/f02.txt"]
        assert files.take(0).to_path() == []

    def test_random_split_parts_the_files(self, files):
        one, other = files.random_split(0.3, seed=7)
        assert sorted(one.to_path() + other.to_path()) == files.to_path()
        assert 0 < len(one.to_path()) < len(other.to_path())
        assert files.random_split(0.3, seed=7)[0].to_path() == one.to_path()
        assert files.random_split(0.3, seed=8)[0].to_path() != one.to_path()

    def test_without_a_seed_the_definition_is_stable(self, files, store):
        one, other = files.random_split(0.5)
        again = Dataset.File.from_files((store, "in")).random_split(0.5)
        assert (again[0].spec, again[1].spec) == (one.spec, other.spec)
        assert one.spec.operations[0].seed == other.spec.operations[0].seed
        assert files.take_sample(0.5).spec.operations[0].seed != one.spec.operations[0].seed
        assert one.take_sample(0.5).spec.operations[1].seed != files.take_sample(0.5).spec.operations[0].seed

    def test_take_sample(self, files):
        assert files.take_sample(0).to_path() == []
        assert files.take_sample(1).to_path() == files.to_path()
        assert 0 < len(files.take_sample(0.5, seed=1).to_path()) < 20

    def test_filter(self, files, store):
        assert files.filter(files.file_metadata("Size") >= 18).to_path() == ["/0/f18.txt", "/1/f19.txt"]
        name = files.file_metadata("StreamName")
        assert files.filter(name.ends_with("f07.txt")).to_path() == ["/1/f07.txt"]
        parted = Dataset.File.from_files((store, "in"), partition_format="{group}/{name}.txt")
        assert len(parted.filter(parted["group"] == "1").to_path()) == 10
        with pytest.raises(ParameterError, match=r"file_metadata\('size'\) is not known.*did you mean 'Size'"):
            files.file_metadata("size")
        with pytest.raises(ParameterError, match="column 'group' does not exist"):
            files.filter(files["group"] == "1").to_path()

    @pytest.mark.parametrize(
        ("name", "arguments", "what"),
        [
            ("take", (-1,), "from 0"), ("take", ("3",), "from 0"), ("skip", (True,), "from 0"),
            ("take_sample", (1.5,), "from 0 to 1"), ("random_split", (None,), "from 0 to 1"),
            ("random_split", (0.5, -1), "seed=-1"), ("random_split", (0.5, 1.5), "seed=1.5"),
            ("take_sample", (0.5, "1"), "seed='1'"), ("filter", ("x > 1",), "give a condition"),
        ],
    )  # fmt: skip
    def test_refusals(self, files, name, arguments, what):
        with pytest.raises(ParameterError, match=f"{name}.*{what}"):
            getattr(files, name)(*arguments)

    def test_they_name_themselves(self, files, workspace):
        registered = files.register(workspace, "d")
        assert registered.take(1).skip(1).label == "dataset d v1 (take, skip)"
        assert files.take(1).label == "workspaceblobstore:/in (take)"
        assert (registered.take(1).id, registered.take(1).version) == (None, None)
        with pytest.raises(AttributeError, match="is a FileDataset and has no columns"):
            files.to_pandas_dataframe()


class TestMount:
    def test_files_are_there_for_the_time(self, files, store):
        with files.mount() as mount:
            point = Path(mount.mount_point)
            assert sorted(f"/{path.relative_to(point)}" for path in point.rglob("*.txt")) == files.to_path()
            assert (point / "0/f02.txt").read_bytes() == b"xx"
            assert (point / "0/f02.txt").resolve() == Path(store._store.path_of("in/0/f02.txt"))
            assert [stat.S_IMODE(path.stat().st_mode) for path in (point, point / "0")] == [0o555, 0o555]
        assert not point.exists()
        assert store._store.path_of("in/0/f02.txt").exists()

    def test_start_and_stop(self, files, tmp_path):
        mount = files.take(1).mount(tmp_path / "here")
        assert mount.mount_point == str(tmp_path / "here")
        assert not (tmp_path / "here").exists()
        mount.start()
        mount.start()
        assert os.listdir(tmp_path / "here" / "0") == ["f00.txt"]  # noqa: PTH208
        mount.stop()
        mount.stop()
        assert not (tmp_path / "here").exists()

    def test_a_taken_mount_point(self, files, tmp_path):
        (tmp_path / "x").touch()
        for place in (tmp_path, tmp_path / "x"):
            with pytest.raises(ParameterError, match="is not an empty folder"):
                files.mount(place)

    def test_nothing_to_mount(self, store):
        with pytest.raises(MissingDataError, match="nothing matches 'in/..png' in datastore"):
            Dataset.File.from_files((store, "in/*.png")).mount()


class TestDownload:
    def test_several_datastores(self, workspace, store, tmp_path):
        other = Datastore(workspace, "workspacefilestore")
        other._store.write_bytes("b.txt", b"b")
        both = Dataset.File.from_files([(store, "in/0/f00.txt"), (other, "b.txt")])
        assert both.to_path() == ["/workspaceblobstore/f00.txt", "/workspacefilestore/b.txt"]
        both.download(tmp_path / "out")
        assert (tmp_path / "out/workspacefilestore/b.txt").read_text() == "b"

    def test_what_is_gone(self, store, tmp_path):
        gone = Dataset.File.from_files((store, "gone"))
        with pytest.raises(MissingDataError, match="there is no 'gone'"):
            gone.download(tmp_path)
        assert gone.download(tmp_path, ignore_not_found=True) == []

    def test_a_file_that_changes_meanwhile(self, store, tmp_path, monkeypatch):
        path = store._store.path_of("in/0/f02.txt")

        def copy(source, target):
            Path(target).write_bytes(Path(source).read_bytes())
            path.write_bytes(b"longer")

        monkeypatch.setattr("shutil.copyfile", copy)
        with pytest.raises(StorageError, match="f02.txt' changed while it was read; try again"):
            Dataset.File.from_files((store, "in/0/f02.txt")).download(tmp_path / "out")


class TestUploadDirectory:
    def test_upload(self, store, tmp_path):
        for name in ("src/a.csv", "src/sub/b.csv", "src/sub/c.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        made = Dataset.File.upload_directory(tmp_path / "src", (store, "up"), show_progress=False)
        assert type(made) is FileDataset
        assert made.to_path() == ["/a.csv", "/sub/b.csv", "/sub/c.txt"]
        some = Dataset.File.upload_directory(
            tmp_path / "src", DataPath(store, "some"), pattern="**/*.csv", show_progress=False
        )
        assert some.to_path() == ["/a.csv", "/sub/b.csv"]

    def test_refusals(self, store, tmp_path):
        with pytest.raises(MissingDataError, match="does not exist or is not a folder"):
            Dataset.File.upload_directory(tmp_path / "none", (store, "up"))
        (tmp_path / "src").mkdir()
        with pytest.raises(MissingDataError, match="no file that matches '..csv'"):
            Dataset.File.upload_directory(tmp_path / "src", (store, "up"), pattern="*.csv")
        with pytest.raises(ParameterError, match=r"target 'up' is not allowed; give a Datastore, or \(datastore"):
            Dataset.File.upload_directory(tmp_path / "src", "up")


class TestWeb:
    """The addresses themselves; the store that reads them is another part."""

    @pytest.fixture(autouse=True)
    def web(self, monkeypatch, tmp_path):
        """A store for every server, so that what is made of an address can be seen."""
        opened = {}

        def open_store(name, url, options, *_):
            opened[name] = (url, dict(options))
            return LocalStore(name, tmp_path / "web")

        monkeypatch.setattr("airflow_mlpipe.storage.datastore.open_store", open_store)
        return opened

    @pytest.mark.parametrize(
        ("address", "server", "path"),
        [
            ("https://x.org/demo/Titanic.csv", "https://x.org", "demo/Titanic.csv"),
            ("http://x.org:8080/a/../b.csv?raw=true", "http://x.org:8080", "b.csv?raw=true"),
            ("https://x.org/a%20b.csv", "https://x.org", "a%20b.csv"),
        ],
    )
    def test_an_address_is_a_path_on_its_server(self, web, address, server, path):
        for made in (Dataset.File.from_files(address), Dataset.Tabular.from_delimited_files(path=address)):
            assert made.spec.sources == (DatastorePath(datastore=server, path=path),)
        assert web == {server: (server, {})}

    def test_its_store_is_opened_by_its_address(self, workspace, web, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        made = Dataset.File.from_files("https://x.org/demo/a.csv")
        LocalStore("web", tmp_path / "web").write_bytes("demo/a.csv", b"n\n1\n")
        assert made.to_path() == ["/a.csv"]
        assert made.workspace == workspace
        registered = made.register(workspace, "web")
        assert Dataset.get_by_name(workspace, "web").spec == registered.spec
        assert registered.as_named_input("x").binding().stores == ()

    def test_beside_files_of_datastores(self, store):
        made = Dataset.File.from_files([(store, "in"), "https://x.org/a.csv"])
        assert [source.datastore for source in made.spec.sources] == ["workspaceblobstore", "https://x.org"]

    @pytest.mark.parametrize(
        ("address", "what"),
        [
            ("https://user:secret@x.org/a.csv", "a user name or password"),
            ("https://x.org/a.csv?sv=1&sig=secret", "the parameter 'sig'"),
            ("https://x.org/a.csv?X-Amz-Signature=secret", "the parameter 'X-Amz-Signature'"),
            ("ftp://x.org/a.csv", "allowed are https://HOST/PATH"),
            ("https:///a.csv", "allowed are https://HOST/PATH"),
        ],
    )
    def test_refusals(self, address, what):
        with pytest.raises(ParameterError, match=what) as caught:
            Dataset.File.from_files(address)
        assert "secret" not in caught.value.message


def test_without_a_store_for_the_web_it_is_refused(monkeypatch):
    def open_store(name, url, options, *_):
        raise NotSupportedError("scheme 'https' is not supported")

    monkeypatch.setattr("airflow_mlpipe.storage.datastore.open_store", open_store)
    with pytest.raises(NotSupportedError, match="is a web address, which this version does not read; download it"):
        dataset_paths.sources_of("https://x.org/a.csv", "from_files")


def test_partition_format_must_be_one(store):
    with pytest.raises(ParameterError, match="partition_format '{a' is not allowed"):
        Dataset.File.from_files((store, "in"), partition_format="{a")


def test_a_dataset_is_no_sequence(files):
    with pytest.raises(TypeError):
        iter(files)
    assert files.data_changed_time is not None
    assert isinstance(files.spec, DatasetSpec)


class TestWebReading:
    """An address, read through the store of its server; a small server on 127.0.0.1 stands for the web."""

    @pytest.fixture(autouse=True)
    def opened(self, monkeypatch):
        """The workspaces that are found through a folder, for their stores to be closed."""
        found = []
        of = Workspace._of.__func__

        def noted(cls, *args):
            found.append(of(cls, *args))
            return found[-1]

        monkeypatch.setattr(Workspace, "_of", classmethod(noted))
        yield
        for each in found:
            for name, store in each._stores.items():
                if name.startswith("http"):
                    store.close()

    @pytest.fixture
    def address(self, tmp_path):
        folder = tmp_path / "www"
        folder.mkdir()
        (folder / "a.csv").write_text("n,s\n1,x\n2,y\n")
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        handler.func.log_message = lambda *args: None
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        thread.join()

    def test_a_private_address_is_refused(self, opened, workspace, address, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(MlpipeError, match="leads to 127.0.0.1, which is not a public address"):
            Dataset.File.from_files(f"{address}/a.csv").to_path()

    def test_a_public_one_is_read_and_registered(self, opened, workspace, address, tmp_path, monkeypatch):
        pytest.importorskip("pandas")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("airflow_mlpipe.storage.addresses.is_public", lambda address: True)
        table = Dataset.Tabular.from_delimited_files(f"{address}/a.csv?raw=1")
        assert table.to_pandas_dataframe()["n"].tolist() == [1, 2]
        assert Dataset.File.from_files(f"{address}/a.csv").download(tmp_path / "out") == [str(tmp_path / "out/a.csv")]
        first = table.register(workspace, "web")
        assert first.content() == table.content()
        (tmp_path / "www/a.csv").write_text("n,s\n1,x\n2,y\n3,z\n")
        assert table.register(workspace, "web", create_new_version=True).version == 2
        with pytest.raises(MlpipeError, match="b.csv.* is no file, and the web lists no folders"):
            Dataset.File.from_files(f"{address}/b.csv").to_path()
