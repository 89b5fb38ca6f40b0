"""Runs that no submit made, on a real Airflow: triggered, scheduled, cleared, marked, tried again."""

from __future__ import annotations

import uuid
from pathlib import Path

import psutil
import pytest
from airflow_site import AirflowSite
from engine_site import eventually, shell

from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, ParameterRef
from airflow_mlpipe.model.data_value import text_of
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.storage.datastore import LocalStore

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

DAG_FILE = """
from airflow_mlpipe.engine.dag_factory import build_dag
from airflow_mlpipe.model.spec import PipelineSpec

dag = build_dag(PipelineSpec.from_json({text!r}), workspace={workspace!r})
"""


@pytest.fixture(scope="module")
def site(airflow_site: AirflowSite) -> AirflowSite:
    files = airflow_site.files
    for spec in (training(files), fragile(files), slow(files), chosen(airflow_site)):
        airflow_site.catalog.put_spec(spec.digest, spec.to_json())
        text = DAG_FILE.format(text=spec.to_json(), workspace=str(airflow_site.dir))
        (airflow_site.dags / f"{spec.name}.py").write_text(text)
    return airflow_site


def training(files: Path) -> PipelineSpec:
    """prepare -> train: writes what its parameter says; each start leaves a line."""
    prepare = shell("prepare", f"echo p >> {files}/prepare ; echo data > @out")
    train = shell("train", f"echo t >> {files}/train ; cat @prepare > @out", reads=("prepare",))
    rate = (Argument(value=";"), Argument(value="echo"), Argument(kind="parameter", value="lr"))
    train = train.model_copy(update={"arguments": (*train.arguments, *rate)})
    parameters = (ParameterSpec.of("lr", 0.1), ParameterSpec.of("label", "a"))
    return PipelineSpec(name="training", steps=(prepare, train), parameters=parameters)


def fragile(files: Path) -> PipelineSpec:
    """first -> second -> third, where second fails until a file is there."""
    first = shell("first", "echo 1 > @out")
    second = shell("second", f"test -e {files}/repaired && cat @first > @out", reads=("first",))
    third = shell("third", "cat @second > @out", reads=("second",))
    return PipelineSpec(name="fragile", steps=(first, second, third))


def slow(files: Path) -> PipelineSpec:
    """One step that waits until it is told to go on."""
    wait = f"touch {files}/waits ; while ! test -e {files}/go ; do sleep 0.1 ; done ; echo x > @out"
    return PipelineSpec(name="slow", steps=(shell("wait", wait),))


def store_of(site: AirflowSite) -> LocalStore:
    return LocalStore("store", site.dir / "stores" / "store")


def chosen(site: AirflowSite) -> PipelineSpec:
    """One step that copies the files of the dataset that its parameter names."""
    specs = []
    for name in ("first", "second"):
        store_of(site).write_bytes(f"{name}/data.txt", name.encode())
        source = DatastorePath(datastore="store", path=f"{name}/data.txt")
        specs.append(DatasetSpec(kind="file", sources=(source,)))
        site.catalog.register_dataset(name, specs[-1], "b3:0")
    copy = shell("copy", "cat @data > @out")
    port = InputSpec(name="data", source=ParameterRef(parameter="data"), as_dataset=True)
    default = text_of(specs[0], None, "first")
    return PipelineSpec(
        name="chosen",
        steps=(copy.model_copy(update={"inputs": (port,)}),),
        parameters=(ParameterSpec(name="data", type="dataset", default=default),),
    )


def starts(site: AirflowSite, step: str) -> int:
    """How often a step of `training` has started."""
    return len((site.files / step).read_text().splitlines())


def test_a_trigger_with_a_parameter_is_a_run_like_any_other(site: AirflowSite):
    site.known("training")
    dag_run = "by-hand"
    site.airflow("dags", "trigger", "training", "-r", dag_run, "-c", '{"lr": 0.3}')

    states = site.wait("training", dag_run)

    run = site.run_of("training", dag_run)
    assert states == {"reuse_check": "success", "prepare": "success", "train": "success"}
    assert (run.status, run.engine, run.experiment, run.pipeline) == ("Completed", "server", "training", "training")
    assert run.parameters == {"lr": 0.3, "label": "a"}
    assert run.ended_at is not None
    assert uuid.UUID(run.id).version == 5
    assert site.statuses(run) == {"prepare": "completed", "train": "completed"}


def test_the_next_one_reuses_and_says_so_in_the_notes(site: AirflowSite):
    first, second = (site.trigger("training", {"lr": 0.3}) for _ in range(2))
    site.wait("training", first)

    states = site.wait("training", second)

    run = site.run_of("training", second)
    assert states == {"reuse_check": "success", "prepare": "skipped", "train": "skipped"}
    assert run.status == "Completed"
    assert set(site.statuses(run).values()) == {"reused"}
    notes = {task_id: task["note"] for task_id, task in site.tasks_of("training", second).items()}
    assert notes["train"].startswith("reused from ") and ", saved " in notes["train"]


