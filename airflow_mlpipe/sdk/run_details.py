"""v1's notebook widget of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES
from airflow_mlpipe.errors import ParameterError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.run import Run


class RunDetails:
    """Shows how a run stands. v1's widget went on by itself; this prints once, when it is asked to."""

    def __init__(self, run_instance: Run) -> None:
        """Take a run.

        Args:
            run_instance: a pipeline's, a step's, a script's, or an offline run.

        Raises:
            ParameterError: if it is no run.
        """
        from airflow_mlpipe.sdk.run import Run

        if not isinstance(run_instance, Run):
            raise ParameterError(
                f"RunDetails() got a {type(run_instance).__name__}; give a run: RunDetails(experiment.submit(pipeline))"
            )
        self._run = run_instance

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Print the status of the run now, and of each of its steps. It does not wait.

        Args:
            render_lib: accepted as in v1, not used.
            widget_settings: accepted as in v1, not used.
        """
        print("\n".join(self._lines()))

    def get_widget_data(self, widget_settings: object = None) -> dict[str, Any]:
        """Return how the run stands, as data: `status`, `workbench_run_details_uri`, `run_id`, `child_runs`.

        Args:
            widget_settings: accepted as in v1, not used.
        """
        return {
            "status": self._run.status,
            "workbench_run_details_uri": self._run.get_portal_url(),
            "run_id": self._run.id,
            "child_runs": [{"run_id": step.id, "name": step.name, "status": step.status} for step in self._steps()],
        }

    def _steps(self) -> list[Any]:
        return list(self._run.get_children())

    def _lines(self) -> list[str]:
        from airflow_mlpipe.sdk.pipeline_run import PipelineRun

        run = self._run
        head = f"{type(run).__name__.lstrip('_')} {run.id}: {run.status}"
        if not isinstance(run, PipelineRun):
            return [head]
        return [head, f"Link to the run: {run.get_portal_url()}", *_pipeline_lines(run)]


def _pipeline_lines(run: PipelineRun) -> list[str]:
    from airflow_mlpipe.sdk.wait import step_line, summary_line

    rows = run.step_rows()
    lines = [*map(step_line, rows), summary_line(rows)]
    return lines if run.status in FINAL_RUN_STATUSES else [*lines, "wait_for_completion(show_output=True) follows it"]
