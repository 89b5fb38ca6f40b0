from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.errors import ExecutionError, OutputMissingError, StepFailedError, StepStoppedError
from airflow_mlpipe.execution.events import EventsWriter
from airflow_mlpipe.execution.kept import keep
from airflow_mlpipe.execution.launch import launch
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.step import Argument, StepSpec

BLOB = "workspaceblobstore"
OUT = (OutputSpec(name="out", datastore=BLOB),)
WRITE = "import sys; open(sys.argv[1], 'w').write('result')"


def reading(source) -> dict:
    return {"inputs": (InputSpec(name="data", source=source),), "arguments": (Argument(kind="input", value="data"),)}


def texts(bench) -> dict[str, str]:
    return {file.name: bench.blob.read_bytes(file.path).decode() for file in bench.kept.written.files}


def test_outputs_are_committed_where_they_were_written(bench):
    outputs = (*OUT, OutputSpec(name="set", kind="dataset", datastore="second"))
    script = (
        "import sys, pathlib; a, b = map(pathlib.Path, sys.argv[1:]); a.write_text('one'); (b / 'f').write_text('two')"
    )
    collected = bench.run(bench.python(script, outputs=outputs))
    first, second = collected.outputs
    assert (first.name, first.datastore, first.path) == ("out", BLOB, "azureml/step-run-1/out")
    assert (first.is_file, first.size_bytes) == (True, 3)
    assert (second.path, second.files, second.is_file) == ("dataset/step-run-1/set", 1, False)
    assert collected.reusable
    assert collected.warnings == ()


def test_a_missing_output_is_named_with_what_is_there_instead(bench):
    step = bench.python("import sys; open(sys.argv[1] + '.csv', 'w'); open('outputs/x.txt', 'w')", outputs=OUT)
    with pytest.raises(OutputMissingError) as caught:
        bench.run(step)
    text = caught.value.message
    assert "step 'my step' ended well but did not write its output 'out'" in text
    assert f"'{bench.job.outputs['out']}'" in text
    assert f"'{bench.job.outputs['out']}.csv'" in text
    assert "outputs/x.txt'" in text


def test_an_empty_output_folder_is_a_warning(bench):
    assert bench.run(bench.python("import os, sys; os.mkdir(sys.argv[1])", outputs=OUT)).warnings == (
        "output 'out' is empty",
    )


def test_a_failure_shows_the_users_own_line_and_the_end_of_its_output(bench):
    script = (
        "import json, sys\n"
        "for i in range(30): print('\\x1b[31mline', i, '\\x1b[0m', file=sys.stderr)\n"
        "def parse():\n"
        "    return json.loads('{')\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError:\n"
        "    parse()\n"
    )
    with pytest.raises(StepFailedError) as caught:
        bench.run(bench.python(script, outputs=OUT))
    error = caught.value
    assert (error.step, error.exit_code) == ("my step", 1)
    assert error.traceback_line.startswith("main.py:4: json.decoder.JSONDecodeError: Expecting property name")
    assert len(error.last_lines) == 20
    assert error.last_lines[-1].startswith("json.decoder.JSONDecodeError")
    assert not any("\x1b" in line for line in error.last_lines)
    assert error.log_path == bench.blob.root / "runs/step-run-1/logs/mlpipe/stderr.txt"
    assert "line 0" in error.log_path.read_text()


def test_a_failure_without_errors_shows_standard_output(bench):
    with pytest.raises(StepFailedError) as caught:
        bench.run(bench.shell("printf 'one\\n10%%\\r20%%\\r\\nlast\\377\\n'; exit 7"))
    assert caught.value.last_lines == ("one", "20%", "last�")
    assert caught.value.traceback_line is None
    assert caught.value.log_path.name == "stdout.txt"


def test_a_failed_try_keeps_its_files_and_metrics(bench):
    script = (
        "from airflow_mlpipe.execution.context import current_context\n"
        "from airflow_mlpipe.execution.events import EventsWriter\n"
        "events = EventsWriter(current_context().events)\n"
        "events.metric('loss', 0.5); events.tag('t', 'v', target='parent')\n"
        "open('outputs/m.txt', 'w').write('model'); open('logs/l.txt', 'w').write('log')\n"
        "print('hi'); raise SystemExit(2)\n"
    )
    with pytest.raises(StepFailedError):
        bench.run(bench.python(script, outputs=OUT))
    assert [(metric.name, metric.value) for metric in bench.kept.written.metrics] == [("loss", 0.5)]
    assert bench.kept.parent_written.tags == {"t": "v"}
    assert texts(bench) == {
        "outputs/m.txt": "model", "logs/l.txt": "log", "logs/mlpipe/stdout.txt": "hi\n", "logs/mlpipe/stderr.txt": "",
    }  # fmt: skip


def test_a_later_try_replaces_the_files_of_an_earlier_one(bench):
    for text in ("first", "second"):
        bench.run(bench.shell(f"echo {text} > outputs/f.txt"))
        assert texts(bench)["outputs/f.txt"] == f"{text}\n"


