"""The two ends of a pod, run as processes of this machine: what staging lays out, and what collecting leaves."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.errors import ConfigError, MissingDataError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.command import command
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput
from airflow_mlpipe.execution.pod.__main__ import OWN
from airflow_mlpipe.execution.pod.collecting import read_answer
from airflow_mlpipe.execution.pod.making import Reach, hand_over, make_order
from airflow_mlpipe.execution.pod.order import VARIABLE, PodAnswer
from airflow_mlpipe.execution.references import release
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.software import IMAGE
from airflow_mlpipe.execution.variables import variables
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.content import source_digest
from airflow_mlpipe.storage.datastore import documents_of, open_store

BLOB = "workspaceblobstore"
SECRET = "s3cr3t-of-the-lake"
NUMBERS = itertools.count(1)
WRITE = "import sys; open(sys.argv[1], 'w').write('made'); print('printed')"


class Pod:
    """One pod without a cluster: its folders are here, its containers are processes one after another."""

    def __init__(self, bench, **reach) -> None:
        self.bench = bench
        self.rows = {name: DatastoreRow(name=name, url=store.url) for name, store in bench.stores.items()}
        self.default = documents_of(bench.blob)
        self.secrets: dict[str, str] = {}
        self.lent: tuple[str, ...] = ()
        root, own = bench.root / "pod", bench.root / "own"
        own.mkdir(parents=True)
        self.reach = Reach(**{"target": "cluster", "volume": True, "root": root, "own": own, **reach})

    @property
    def site(self) -> Site:
        catalog = SimpleNamespace(get_datastore=self.rows.__getitem__, former_defaults=list)
        return Site(
            catalog=catalog,
            store=self.bench.stores.__getitem__,
            default=self.default,
            index=self.bench.index,
            content=self.bench.content,
            credentials=lambda name: dict(self.secrets) if name == "lake" else {},
            lent=self.lent,
        )

    def order(self, step: StepSpec, records=()) -> None:
        records = dict(records)
        inputs = {
            port.name: StagedInput(records[port.name].digest, records[port.name])
            if port.name in records
            else StagedInput(self.bench.content(port.source))
            for port in step.inputs
        }
        run = RunIdentity(
            run_id="run-1",
            step_run_id="step-run-1",
            experiment="exp",
            pipeline="pipe",
            workspace=self.bench.workspace,
            parameters={},
        )
        self.document = make_order(Order(step=step, run=run, inputs=inputs), self.site, self.reach)
        self.place = hand_over(self.document, self.site)

    def env(self) -> dict[str, str]:
        names = ("PATH", "HOME", "PYTHONPATH")
        given = {name: os.environ[name] for name in names if name in os.environ}
        prefix = "MLPIPE_DATASTORE_LAKE_"
        secrets = (
            {f"{prefix}{name.upper()}": value for name, value in self.secrets.items()} if self.reach.identity else {}
        )
        return {**given, **secrets, VARIABLE: self.place.model_dump_json(), OWN: str(self.reach.own)}

    def program(self, what: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow_mlpipe.execution.pod", what],
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stage(self) -> subprocess.CompletedProcess[str]:
        self.collector = self.program("collect")
        process = self.program("stage")
        out, _ = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, out)

    def main(self) -> subprocess.CompletedProcess[str]:
        """The step's own container."""
        document = self.document
        env = variables(document.step, document.context, Path(document.work) / "context.json", IMAGE)
        argv = command(document.step, document.context, "", IMAGE)
        argv = [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
        env["PATH"] = os.environ["PATH"]
        return subprocess.run(argv, env=env, cwd=f"{document.work}/code", capture_output=True, text=True, timeout=60)

    def collect(self) -> PodAnswer:
        self.collector.send_signal(signal.SIGTERM)
        self.printed, _ = self.collector.communicate(timeout=60)
        return read_answer(self.place, self.default)

    def run(self, step: StepSpec, records=()) -> PodAnswer:
        self.order(step, records)
        staged = self.stage()
        assert staged.returncode == 0, staged.stdout
        self.ended = self.main()
        return self.collect()

    def close(self) -> None:
        if hasattr(self, "collector"):
            self.collector.kill()
            self.collector.wait()
            self.collector.stdout.close()


@pytest.fixture
def made(bench):
    pods = []

    def make(**reach) -> Pod:
        pods.append(Pod(bench, **reach))
        return pods[-1]

    yield make
    for pod in pods:
        pod.close()


def writing(bench, script: str = WRITE, **fields) -> StepSpec:
    return bench.python(script, outputs=(OutputSpec(name="out", datastore=BLOB),), **fields)


def test_a_step_runs_between_the_two_ends(bench, made):
    pod = made()
    answer = pod.run(writing(bench, "open('outputs/note.txt', 'w').write('n'); " + WRITE))
    assert pod.ended.stdout == "printed\n"
    assert answer.whole
    assert answer.error is None
    (output,) = answer.outputs
    assert bench.blob.read_bytes(output.path) == b"made"
    (file,) = answer.written.files
    assert (file.name, bench.blob.read_bytes(file.path)) == ("outputs/note.txt", b"n")


def test_inputs_lie_where_the_worker_has_said_before(bench, made):
    record = bench.record({"a.txt": "1", "deep/b.txt": "2"})
    bench.put("raw/one.txt", "one")
    bench.put("raw/two.txt", "two")
    where = "import json, os, sys; print(json.dumps([[p, sorted(os.listdir(p)) if os.path.isdir(p) else open(p).read()]"
    step = bench.python(
        f"{where} for p in sys.argv[1:]]))",
        inputs=(
            InputSpec(name="made", source=StepOutputRef(step="a", output="out")),
            InputSpec(name="copy", source=StepOutputRef(step="a", output="out"), mode="download"),
            InputSpec(name="file", source=DatasetSpec(kind="file", sources=(at("raw/one.txt"),)), mode="download"),
            InputSpec(name="both", source=DatasetSpec(kind="file", sources=(at("raw/one.txt"), at("raw/two.txt")))),
            InputSpec(name="here", source=DatasetSpec(kind="file", sources=(at("raw"),)), path_on_compute="data/in"),
        ),
        arguments=tuple(Argument(kind="input", value=name) for name in ("made", "copy", "file", "both", "here")),
    )
    pod = made()
    pod.run(step, {"made": record, "copy": record})
    seen = json.loads(pod.ended.stdout)
    work = pod.reach.root / "try"
    assert seen == [
        [str(bench.blob.path_of(record.path)), ["a.txt", "deep"]],
        [str(work / "inputs/copy"), ["a.txt", "deep"]],
        [str(work / "inputs/file/one.txt"), "one"],
        [str(work / "inputs/both"), ["one.txt", "two.txt"]],
        [str(work / "code/data/in"), ["one.txt", "two.txt"]],
    ]
    assert not any(path.is_symlink() for path in (work / "inputs/both").iterdir())


def at(path: str) -> DatastorePath:
    return DatastorePath(datastore=BLOB, path=path)


def test_what_the_step_may_write_any_user_may_write(bench, made):
    pod = made()
    pod.order(writing(bench))
    assert pod.stage().returncode == 0
    work = Path(pod.document.work)
    for path in (work / "code", work / "code/outputs", work / "code/logs", work / "events.jsonl"):
        assert path.stat().st_mode & 0o006 == 0o006, path


def test_a_missing_output_and_one_that_failed_itself_are_told(bench, made):
    answer = made().run(writing(bench, "print('nothing')"))
    assert (answer.error.kind, answer.outputs) == ("OutputMissingError", ())
    assert "did not write its output 'out'" in answer.error.error().message


def test_a_step_that_never_started_is_not_collected(bench, made):
    pod = made()
    pod.order(writing(bench))
    bench.blob.remove(f"snapshots/{pod.document.step.snapshot.removeprefix('b3:')}.tar.zst")
    for snapshot in (bench.workspace / "stores" / BLOB / "snapshots").rglob("*"):
        if snapshot.is_file():
            snapshot.unlink()
    staged = pod.stage()
    assert staged.returncode == 1
    assert "MissingDataError" in staged.stdout
    answer = pod.collect()
    assert isinstance(answer.error.error(), MissingDataError)
    assert pod.collector.returncode == 0


def test_the_end_of_the_step_is_noticed_however_early_it_comes(bench, made):
    """The step starts only once the collector listens: a first process never gets a signal it has not asked for."""
    pod = made()
    pod.order(writing(bench))
    stage = pod.program("stage")
    watched = os.pidfd_open(stage.pid)
    try:
        assert not select.select([watched], [], [], 2)[0]
        pod.collector = pod.program("collect")
        stage.communicate(timeout=60)
    finally:
        os.close(watched)
    assert stage.returncode == 0
    assert pod.collect().whole


def test_an_order_is_the_same_for_each_try_unless_something_has_changed(bench, made):
    pod = made()
    pod.order(writing(bench))
    first = pod.document
    assert first.model_copy(update={"number": 2}).digest == first.digest
    assert first.model_copy(update={"inputs": {}, "lent": ("x",)}).digest != first.digest


def test_a_folder_that_the_pod_does_not_see_is_refused_at_once(bench, made):
    with pytest.raises(
        ConfigError, match="'cluster', which cannot reach datastore 'workspaceblobstore'.*workspace_vol"
    ):
        made(volume=False).order(writing(bench))


@pytest.fixture
def lake(bench, s3_server):
    store = open_store("lake", f"s3://pods-{next(NUMBERS)}", {"endpoint_url": s3_server, "key": "id", "secret": SECRET})
    store.create_container()
    bench.stores["lake"] = store
    yield store
    store.close()


@contextmanager
def in_lake(pod: Pod, lake, s3_server: str):
    """Make the bucket the default datastore, with its credentials on the worker."""
    pod.rows["lake"] = DatastoreRow(name="lake", url=lake.url_of(""), options={"endpoint_url": s3_server})
    pod.secrets = {"key": "id", "secret": SECRET}
    pod.default = documents_of(lake)
    yield pod


@pytest.mark.s3
def test_nothing_of_this_machine_is_needed_with_a_bucket(bench, made, lake, s3_server):
    lake.write_bytes("raw/a.txt", b"from the lake")
    step = bench.python(
        "import sys; open(sys.argv[2], 'w').write(open(sys.argv[1]).read().upper())",
        inputs=(InputSpec(name="data", source=DatastorePath(datastore="lake", path="raw/a.txt"), mode="download"),),
        outputs=(OutputSpec(name="out", datastore="lake"),),
        arguments=(Argument(kind="input", value="data"), Argument(kind="output", value="out")),
    )
    lake.put(bench.blob.path_of("snapshots"), "snapshots")
    with in_lake(made(identity=True, volume=False), lake, s3_server) as pod:
        answer = pod.run(step)
        assert answer.error is None, answer.error
        assert lake.read_bytes(answer.outputs[0].path) == b"FROM THE LAKE"
        documents = [lake.read_bytes(pod.place.order), pod.place.model_dump_json().encode()]
        assert not any(SECRET.encode() in document for document in documents)


@pytest.mark.s3
def test_a_datastore_without_credentials_in_the_pod_is_refused_at_once(bench, made, lake, s3_server):
    step = bench.python(WRITE, outputs=(OutputSpec(name="out", datastore="lake"),))
    with (
        in_lake(made(), lake, s3_server) as pod,
        pytest.raises(ConfigError, match=r"'cluster'.*no credentials for datastore 'lake'.*credentials_secret"),
    ):
        pod.order(step)


@pytest.mark.s3
def test_what_a_step_writes_to_a_datareference_waits_until_it_has_succeeded(bench, made, lake, s3_server):
    lake.write_bytes("shared/old.txt", b"old")
    step = bench.python(
        "import sys; open(sys.argv[1] + '/new.txt', 'w').write('new')",
        inputs=(InputSpec(name="data", source=DatastorePath(datastore="lake", path="shared")),),
        arguments=(Argument(kind="input", value="data"),),
    )
    lake.put(bench.blob.path_of("snapshots"), "snapshots")
    with in_lake(made(identity=True), lake, s3_server) as pod:
        answer = pod.run(step)
        assert (answer.error, answer.references) == (None, ("data",))
        assert not lake.exists("shared/new.txt")
        release(lake, pod.document.aside)
        assert lake.read_bytes("shared/new.txt") == b"new"
        assert not lake.exists(pod.document.aside)


@pytest.mark.s3
def test_credentials_are_lent_in_a_file_while_the_step_runs(bench, made, lake, s3_server):
    step = bench.python(
        "import os; print(open(os.path.dirname(os.environ['MLPIPE_CONTEXT']) + '/credentials.json').read())"
    )
    lake.put(bench.blob.path_of("snapshots"), "snapshots")
    with in_lake(made(identity=True), lake, s3_server) as pod:
        pod.lent = ("lake",)
        answer = pod.run(step)
        assert answer.error is None, answer.error
        assert json.loads(pod.ended.stdout)["lake"]["secret"] == SECRET
        assert not (Path(pod.document.work) / "credentials.json").exists()


@pytest.mark.s3
def test_a_dataset_that_is_read_through_an_object_needs_no_credentials_in_the_step(bench, made, lake, s3_server):
    lake.write_bytes("raw/a.txt", b"of the lake")
    step = bench.python(
        "import os; from airflow_mlpipe import Run\n"
        "print(open(Run.get_context().input_datasets['data'].download()[0]).read())\n"
        "print(os.path.exists(os.path.dirname(os.environ['MLPIPE_CONTEXT']) + '/credentials.json'))",
        inputs=(
            InputSpec(
                name="data",
                source=DatasetSpec(kind="file", sources=(DatastorePath(datastore="lake", path="raw"),)),
                mode="direct",
                as_dataset=True,
            ),
        ),
    )
    bench.content = lambda source: source_digest(source, bench.stores.__getitem__)
    lake.put(bench.blob.path_of("snapshots"), "snapshots")
    with in_lake(made(identity=True), lake, s3_server) as pod:
        answer = pod.run(step)
        assert answer.error is None, answer.error
        assert pod.ended.stdout == "of the lake\nFalse\n", pod.ended.stderr
