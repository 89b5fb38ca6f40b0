"""Links beside a step's task, and the pages they lead to, on a real Airflow."""

from __future__ import annotations

import urllib.request
from urllib.error import HTTPError

import pytest
from airflow_site import AirflowSite

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]

LINKED = """
from airflow_mlpipe import CommandStep, Pipeline, PipelineData, Workspace

made = PipelineData("made")
make = CommandStep(
    name="make <b>it</b>",
    command=["bash", "make.sh", "{{ 7 * 7 }}", "```", made],
    source_directory="linked",
    outputs=[made],
)
dag = Pipeline(Workspace.from_config(WORKSPACE), steps=[make], name="linked").to_dag()
"""
TASK = "make_b_it_b"


@pytest.fixture(scope="module")
def dag_run(airflow_site: AirflowSite) -> str:
    """The second run, in which the step was reused."""
    source = airflow_site.dags / "linked"
    source.mkdir()
    (source / "make.sh").write_text('echo "$1" > "$3"\n')
    (airflow_site.dags / "linked.py").write_text(LINKED.replace("WORKSPACE", repr(str(airflow_site.dir))))
    airflow_site.wait("linked", airflow_site.trigger("linked"))
    second = airflow_site.trigger("linked")
    assert airflow_site.wait("linked", second)[TASK] == "skipped"
    return second


def links(site: AirflowSite, dag_run: str) -> dict[str, str]:
    found = site.call("GET", "dags", "linked", "dagRuns", dag_run, "taskInstances", TASK, "links")
    return found["extra_links"]


def page(site: AirflowSite, path: str, *, token: bool = True) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {site.token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{site.url}{path}", headers=headers), timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_a_reused_step_links_to_its_outputs_its_snapshot_and_its_explanation(airflow_site: AirflowSite, dag_run: str):
    found = links(airflow_site, dag_run)
    assert set(found) == {"Outputs", "Snapshot", "Explanation"}

    pages = {name: page(airflow_site, path) for name, path in found.items()}

    assert {status for status, _ in pages.values()} == {200}
    result = airflow_site.catalog.step(airflow_site.run_of("linked", dag_run).id, TASK).result_id
    assert airflow_site.catalog.get_result(result).outputs[0].path in pages["Outputs"][1]
    assert "make.sh" in pages["Snapshot"][1]
    assert "reused from " in pages["Explanation"][1]
    # The user's words are shown, never markup of ours.
    assert "make &lt;b&gt;it&lt;/b&gt;" in pages["Outputs"][1]
    assert "<b>" not in "".join(text for _, text in pages.values())


def test_nobody_sees_them_who_is_not_logged_in(airflow_site: AirflowSite, dag_run: str):
    for path in links(airflow_site, dag_run).values():
        assert page(airflow_site, path, token=False)[0] == 401


def test_what_is_not_there_is_said_to_be_missing(airflow_site: AirflowSite, dag_run: str):
    found = links(airflow_site, dag_run)["Outputs"]

    assert page(airflow_site, found.replace(dag_run, "other"))[0] == 404
    assert page(airflow_site, found.removesuffix("outputs") + "secrets")[0] == 404


def test_the_command_is_shown_as_it_is_and_never_a_template(airflow_site: AirflowSite, dag_run: str):
    task = airflow_site.call("GET", "dags", "linked", "tasks", TASK)

    assert task["doc_md"] == "````text\nbash make.sh '{{ 7 * 7 }}' '```' <output made>\n````"
    assert airflow_site.output_of(airflow_site.run_of("linked", dag_run), TASK) == "{{ 7 * 7 }}\n"
