"""What a step's script has of its run and its datasets: the same in a process, a container and a pod."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compute_site import TARGET, ComputeSite, sites_by_kind
from engine_site import eventually

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import StepFailedError
from airflow_mlpipe.model.data import DatasetSpec, DatasetView, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.operation import Skip
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.tree import scan_tree

DOCKER = pytest.param("docker", marks=pytest.mark.docker)
KUBERNETES = pytest.param("kubernetes", marks=[pytest.mark.docker, pytest.mark.k8s])
DEFERRED = pytest.param("deferred", marks=[pytest.mark.docker, pytest.mark.k8s])
IN_IMAGES = pytest.mark.parametrize("place", [DOCKER, KUBERNETES], indirect=True)

pytestmark = pytest.mark.airflow

DATA = ("data/a.txt", "data/b.txt", "data/deep/c.txt", "data/d.csv", "top.txt", "other.txt", "runs/secret.txt")

HEAD = """
import io, json, sys
from pathlib import Path
from airflow_mlpipe import Dataset, Model, Run, Workspace

out = Path(sys.argv[1])
run = Run.get_context()
"""


@pytest.fixture(scope="module")
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """The workspaces of this module by kind; steps run in an image with our light core."""

    def prepare(site: ComputeSite) -> None:
        if site.kind == "docker":
            site.give(image=request.getfixturevalue("mlpipe_image"))
        elif site.kind != "local":
            site.give(image=request.getfixturevalue("session_cluster").image("mlpipe"))
        fill(site)

    with sites_by_kind(request, tmp_path_factory, prepare) as site_of:
        yield site_of


@pytest.fixture(params=["local", DOCKER, KUBERNETES, DEFERRED])
def place(request: pytest.FixtureRequest, sites) -> Iterator[ComputeSite]:
    """A workspace whose steps run by one kind of compute, of which nothing may be left."""
    site = sites(request.param)
    yield site
    eventually(lambda: site.left() == [], 30)


def fill(site: ComputeSite) -> None:
    """The data that the steps read, the same in each workspace: files of one datastore are shown, of one copied."""
    second = site.dir / "stores" / "second"
    site.catalog.put_datastore(DatastoreRow(name="second", url=second.as_uri()))
    for store, name in itertools.product((stored(site), second), DATA):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text(name)


def files(*paths: str, store: str = "store", **fields) -> DatasetSpec:
    return DatasetSpec(kind="file", sources=tuple(DatastorePath(datastore=store, path=p) for p in paths), **fields)


def stored(site: ComputeSite) -> Path:
    """The datastore's folder."""
    return site.dir / "stores" / "store"


def direct(name: str, source, **fields) -> InputSpec:
    return InputSpec(name=name, source=source, mode="direct", as_dataset=True, label=f"the data {name}", **fields)


def script(text: str, *inputs: InputSpec, step_id: str = "a", **fields) -> StepSpec:
    """A step that runs Python; its first argument is its output, then come its inputs."""
    words = [Argument(kind="literal", value=word) for word in ("python", "-c", HEAD + text)]
    read = [Argument(kind="input", value=port.name) for port in inputs]
    return StepSpec(
        id=step_id,
        name=step_id,
        kind="command",
        arguments=(*words, Argument(kind="output", value="out"), *read),
        inputs=inputs,
        outputs=(OutputSpec(name="out", datastore="store"),),
        compute=TARGET,
        **fields,
    )


READ = """
told = {}
for name, data in run.input_datasets.items():
    copies = data.download()
    with data.mount() as place:
        point = Path(place.mount_point)
        mounted = sorted(str(path.relative_to(point)) for path in point.rglob("*") if path.is_file())
    same = Dataset.get_by_id(run.experiment.workspace, id=sys.argv[2 + list(run.input_datasets).index(name)])
    told[name] = [data.to_path(), [Path(copy).read_text() for copy in copies], mounted, same.to_path(),
        data.skip(1).to_path(), data.filter(data.file_metadata("Size") > 9).to_path(), data.name]
out.write_text(json.dumps(told))
"""