def test_a_run_may_choose_a_dataset_by_name(site: AirflowSite):
    site.known("chosen")
    for conf, content in (({}, b"first"), ({"data": "second"}, b"second")):
        dag_run = site.trigger("chosen", conf)
        assert site.wait("chosen", dag_run)["copy"] == "success"
        run = site.run_of("chosen", dag_run)
        (output,) = site.catalog.get_result(site.catalog.step(run.id, "copy").result_id).outputs
        assert store_of(site).read_bytes(output.path) == content
    assert '"label": "dataset second v1"' in run.parameters["data"]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"lr": "fast"}, "'fast' is not of type 'number'"),
        ({"label": 3}, "3 is not of type 'string'"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_before_there_is_a_run(site: AirflowSite, conf, message):
    body = {"logical_date": None, "conf": conf}

    status, text = site.call("POST", "dags", "training", "dagRuns", body=body, ok=False)

    assert status == 400
    assert message in text


def test_a_parameter_that_is_none_fails_the_run_and_not_trains_with_the_default(site: AirflowSite):
    before = len(site.catalog.list_runs())
    dag_run = site.trigger("training", {"rl": 0.3})

    states = site.wait("training", dag_run, "failed")

    assert states == {"reuse_check": "failed", "prepare": "upstream_failed", "train": "upstream_failed"}
    assert "pipeline 'training' has no parameter 'rl'; it has: label, lr" in site.logs("training", dag_run)
    assert len(site.catalog.list_runs()) == before


def test_regenerate_outputs_travels_in_the_conf(site: AirflowSite):
    dag_run = site.trigger("training", {"lr": 0.3, "_mlpipe": {"regenerate_outputs": True}})

    assert site.wait("training", dag_run)["train"] == "success"
    assert site.run_of("training", dag_run).regenerate is True


class TestClear:
    def test_of_a_reused_step_keeps_it_reused(self, site: AirflowSite):
        dag_run = site.trigger("training", {"lr": 0.3})
        site.wait("training", dag_run)
        before = starts(site, "train")

        site.clear("training", dag_run, "train")
        states = site.wait("training", dag_run)

        assert states["train"] == "skipped"
        assert starts(site, "train") == before
        assert site.run_of("training", dag_run).status == "Completed"

    def test_of_reuse_check_with_downstream_plans_anew(self, site: AirflowSite):
        dag_run = site.trigger("training", {"lr": 0.4})
        site.wait("training", dag_run)
        run = site.run_of("training", dag_run)
        result = site.catalog.get_result(site.catalog.step(run.id, "train").result_id)
        # Its output is damaged: what a plan finds, and a step that keeps its result does not.
        (site.dir / "stores" / "store" / result.outputs[0].path).unlink()
        before = starts(site, "train")

        site.clear("training", dag_run, "reuse_check", downstream=True)
        states = site.wait("training", dag_run)

        assert (states["prepare"], states["train"]) == ("skipped", "success")
        assert starts(site, "train") == before + 1
        assert site.run_of("training", dag_run).id == run.id
        assert site.statuses(run) == {"prepare": "reused", "train": "completed"}

    def test_of_a_failed_step_and_what_follows_takes_the_run_up_again(self, site: AirflowSite):
        dag_run = site.trigger("fragile")
        site.wait("fragile", dag_run, "failed")
        run = site.run_of("fragile", dag_run)
        assert run.status == "Failed"
        assert site.statuses(run) == {"first": "completed", "second": "failed", "third": "not_run"}

        (site.files / "repaired").touch()
        site.clear("fragile", dag_run, "second", downstream=True)
        states = site.wait("fragile", dag_run)

        run = site.run_of("fragile", dag_run)
        assert (run.status, run.error) == ("Completed", None)
        assert set(states.values()) == {"success"}
        assert set(site.statuses(run).values()) == {"completed"}


class TestMark:
    def test_a_run_as_failed_ends_its_step(self, site: AirflowSite):
        (site.files / "waits").unlink(missing_ok=True)
        dag_run = site.trigger("slow")
        eventually((site.files / "waits").exists)

        site.call("PATCH", "dags", "slow", "dagRuns", dag_run, body={"state": "failed"})

        run = site.run_of("slow", dag_run)
        assert (run.status, run.error) == ("Failed", "step 'wait': marked as failed in Airflow")
        assert site.statuses(run) == {"wait": "failed"}
        eventually(lambda: not scripts(site))

    def test_a_run_as_success_does_not_make_results(self, site: AirflowSite):
        (site.files / "waits").unlink(missing_ok=True)
        dag_run = site.trigger("slow")
        eventually((site.files / "waits").exists)

        site.call("PATCH", "dags", "slow", "dagRuns", dag_run, body={"state": "success"})

        assert site.run_of("slow", dag_run).status == "Failed"
        eventually(lambda: not scripts(site))

    def test_a_whole_run_that_was_marked_can_be_cleared_and_ends_well(self, site: AirflowSite):
        (site.files / "waits").unlink(missing_ok=True)
        dag_run = site.trigger("slow")
        eventually((site.files / "waits").exists)
        site.call("PATCH", "dags", "slow", "dagRuns", dag_run, body={"state": "failed"})
        eventually(lambda: not scripts(site))

        (site.files / "go").touch()
        site.call("POST", "dags", "slow", "dagRuns", dag_run, "clear", body={"dry_run": False})
        site.wait("slow", dag_run)

        run = site.run_of("slow", dag_run)
        assert (run.status, run.error) == ("Completed", None)
        assert site.statuses(run) == {"wait": "completed"}


def scripts(site: AirflowSite) -> list[psutil.Process]:
    """The processes of the step that waits."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"{site.files}/waits" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
