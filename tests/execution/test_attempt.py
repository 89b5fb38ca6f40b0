from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.errors import StepFailedError, StepStoppedError
from airflow_mlpipe.execution.attempt import StepKey, run_attempt
from airflow_mlpipe.execution.context import VARIABLE
from airflow_mlpipe.execution.contract import RunIdentity
from airflow_mlpipe.execution.deliver import publish
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, RegisterSpec, StepOutputRef
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.storage.ledger import read_result

BLOB = "workspaceblobstore"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRITE = "import sys; open(sys.argv[1], 'w').write('result')"
TELL = (
    "from airflow_mlpipe.execution.context import current_context as c\n"
    "from airflow_mlpipe.execution.events import EventsWriter\n"
    "EventsWriter(c().events).metric('loss', 1.5); EventsWriter(c().events).tag('t', 'v', target='parent')\n"
)


@pytest.fixture
def site(bench):
    catalog = Catalog.create(f"sqlite:///{bench.workspace / 'catalog.db'}")
    catalog.ensure_experiment("exp")
    return Site(
        catalog=catalog, store=bench.stores.__getitem__, default=bench.blob, index=bench.index, content=bench.content
    )


def attempt(bench, site, step, results=None, run_id="run-1", **options):
    catalog = site.catalog
    step_run_id = f"{run_id}-{step.id}"
    if options.get("number", 1) == 1:
        run = RunRow(
            id=run_id, experiment="exp", pipeline="pipe", spec_digest=digest_bytes(b""), status="Running",
            engine="embedded", created_at=NOON,
        )  # fmt: skip
        row = StepRow(run_id=run_id, step_id=step.id, step_run_id=step_run_id, name=step.name, position=0)
        catalog.start_run(run, [row])
    identity = RunIdentity(
        run_id=run_id,
        step_run_id=step_run_id,
        experiment="exp",
        pipeline="pipe",
        workspace=bench.workspace,
        parameters={},
    )
    inputs = {}
    for port in step.inputs:
        if isinstance(port.source, StepOutputRef):
            inputs[port.name] = results[port.source.step].outputs[0].digest
        else:
            inputs[port.name] = bench.content(port.source)
    key = StepKey(
        fingerprint=digest_bytes(b"key"), derivation=digest_bytes(b"way"), components={"inputs": inputs}, reason="new"
    )
    return run_attempt(step, identity, key, results or {}, site, **options)


def out(**fields) -> tuple[OutputSpec, ...]:
    return (OutputSpec(name="out", datastore=BLOB, **fields),)


def test_a_result_is_committed_with_all_that_was_written(bench, site):
    lines: list[tuple[str, str]] = []
    step = bench.python(TELL + WRITE + "; print('hello')", outputs=out())
    result = attempt(bench, site, step, on_line=lambda stream, line: lines.append((stream, line)), now=lambda: NOON)
    row = site.catalog.step("run-1", "s")
    assert (row.status, row.decision, row.reason, row.result_id) == ("completed", "run", "new", result.id)
    assert (row.started_at, row.try_number, row.exit_code) == (NOON, 1, 0)
    assert site.catalog.get_result(result.id) == result
    assert site.catalog.by_fingerprint(digest_bytes(b"key")) == [result]
    assert [metric.value for metric in result.written.metrics] == [1.5]
    assert "logs/mlpipe/stdout.txt" in {file.name for file in result.written.files}
    assert site.catalog.written_of("run-1").tags == {"t": "v"}
    assert lines == [("stdout", "hello")]
    assert not (bench.workspace / "work" / "run-1-s").exists()


def test_the_store_keeps_what_the_catalog_knows_of_a_result(bench, site):
    result = attempt(bench, site, bench.python(WRITE, outputs=out()))
    record = read_result(result.id, bench.blob).record
    assert record.result == result
    run, row = site.catalog.get_run("run-1"), site.catalog.step("run-1", "s")
    assert (record.run.experiment, record.run.created_at, record.run.number) == ("exp", NOON, run.number)
    assert (record.step.step_run_id, record.step.position, record.step.reason) == (row.step_run_id, 0, "new")
    assert record.datastores == {BLOB: bench.blob.root.as_uri()}
    assert record.default_datastore == BLOB


def test_a_consumer_gets_the_result_of_its_producer(bench, site):
    produced = attempt(bench, site, bench.python(WRITE, outputs=out()))
    step = bench.python(
        "import sys; print(open(sys.argv[1]).read())",
        inputs=(InputSpec(name="data", source=StepOutputRef(step="s", output="out")),),
        arguments=(Argument(kind="input", value="data"),),
    ).model_copy(update={"id": "t"})
    result = attempt(bench, site, step, {"s": produced}, run_id="run-2")
    log = next(file for file in result.written.files if file.name.endswith("stdout.txt"))
    assert bench.blob.read_bytes(log.path) == b"result\n"


def test_a_failed_try_leaves_what_it_wrote_and_a_retry_succeeds(bench, site):
    flag = bench.root / "flag"
    script = f"{TELL}import os, sys\nif not os.path.exists({str(flag)!r}): sys.exit(9)\n{WRITE}"
    step = bench.python(script, outputs=out())
    with pytest.raises(StepFailedError):
        attempt(bench, site, step)
    row = site.catalog.step("run-1", "s")
    assert (row.status, row.exit_code, row.result_id) == ("running", 9, None)
    assert row.written["metrics"][0]["value"] == 1.5
    assert site.catalog.by_fingerprint(digest_bytes(b"key")) == []
    assert (bench.workspace / "work/run-1-s/try-1/code/main.py").exists()
    flag.touch()
    result = attempt(bench, site, step, number=2)
    assert site.catalog.step("run-1", "s").try_number == 2
    assert site.catalog.by_fingerprint(digest_bytes(b"key")) == [result]
    assert not (bench.workspace / "work/run-1-s").exists()


