"""The run of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.catalog.rows import FINAL_RUN_STATUSES, FINAL_STEP_STATUSES, RunRow, StepRow
from airflow_mlpipe.errors import NotFoundError, ParameterError
from airflow_mlpipe.model.result import Written
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.sdk.children import Children, has
from airflow_mlpipe.sdk.live import live_written
from airflow_mlpipe.sdk.metrics import merge
from airflow_mlpipe.sdk.output_data import PortDataReference
from airflow_mlpipe.sdk.refused import no_publishing
from airflow_mlpipe.sdk.run import Run, utc_text
from airflow_mlpipe.sdk.step_run import StepRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlpipe.sdk.experiment import Experiment
    from airflow_mlpipe.sdk.workspace import Workspace


class PipelineRun(Run):
    """One run of a pipeline, as submitted to an experiment."""

    # The steps of a run that was over when it was stored; None where the catalog has to be asked.
    _steps: Sequence[StepRow] | None = None

    def __init__(self, experiment: Experiment, run_id: str, **kwargs: Any) -> None:
        """Look at an existing run.

        Args:
            experiment: the experiment it belongs to.
            run_id: its id.
            **kwargs: accepted as in v1.

        Raises:
            NotFoundError: if the workspace has no such run.
        """
        super().__init__(experiment, run_id)
        self._row: RunRow | None = kwargs.get("_row") or experiment.workspace.catalog.get_run(run_id)
        # Of a run that had ended when it was submitted: they never change.
        self._steps = kwargs.get("_steps")

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> PipelineRun:
        """Return the pipeline run with that id.

        Raises:
            NotFoundError: if the workspace has no such pipeline run.
        """
        run = Run.get(workspace, run_id)
        if not isinstance(run, PipelineRun):
            raise NotFoundError(f"run '{run_id}' is the run of step '{run.name}', not of a pipeline; use Run.get()")
        return run

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self._first().pipeline

    @property
    def type(self) -> str:
        """``azureml.PipelineRun``."""
        return "azureml.PipelineRun"

    @property
    def number(self) -> int:
        """Position among the runs of the experiment, from 1."""
        return self._first().number

    @property
    def status(self) -> str:
        """v1's status word; ``Completed`` on success."""
        return self._refresh().status

    @property
    def parent(self) -> None:
        """None: a pipeline run is at the top."""
        return None

    @property
    def engine(self) -> str:
        """What ran it: ``none`` (everything was reused, nothing was started), ``embedded`` or ``server``."""
        return self._refresh().engine

    @property
    def parameters(self) -> dict[str, Any]:
        """The value of each pipeline parameter in this run."""
        return dict(self._first().parameters)

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._refresh().error

    @property
    def record(self) -> RunRow:
        """The catalog's row of it, as it is now."""
        return self._refresh()

    @cached_property
    def spec(self) -> PipelineSpec:
        """The pipeline as it was submitted."""
        return PipelineSpec.from_json(self._workspace.catalog.get_spec(self._first().spec_digest))

    def get_tags(self) -> dict[str, str]:
        """Return the tags by name: those of the submit and those written since."""
        return {**self._first().tags, **super().get_tags()}

    def get_properties(self) -> dict[str, str]:
        """Return the properties by name: git facts, and those written since."""
        about = {"azureml.runsource": "azureml.PipelineRun"}
        return {**about, **self._first().properties, **super().get_properties()}

    def get_steps(self) -> Children[StepRun]:
        """Return the runs of the steps, in the pipeline's order."""
        return Children(StepRun(self.experiment, row.step_run_id, _row=row) for row in self.step_rows())

    def step_rows(self) -> list[StepRow]:
        """Return the catalog's rows of the steps, as they are now."""
        return list(self._steps) if self._steps is not None else self._workspace.catalog.steps(self.id)

    def get_children(
        self,
        recursive: bool = False,
        tags: str | Mapping[str, object] | None = None,
        properties: str | Mapping[str, object] | None = None,
        type: str | None = None,  # noqa: A002 - v1's name
        status: str | None = None,
        **kwargs: Any,
    ) -> Children[StepRun]:
        """Return the runs of the steps, in the pipeline's order.

        Args:
            recursive: accepted as in v1; there is nothing below a step.
            tags: only those with these tags (a dict), or with a tag of this name.
            properties: only those with these properties, in the same forms.
            type: only those of this v1 run type; all are ``azureml.StepRun``.
            status: only those with this status word; ``Completed`` on success.
            **kwargs: accepted as in v1.
        """
        return Children(
            step
            for step in self.get_steps()
            if type in (None, step.type)
            and status in (None, step.status)
            and (not tags or has(step.tags, tags))
            and (not properties or has(step.properties, properties))
        )

    def find_step_run(self, name: str) -> list[StepRun]:
        """Return the runs of the steps of that name; names need not be unique, and none may match."""
        return [step for step in self.get_steps() if step.name == name]

    def step(self, name: str) -> StepRun:
        """Return the run of one step.

        Args:
            name: the step's name, its id in the pipeline, or the beginning of its run id.

        Raises:
            NotFoundError: if no step is called so.
            ParameterError: if several are.
        """
        steps = self.get_steps()
        found = [step for step in steps if name in (step.step_id, step.id)]
        found = found or [step for step in steps if step.name == name]
        found = found or [step for step in steps if len(name) >= 4 and step.id.startswith(name)]
        if not found:
            known = ", ".join(f"'{step.name}'" for step in steps)
            raise NotFoundError(f"run {self.id} has no step '{name}'; it has: {known}")
        if len(found) > 1:
            ids = ", ".join(step.step_id for step in found)
            raise ParameterError(f"run {self.id} has {len(found)} steps '{name}'; say which by its id: {ids}")
        return found[0]

    def get_pipeline_output(self, pipeline_output_name: str) -> PortDataReference:
        """Return where the data of an output lies.

        Args:
            pipeline_output_name: what ``PipelineData(pipeline_output_name=)`` says, else the name of an output.

        Raises:
            NotFoundError: if no finished step has an output of that name.
        """
        outputs = {name: (step, name) for step in self.get_steps() for name in step.get_outputs()}
        for step, name in list(outputs.values()):
            shown = step.declared_output(name).pipeline_output_name
            if shown is not None:
                outputs[shown] = (step, name)
        if pipeline_output_name not in outputs:
            known = ", ".join(sorted(outputs)) or "none yet"
            raise NotFoundError(f"run {self.id} has no output '{pipeline_output_name}'; it has: {known}")
        step, name = outputs[pipeline_output_name]
        return step.get_output_data(name)

    def get_graph(self) -> PipelineSpec:
        """Return the pipeline as it was submitted."""
        return self.spec

    def get_details(self) -> dict[str, Any]:
        """Return everything at once, under v1's keys."""
        row = self._refresh()
        details: dict[str, Any] = {
            "runId": self.id,
            "status": row.status,
            "startTimeUtc": utc_text(row.started_at or row.created_at),
            "endTimeUtc": utc_text(row.ended_at),
            "services": {},
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [],
            "outputDatasets": [],
            "logFiles": self._log_urls(),
            "submittedBy": row.user,
        }
        if row.error:
            details["error"] = {"error": {"code": "UserError", "message": row.error}}
        return details

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float | None = None, raise_on_error: bool = True
    ) -> str:
        """Wait until the run has ended.

        Args:
            show_output: whether to print, live, the status, what the steps print, each step's end with its reason,
                and a summary.
            timeout_seconds: seconds after which to stop waiting; the run goes on.
            raise_on_error: whether a failed run is an error here.

        Returns:
            ``Finished``, ``Failed`` or ``Canceled``; another word after the timeout.

        Raises:
            RunFailedError: if the run failed and `raise_on_error` is set.
        """
        from airflow_mlpipe.sdk.wait import wait_for_run

        return wait_for_run(self, show_output=show_output, timeout_s=timeout_seconds, raise_on_error=raise_on_error)

    def explain(self, step: str) -> str:
        """Say why a step ran or was reused: what differs from its nearest earlier result, down to file and argument.

        Args:
            step: see :meth:`step`.

        Raises:
            NotFoundError: if no step is called so.
        """
        from airflow_mlpipe.sdk.explanation import explain_step

        return str(explain_step(self.step(step)))

    def cancel(self) -> None:
        """Ask the run to end: running steps are stopped, the others do not start. Does nothing on a finished run."""
        catalog = self._workspace.catalog
        if self._refresh().status in FINAL_RUN_STATUSES:
            return
        catalog.request_stop(self.id, "cancel", f"cancelled by {_user()}")
        self._workspace.engine.cancel(self.id)

    def get_portal_url(self) -> str:
        """Return a link to the run: to Airflow's UI where a server carries it, else to the workspace's folder."""
        find = getattr(self._workspace.engine, "portal_url", None) if self.engine == "server" else None
        return (find(self.id) if find is not None else None) or super().get_portal_url()

    def close_as_dead(self, reason: str) -> None:
        """Mark the run as failed because nothing carries it on.

        Args:
            reason: what happened, for people.
        """
        catalog, now = self._workspace.catalog, utc_now()
        for row in catalog.steps(self.id):
            if row.status not in FINAL_STEP_STATUSES:
                status = "failed" if row.status == "running" else "not_run"
                catalog.update_step(self.id, row.step_id, status=status, error=reason, ended_at=now)
        catalog.update_run(self.id, status="Failed", ended_at=now, error=reason)

    def complete(self, _set_status: bool = True) -> None:
        """Refuse, as v1 does."""
        raise NotImplementedError("complete() is not there for a pipeline run: it is complete when its steps are")

    def fail(self, error_details: object = None, error_code: object = None, _set_status: bool = True) -> None:
        """Refuse, as v1 does."""
        raise NotImplementedError("fail() is not there for a pipeline run: use cancel(), or fail() in one of its steps")

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: object = None) -> Run:
        """Refuse, as v1 does."""
        raise NotImplementedError("child_run() is not there for a pipeline run: its children are its steps")

    def publish_pipeline(self, *args: Any, **kwargs: Any) -> object:
        """Refuse for now.

        Raises:
            NotSupportedError: always.
        """
        raise no_publishing("PipelineRun.publish_pipeline()")

    def save(self, path: str | None = None) -> str:
        """Write the pipeline as it was submitted to a JSON file and return its path.

        Args:
            path: target file; default is ``<pipeline>.json`` in the working directory.
        """
        from pathlib import Path

        target = Path(path or f"{self.name.replace('/', '_').replace(':', '_')}.json")
        target.write_text(self.spec.to_json())
        return str(target)

    def _first(self) -> RunRow:
        """Return the row as it was read last: for what never changes."""
        return self._row or self._refresh()

    def _refresh(self) -> RunRow:
        if self._row is None or self._row.status not in FINAL_RUN_STATUSES:
            self._row = self._workspace.catalog.get_run(self.id)
        return self._row

    def _written(self) -> Written:
        catalog = self._workspace.catalog
        parts = [catalog.written_of(self.id)]
        if self._refresh().status not in FINAL_RUN_STATUSES:
            running = [step for step in catalog.steps(self.id) if step.status == "running"]
            parts += [live_written(self._workspace, step.step_run_id)[1] for step in running]
        return merge(parts)

    def _write(self, part: Written) -> None:
        self._workspace.catalog.add_written(self.id, part)


def _user() -> str:
    from airflow_mlpipe.sdk.submit import current_user

    return current_user()