def test_direct_datasets_are_read_alike(place: ComputeSite, sites) -> None:
    ports = (
        direct("folder", files("data"), dataset_id="id-1"),
        direct("pattern", files("data/*.txt")),
        direct("several", files("data/a.txt", "data/deep")),
        direct("root", files("*.txt", store="second")),
        direct("chosen", files("*.txt", "data/*.txt", store="second", operations=(Skip(kind="skip", count=2),))),
    )
    step = script(READ, *ports)
    row = place.go(step)
    told = json.loads(place.made().read_text())
    everything = ["a.txt", "b.txt", "d.csv", "deep/c.txt"]
    assert told["folder"] == [
        [f"/{name}" for name in everything],
        [f"data/{name}" for name in everything],
        everything,
        [f"/{name}" for name in everything],
        ["/b.txt", "/d.csv", "/deep/c.txt"],
        ["/a.txt", "/b.txt", "/d.csv", "/deep/c.txt"],
        "folder",
    ]
    assert [told[name][0] for name in ("pattern", "several", "root")] == [
        ["/a.txt", "/b.txt"],
        ["/a.txt", "/deep/c.txt"],
        ["/other.txt", "/top.txt"],
    ]
    assert told["chosen"][:2] == [["/data/a.txt", "/data/b.txt"], ["data/a.txt", "data/b.txt"]]
    here = sites("local")
    if here is not place:
        here.go(step)
        assert json.loads(here.made().read_text()) == told
        assert here.row().fingerprint == row.fingerprint


def test_an_output_that_is_read_as_a_dataset(place: ComputeSite) -> None:
    maker = script(
        "out.mkdir(); Path(out, 'a.txt').write_text('made'); Path(out, 'b.csv').write_text('')", step_id="make"
    )
    port = direct("made", StepOutputRef(step="make", output="out"), view=DatasetView(kind="file", glob="**/*.txt"))
    reader = script(
        "data = run.input_datasets['made']\n"
        "beside = sorted(path.name for path in Path(sys.argv[2]).iterdir())\n"
        "told = [data.to_path(), Path(data.download()[0]).read_text(), beside]\n"
        "out.write_text(json.dumps(told))",
        port,
        step_id="read",
    )
    run_id = place.begin(maker, reader)
    place.go(maker, run_id)
    place.go(reader, run_id)
    assert json.loads(place.made("read").read_text()) == [["/a.txt"], "made", ["a.txt", "b.csv"]]


def test_the_workspace_has_its_name_and_the_run_its_place(place: ComputeSite) -> None:
    text = """
ws = run.experiment.workspace
same = Workspace.from_config()
out.write_text(json.dumps([ws.name, ws.id, same == ws, run.experiment.name, run.parent.id, run.parent.name,
    run.parent.experiment.workspace.name, run.name, run.status, run.get_details()["runId"]]))
"""
    row = place.go(script(text))
    config = json.loads((place.dir / "config.json").read_text())
    assert json.loads(place.made().read_text()) == [
        "w", config["id"], True, "e", row.run_id, "p", "w", "a", "Running", row.step_run_id
    ]  # fmt: skip


KEEP = """
class Plot:
    def savefig(self, file): file.write(b"png")

run.log("a", 1); run.log_list("list", [1, 2]); run.log_row("row", x=1); run.log_table("table", {"x": [1]})
run.log_image("plot", plot=Plot())
run.tag("t", "1"); run.set_tags({"u": 2}); run.add_properties({"p": 3})
run.parent.log("pm", 1); run.parent.tag("pt", 1)
Path("outputs/kept.txt").write_text("kept"); Path("d/deep").mkdir(parents=True); Path("d/deep/x.txt").write_text("x")
Path("outputs/same.txt").write_text("the folder's")
run.upload_file("outputs/same.txt", io.BytesIO(b"uploaded")); run.upload_file("up.txt", "d/deep/x.txt")
run.upload_folder("up", "d"); run.parent.upload_file("report.txt", "d/deep/x.txt")
run.download_file("up.txt", "again.txt")
before = [run.get_file_names(), run.get_metrics(), run.tags, Path("again.txt").read_text()]
models = [
    run.register_model("of-outputs", "outputs/kept.txt", tags={"a": 1}, model_framework="Custom", description="d"),
    run.register_model("of-uploads", "up"),
    Model.register(run.experiment.workspace, "d", "of-folder", properties={"q": 2}),
    Model.register(run.experiment.workspace, model_path="d/deep/x.txt", model_name="of-folder"),
    run.parent.register_model("of-parent", "report.txt"),
]
Path("d/deep/x.txt").write_text("changed since")
held = [Path(m.download(f"held-{i}-{m.name}")).name for i, m in enumerate(models)]
out.write_text(json.dumps([before, [m.name for m in models], held]))
"""