def test_links_are_kept_as_files_only_from_inside_the_working_folder(bench, tmp_path):
    (tmp_path / "secret").write_text("s3cret")
    bench.run(
        bench.shell(
            "mkdir -p outputs/sub; echo a > outputs/sub/a; ln -s sub/a outputs/b; ln -s gone outputs/c;",
            f"ln -s {tmp_path}/secret outputs/d; mkfifo outputs/e",
        )
    )
    kept = {name for name in texts(bench) if name.startswith("outputs/")}
    assert kept == {"outputs/sub/a", "outputs/b"}
    assert [warning.split()[0] for warning in sorted(bench.kept.warnings)] == ["outputs/c", "outputs/d", "outputs/e"]


def test_an_upload_wins_over_a_file_of_the_same_name(bench):
    job = bench.stage(bench.shell("echo late > outputs/m.txt"))
    bench.put("runs/step-run-1/outputs/m.txt", "uploaded")
    EventsWriter(job.events).file("outputs/m.txt", BLOB, "runs/step-run-1/outputs/m.txt", 8)
    launch(job)
    bench.kept = keep(job, bench.blob)
    assert texts(bench)["outputs/m.txt"] == "uploaded"


def test_stopped_and_timed_out(bench):
    step = bench.shell("sleep 600", timeout_s=0.2)
    job = bench.stage(step)
    exit = launch(job)
    kept = keep(job, bench.blob)
    with pytest.raises(ExecutionError, match=r"step 'my step' was ended after its timeout of 0\.2 s"):
        bench.collect(job, exit, kept)
    with pytest.raises(StepStoppedError, match="step 'my step' was stopped: step 'a' failed"):
        bench.collect(job, replace(exit, timed_out=False, stopped="step 'a' failed"), kept)


def test_a_step_may_call_itself_failed(bench):
    script = (
        "import sys\n"
        "from airflow_mlpipe.execution.context import current_context\n"
        "from airflow_mlpipe.execution.events import EventsWriter\n"
        f"EventsWriter(current_context().events).failure('bad data'); {WRITE}"
    )
    with pytest.raises(ExecutionError, match="step 'my step' called itself failed: bad data"):
        bench.run(bench.python(script, outputs=OUT))


@pytest.mark.parametrize("change", ["chmod u+w $f; echo more >> $f", "rm -f $f", "mv $f $f.old; echo x > $f"])
def test_a_step_that_changes_what_another_step_wrote_fails(bench, change):
    record = bench.record({"a.txt": "text"})
    words = (
        *(Argument(value=word) for word in ("sh", "-c", f"f=$1/a.txt; {change}", "sh")),
        Argument(kind="input", value="data"),
    )
    source = StepOutputRef(step="a", output="out")
    step = StepSpec(id="s", name="s", kind="command", arguments=words, inputs=(InputSpec(name="data", source=source),))
    with pytest.raises(ExecutionError, match="its input 'data' .output 'out' of step 'a'. was changed while it ran"):
        bench.run(step, {"data": record})


def test_a_step_that_changes_a_dataset_fails_and_commits_nothing(bench):
    source = DatasetSpec(kind="file", sources=(bench.put("raw/a.csv", "a"),))
    script = "import sys; open(sys.argv[1], 'a').write('more'); open(sys.argv[2], 'w').write('x')"
    arguments = (Argument(kind="input", value="data"), Argument(kind="output", value="out"))
    step = bench.python(script, outputs=OUT, **{**reading(source), "arguments": arguments})
    with pytest.raises(ExecutionError, match="step 'my step': its input 'data' .workspaceblobstore: raw/a.csv. was"):
        bench.run(step)
    assert bench.job.outputs["out"].stat().st_mode & 0o200, "an output of a failed step was committed"


def test_a_data_reference_may_be_written_but_the_result_is_not_reusable(bench):
    step = bench.python(
        "import sys; open(sys.argv[1], 'w').write('x')", **reading(DatastorePath(datastore=BLOB, path="new"))
    )
    collected = bench.run(step)
    assert not collected.reusable
    assert collected.warnings == (
        "the step wrote into its input 'data' (workspaceblobstore: new): its result will not be reused",
    )
    assert bench.blob.read_bytes("new") == b"x"


def test_a_data_reference_that_is_only_read_is_reusable(bench):
    step = bench.python("import sys; open(sys.argv[1]).read()", **reading(bench.put("there", "x")))
    assert bench.run(step).reusable


def test_processes_left_behind_are_a_warning(bench):
    # Until the child has become `sleep` it still bears the shell's name.
    line = "sleep 600 & until grep -q sleep /proc/$!/comm; do :; done"
    collected = bench.run(bench.shell(line))
    assert len(collected.warnings) == 1
    assert collected.warnings[0].startswith("processes that the step left behind were ended: sleep (")
