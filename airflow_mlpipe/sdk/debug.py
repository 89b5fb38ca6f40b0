"""A step of a run laid out again, for a debugger: its directory, arguments, environment and inputs."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput, StepJob
from airflow_mlpipe.execution.lent import lend
from airflow_mlpipe.execution.provision import software_of
from airflow_mlpipe.execution.stage import discard, stage
from airflow_mlpipe.model.data import InputSpec, StepOutputRef
from airflow_mlpipe.reuse.facts import WorkspaceFacts
from airflow_mlpipe.sdk.credentials import credentials_of
from airflow_mlpipe.sdk.submit import environments_of, facts_of

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.step_run import StepRun


def lay_out(step: StepRun) -> StepJob:
    """Stage a fresh copy of what the step got in its run. Its outputs go to places of their own.

    What is written there is no result and is never reused. Remove the copy with :func:`clear`.

    Raises:
        MissingDataError: if an input, or the code, is not there any more.
        EnvironmentBuildError: if its environment is not there and cannot be built.
    """
    workspace, run = step.experiment.workspace, step.parent
    spec = run.spec.with_data(run.parameters).step_by_id[step.step_id]
    # An id of its own: staging under the step's would sweep away its committed outputs.
    copy_id = f"shell-{uuid.uuid4()}"
    identity = RunIdentity(
        run_id=run.id,
        step_run_id=copy_id,
        experiment=step.experiment.name,
        pipeline=run.name,
        workspace=workspace.dir,
        parameters=run.parameters,
    )
    facts = facts_of(workspace)
    inputs = {port.name: _input(step, port, facts) for port in spec.inputs}
    passed = workspace.settings.get("pass_environment", ())
    job = stage(
        spec,
        identity,
        inputs,
        store=workspace.store,
        default=workspace.documents,
        work=workspace.dir / "work" / copy_id / "1",
        passed=passed,
        software=software_of(spec.environment, environments_of(workspace).venv(spec.environment, say=_tell)),
        # The copy may outlive this process.
        streamed=False,
    )
    try:
        lend(job, partial(credentials_of, workspace), workspace.settings.get("pass_credentials", ()))
    except BaseException:
        discard(job)
        raise
    return job


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def clear(step: StepRun, job: StepJob) -> None:
    """Remove a copy, and what was written to the places of its outputs."""
    from airflow_mlpipe.storage.datastore import check_files
    from airflow_mlpipe.storage.outputs import sweep_attempt

    discard(job)
    for name in {port.datastore for port in job.step.outputs}:
        sweep_attempt(job.context.step_run_id, check_files(step.experiment.workspace.store(name)))


@contextmanager
def laid_out(step: StepRun) -> Iterator[StepJob]:
    """Give a fresh copy of what the step got, and remove it afterwards; see :func:`lay_out`."""
    job = lay_out(step)
    try:
        yield job
    finally:
        clear(step, job)


def _input(step: StepRun, port: InputSpec, facts: WorkspaceFacts) -> StagedInput:
    source = port.bound
    if not isinstance(source, StepOutputRef):
        return StagedInput(facts.content(source))
    producer = step.parent.step(source.step)
    outputs = producer.get_outputs()
    if source.output not in outputs:
        raise MissingDataError(
            f"step '{step.name}' has no input '{port.name}' in run {step.pipeline_run_id}: step '{producer.name}' is "
            f"{producer.status}"
        )
    record = outputs[source.output].get_port_data_reference().record
    return StagedInput(record.digest, record)
