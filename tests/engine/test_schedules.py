"""Schedules, catchup and backfill on a real Airflow: what of a run's data interval reaches its steps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow_site import PATIENCE_S, AirflowSite
from engine_site import eventually

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

DAILY = """
from datetime import UTC, datetime

from airflow.sdk import CronTriggerTimetable

from airflow_mlpipe import CommandStep, DataIntervalEnd, DataIntervalStart, Pipeline, PipelineData, Workspace

ws = Workspace.from_config(WORKSPACE)


def pipeline(name):
    base, rows = PipelineData("base"), PipelineData("rows")
    always = CommandStep(name="always", command=["cp", "base.txt", base], source_directory="daily", outputs=[base])
    days = CommandStep(
        name="days",
        command=["bash", "days.sh", base.as_input("base"), rows, DataIntervalStart(), DataIntervalEnd()],
        source_directory="daily",
        outputs=[rows],
    )
    return Pipeline(ws, steps=[days], name=name)


span = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "end_date": datetime(2026, 1, 2, tzinfo=UTC)}
caught_up = pipeline("caught_up").to_dag(
    schedule="@daily", catchup=True, max_active_runs=1, depends_on_past=True, **span
)
backfilled = pipeline("backfilled").to_dag(schedule="0 0 * * *", start_date=datetime(2020, 1, 1, tzinfo=UTC))
moments = pipeline("moments").to_dag(
    schedule=CronTriggerTimetable("@daily", timezone="UTC"), start_date=datetime(2099, 1, 1, tzinfo=UTC)
)
"""


@pytest.fixture(scope="module")
def site(airflow_site: AirflowSite) -> AirflowSite:
    source = airflow_site.dags / "daily"
    source.mkdir()
    (source / "base.txt").write_text("base\n")
    (source / "days.sh").write_text('cat "$1" > "$2" ; echo "$3 $4" >> "$2"\n')
    (airflow_site.dags / "daily.py").write_text(DAILY.replace("WORKSPACE", repr(str(airflow_site.dir))))
    return airflow_site


def runs(site: AirflowSite, dag_id: str, count: int, run_type: str) -> list[dict]:
    """Airflow's runs of a DAG of one type, the oldest interval first, once so many have ended."""
    site.known(dag_id)

    def ended() -> list[dict] | None:
        found = site.call("GET", "dags", dag_id, "dagRuns")["dag_runs"]
        done = [run for run in found if run["state"] in ("success", "failed") and run["run_type"] == run_type]
        return sorted(done, key=lambda run: run["logical_date"]) if len(done) == count else None

    return eventually(ended, PATIENCE_S)


def lines(site: AirflowSite, dag_id: str, dag_run: str) -> list[str]:
    return site.output_of(site.run_of(dag_id, dag_run), "days").splitlines()


def test_each_run_of_a_catchup_has_its_own_interval_and_only_who_reads_it_runs_again(site: AirflowSite):
    first, second = runs(site, "caught_up", 2, "scheduled")

    assert [first["state"], second["state"]] == ["success", "success"]
    assert lines(site, "caught_up", first["dag_run_id"]) == [
        "base",
        "2026-01-01T00:00:00+00:00 2026-01-02T00:00:00+00:00",
    ]
    assert lines(site, "caught_up", second["dag_run_id"])[1].startswith("2026-01-02")
    states = site.task_states("caught_up", second["dag_run_id"])
    assert states == {"reuse_check": "success", "always": "skipped", "days": "success"}
    run = site.run_of("caught_up", second["dag_run_id"])
    assert run.properties["airflow.run_type"] == "scheduled"
    assert site.catalog.step(run.id, "days").reason.startswith("parameter data_interval_")


def test_a_backfill_does_the_same_for_days_of_the_past(site: AirflowSite):
    site.known("backfilled")
    body = {
        "dag_id": "backfilled",
        "from_date": "2026-03-01T00:00:00Z",
        "to_date": "2026-03-02T00:00:00Z",
        "max_active_runs": 1,
    }
    site.call("POST", "backfills", body=body)

    found = runs(site, "backfilled", 2, "backfill")

    assert [lines(site, "backfilled", run["dag_run_id"])[1][:10] for run in found] == ["2026-03-01", "2026-03-02"]


def test_a_trigger_gives_its_own_moments_or_is_refused(site: AirflowSite):
    without = site.trigger("moments")
    given = {"data_interval_start": "2026-05-01T00:00:00Z", "data_interval_end": "2026-05-02T00:00:00Z"}
    dag_run = site.trigger("moments", given)

    site.wait("moments", dag_run)
    site.wait("moments", without, "failed")

    assert lines(site, "moments", dag_run)[1] == "2026-05-01T00:00:00+00:00 2026-05-02T00:00:00+00:00"
    assert "reads the data interval of its run, and this run has none; give 'data_interval_start'" in site.logs(
        "moments", without
    )


def test_a_text_that_is_no_moment_is_refused(site: AirflowSite):
    dag_run = site.trigger("moments", {"data_interval_start": "soon", "data_interval_end": "later"})

    site.wait("moments", dag_run, "failed")

    assert "parameter 'data_interval_start': 'soon' is not a moment" in site.logs("moments", dag_run)


def test_a_trigger_for_a_logical_date_has_the_interval_that_airflow_gives_it(site: AirflowSite):
    dag_run = site.trigger("backfilled", logical_date=datetime(2026, 7, 2, tzinfo=UTC).isoformat())

    site.wait("backfilled", dag_run)

    assert lines(site, "backfilled", dag_run)[1] == "2026-07-01T00:00:00+00:00 2026-07-02T00:00:00+00:00"