def test_a_stop_is_no_result(bench, site):
    with pytest.raises(StepStoppedError, match="was stopped: enough"):
        attempt(bench, site, bench.shell("sleep 600"), stop=lambda: "enough")
    assert site.catalog.step("run-1", "s").exit_code < 0


def test_a_try_that_was_given_up_does_not_replace_the_result_its_run_took(bench, site):
    other = attempt(bench, site, bench.python(WRITE, outputs=out()), run_id="run-2")

    def meanwhile(stream: str, line: str) -> None:
        # The try that took the place of this one, which was frozen.
        assert site.catalog.commit_result(other, "run-1", "s")

    late = attempt(bench, site, bench.python(WRITE + "; print('thawed')", outputs=out()), on_line=meanwhile)
    assert late == other
    assert site.catalog.step("run-1", "s").result_id == other.id
    # Its own result is there all the same, for others.
    assert len(site.catalog.by_fingerprint(digest_bytes(b"key"))) == 2


def test_what_is_left_of_an_earlier_try_is_ended_before_the_next_one_begins(bench, site):
    """On a server the next try of a cleared task may begin while this one is still being ended."""
    with pytest.raises(StepFailedError):
        attempt(bench, site, bench.python("raise SystemExit(3)", outputs=out()))
    context = bench.workspace.absolute() / "work" / "run-1-s" / "try-1" / "context.json"
    stale = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], VARIABLE: str(context)})
    other = context.parents[1].with_name("run-1-s2") / "try-1" / "context.json"
    bystander = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], VARIABLE: str(other)})
    try:
        result = attempt(bench, site, bench.python(WRITE, outputs=out()), number=2)
        assert stale.wait(5) < 0
        assert bystander.poll() is None
    finally:
        stale.kill()
        bystander.kill()
        stale.wait()
        bystander.wait()
    assert site.catalog.step("run-1", "s").result_id == result.id


def test_an_interrupt_keeps_what_was_written(bench, site):
    def stop():
        if (bench.workspace / "work/run-1-s/try-1/events.jsonl").stat().st_size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(bench, site, bench.python(TELL + "import time; time.sleep(600)"), stop=stop)
    assert site.catalog.step("run-1", "s").written["metrics"][0]["name"] == "loss"


def test_a_step_that_writes_into_its_input_is_never_offered(bench, site):
    source = DatastorePath(datastore=BLOB, path="new")
    step = bench.python(
        WRITE, inputs=(InputSpec(name="data", source=source),), arguments=(Argument(kind="input", value="data"),)
    )
    result = attempt(bench, site, step)
    assert site.catalog.step("run-1", "s").status == "completed"
    assert site.catalog.get_result(result.id) == result
    assert site.catalog.by_fingerprint(digest_bytes(b"key")) == []
    assert site.catalog.candidates([digest_bytes(b"way")]) == {}


def test_an_output_is_published_and_restored_on_demand(bench, site):
    step = bench.python(WRITE, outputs=out(destination="shared/{output-name}/{run-id}"))
    result = attempt(bench, site, step)
    copy = bench.blob.root / "shared/out/run-1-s"
    assert copy.read_text() == "result"
    copy.write_text("spoiled")
    publish(step, result.outputs, site.store, bench.index)
    assert copy.read_text() == "result"
    assert bench.blob.read_bytes("azureml/run-1-s/out") == b"result"


def test_an_output_is_registered_once_per_content(bench, site):
    named = RegisterSpec(name="d", description="about", tags={"a": "b"})
    for run_id, text in (("run-1", "result"), ("run-2", "result"), ("run-3", "other")):
        attempt(bench, site, bench.python(WRITE.replace("result", text), outputs=out(register_as=named)), run_id=run_id)
    versions = site.catalog.list_datasets("d")
    assert [(row.version, row.description, row.tags) for row in versions] == [
        (2, "about", {"a": "b"}),
        (1, "about", {"a": "b"}),
    ]
    sources = [DatasetSpec.model_validate(row.spec).sources[0].path for row in versions]
    assert sources == ["azureml/run-3-s/out", "azureml/run-1-s/out"]


def test_a_failed_step_registers_nothing(bench, site):
    step = bench.python(f"{WRITE}; sys.exit(1)", outputs=out(register_as=RegisterSpec(name="d"), destination="copy"))
    with pytest.raises(StepFailedError):
        attempt(bench, site, step)
    assert site.catalog.list_datasets() == []
    assert not (bench.blob.root / "copy").exists()


def test_an_input_that_is_not_what_was_registered_is_told_of(bench, site, caplog):
    from airflow_mlpipe.storage.pinned import pin

    source = DatasetSpec(kind="file", sources=(bench.put("raw/d.csv", "as registered"),))
    digest = pin(source, site.store, site.default, site.index)
    row = site.catalog.register_dataset("d", source, digest)
    inputs = (InputSpec(name="data", source=source, dataset_id=row.id),)
    step = bench.python(WRITE, arguments=(Argument(kind="output", value="out"),), inputs=inputs, outputs=out())
    attempt(bench, site, step)
    assert "has changed" not in caplog.text
    bench.put("raw/d.csv", "changed")
    attempt(bench, site, step, run_id="run-2")
    assert "input 'data' is dataset d v1, which has changed since it was registered: the file changed" in caplog.text