def test_what_a_step_keeps_and_registers_arrives(place: ComputeSite) -> None:
    row = place.go(script(KEEP))
    (files, metrics, tags, again), names, held = json.loads(place.made().read_text())
    assert files == ["outputs/same.txt", "plot.png", "up.txt", "up/deep/x.txt"]
    assert metrics == {"a": 1, "list": [1, 2], "row": {"x": [1]}, "table": {"x": [1]}, "plot": "plot.png"}
    assert (tags, again) == ({"t": "1", "u": "2"}, "x")
    assert names == ["of-outputs", "of-uploads", "of-folder", "of-folder", "of-parent"]
    assert held == ["kept.txt", "up", "d", "x.txt", "report.txt"]
    result = place.catalog.get_result(row.result_id)
    kept = {file.name: (stored(place) / file.path).read_text() for file in result.written.files}
    uploads = {"outputs/same.txt": "uploaded", "plot.png": "png", "up.txt": "x", "up/deep/x.txt": "x"}
    assert {name: text for name, text in kept.items() if not name.startswith("logs/")} == {
        "outputs/kept.txt": "kept",
        **uploads,
    }
    written = place.catalog.written_of(row.run_id)
    (report,) = written.files
    assert (written.tags, report.name, (stored(place) / report.path).read_text()) == ({"pt": "1"}, "report.txt", "x")
    models = {(model.name, model.version): model for model in place.catalog.list_models(run_id=row.step_run_id)}
    assert sorted(models) == [("of-folder", 1), ("of-folder", 2), ("of-outputs", 1), ("of-uploads", 1)]
    bytes_of = {key: stored(place) / model.path for key, model in models.items()}
    assert [bytes_of["of-outputs", 1].read_text(), bytes_of["of-folder", 2].read_text()] == ["kept", "x"]
    assert (bytes_of["of-uploads", 1] / "deep/x.txt").read_text() == "x"
    assert (bytes_of["of-folder", 1] / "deep/x.txt").read_text() == "x"
    first = models["of-outputs", 1]
    told = (first.tags, first.framework, first.description, first.digest)
    assert told == ({"a": "1"}, "Custom", "d", scan_tree(bytes_of["of-outputs", 1]).digest)
    assert place.catalog.get_model("of-parent").run_id == row.run_id
    laid = stored(place) / "runs" / row.step_run_id / "models"
    assert not [path for path in laid.rglob("*") if path.is_file()]


@IN_IMAGES
def test_a_step_that_fails_keeps_its_files_and_registers_nothing(place: ComputeSite) -> None:
    text = """
Path("m.txt").write_text("m")
Model.register(run.experiment.workspace, "m.txt", "never")
run.upload_file("why.txt", "m.txt")
sys.exit(3)
"""
    with pytest.raises(StepFailedError):
        place.go(script(text))
    assert place.catalog.list_models(name="never") == []
    assert place.kept("why.txt") == "m"


REFUSED = {
    "Dataset.get_by_name(ws, 'd')": ("Dataset.get_by_name", "dataset.as_named_input('name')"),
    "ws.datasets['d']": ("a dictionary of the workspace", "dataset.as_named_input('name')"),
    "Dataset.get_by_id(ws, 'other')": ("Dataset.get_by_id", "dataset.as_named_input('name')"),
    "ws.get_default_datastore()": ("Workspace.get_default_datastore", "OutputFileDatasetConfig(destination="),
    "ws.datastores['store']": ("a dictionary of the workspace", "OutputFileDatasetConfig(destination="),
    "Model(ws, 'net')": ("Model", "download it to an output"),
    "Model.get_model_path('net')": ("Model.get_model_path", "download it to an output"),
    "run.input_datasets['x'].register(ws, 'd')": ("AbstractDataset.register", "register_on_complete('name')"),
    "run.parent.get_metrics()": ("Run.get_metrics", "after the run"),
    "run.parent.cancel()": ("PipelineRun.cancel", "in a step on the worker's machine"),
    "ws.engine": ("Workspace.engine", "in a step on the worker's machine"),
}


@IN_IMAGES
def test_what_needs_the_catalog_is_refused_with_what_to_do_instead(place: ComputeSite) -> None:
    text = f"""
from airflow_mlpipe.errors import MlpipeError
ws = run.experiment.workspace
told = {{}}
for line in {list(REFUSED)!r}:
    try:
        eval(line)
    except MlpipeError as error:
        told[line] = [type(error).__name__, str(error)]
out.write_text(json.dumps(told))
"""
    place.go(script(text, direct("x", files("data"))))
    told = json.loads(place.made().read_text())
    assert list(told) == list(REFUSED)
    for line, (called, instead) in REFUSED.items():
        kind, message = told[line]
        assert kind == "UnreachableError"
        assert message.startswith(f"{called} cannot be had in step 'a', which runs in a container")
        assert instead in message
        assert "\n" not in message
