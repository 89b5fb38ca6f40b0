"""The run of a ScriptRunConfig: a pipeline of one step, seen as the one run that v1's users expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import NotSupportedError
from airflow_mlpipe.sdk.pipeline import Pipeline
from airflow_mlpipe.sdk.step_run import StepRun

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.pipeline_run import PipelineRun
    from airflow_mlpipe.sdk.script_run_config import ScriptRunConfig

MARK = "mlpipe.script_run"
"""Property of a pipeline run that was made of a ScriptRunConfig."""


class ScriptRun(StepRun):
    """One run of a ScriptRunConfig: metrics, files and logs are those of its script."""

    @property
    def type(self) -> str:
        """``azureml.scriptrun``."""
        return "azureml.scriptrun"

    def get_properties(self) -> dict[str, str]:
        """Return the properties by name: what the script wrote, git facts, and what v1 tells of a step run."""
        return {**self.parent.get_properties(), **super().get_properties(), "azureml.runsource": "azureml.scriptrun"}

    def get_tags(self) -> dict[str, str]:
        """Return the tags by name: those of the submit and those written since."""
        return {**self.parent.get_tags(), **super().get_tags()}

    def get_portal_url(self) -> str:
        """Return where to look at it."""
        return self.parent.get_portal_url()

    def get_status(self) -> str:
        """Return v1's status word; ``Completed`` on success."""
        return self.status

    def wait_for_completion(  # type: ignore[override]
        self,
        show_output: bool = False,
        timeout_seconds: float | None = None,
        raise_on_error: bool = True,
        wait_post_processing: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Wait until it has ended.

        Args:
            show_output: whether to print its status and its end.
            timeout_seconds: seconds after which to stop waiting; the run goes on.
            raise_on_error: whether a failed run is an error here.
            wait_post_processing: accepted as in v1: files are kept when the run has ended.
            **kwargs: accepted as in v1.

        Returns:
            its details, as in v1.

        Raises:
            RunFailedError: if it failed and `raise_on_error` is set.
        """
        super().wait_for_completion(show_output, timeout_seconds, raise_on_error)
        return self.get_details()

    def cancel(self) -> None:
        """Ask it to end."""
        self.parent.cancel()


def as_pipeline(experiment: Experiment, config: ScriptRunConfig) -> Pipeline:
    """Return the pipeline of one step that runs `config`; called like the experiment and it.

    Raises:
        UsageError: if something of it is not allowed.
    """
    step = config.step()
    # A run is asked for each time: v1 never took the last one's result. Pipelines do.
    step.allow_reuse = False
    return Pipeline(experiment.workspace, steps=[step], name=f"{experiment.name}.{step.name}")


def script_run(run: PipelineRun) -> ScriptRun:
    """Return the run of a ScriptRunConfig as v1's users expect it."""
    (row,) = run.step_rows()
    return ScriptRun(run.experiment, row.step_run_id, _row=row)


def refuse_parameters(options: dict[str, Any]) -> None:
    """Refuse what only a pipeline has.

    Raises:
        NotSupportedError: for pipeline parameters.
    """
    if options.get("pipeline_parameters") or options.get("pipeline_params"):
        raise NotSupportedError(
            "a ScriptRunConfig has no pipeline parameters; give arguments= to it, or make a Pipeline"
        )
