"""What a store keeps of a result, so that a lost catalog can be made again from it."""

from __future__ import annotations

from datetime import datetime

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.model.result import StepResult


class RecordedRun(Frozen):
    """The run that computed a result, as it stood when the result was committed.

    The attributes are those of the catalog's row of a run; what is known only when a run has ended is left out.
    """

    id: str
    experiment: str
    pipeline: str
    spec_digest: Digest
    engine: str
    created_at: datetime
    started_at: datetime | None = None
    parameters: dict[str, JsonValue] = {}
    regenerate: bool = False
    continue_on_step_failure: bool = False
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    user: str = ""
    source: str = ""
    dag_id: str | None = None
    number: int = 0


class RecordedStep(Frozen):
    """The step of that run which computed the result; the attributes are those of the catalog's row of a step."""

    step_id: str
    step_run_id: str
    name: str
    position: int
    reason: str = ""
    derivation: Digest | None = None
    started_at: datetime | None = None
    try_number: int = 1


class ResultRecord(Frozen):
    """A result and everything that its catalog knew of it.

    Attributes:
        result: what was computed.
        run: the run that computed it.
        step: the step of that run.
        workspace: id of the workspace; several may share a datastore, and never take each other's results.
        datastores: URL by name of each datastore that an output lies in.
        default_datastore: name of the default datastore.
    """

    result: StepResult
    run: RecordedRun
    step: RecordedStep
    workspace: str
    datastores: dict[str, str] = {}
    default_datastore: str
