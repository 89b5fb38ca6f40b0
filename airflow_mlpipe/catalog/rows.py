"""The rows of the catalog as plain values. Times are aware UTC; JSON columns are decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from airflow_mlpipe.model.digest import Digest, JsonValue

RunStatus = Literal[
    "NotStarted", "Queued", "Preparing", "Running", "CancelRequested", "Finalizing", "Completed", "Failed", "Canceled"
]
"""v1's words for the state of a run. The last three are final."""

FINAL_RUN_STATUSES: frozenset[str] = frozenset({"Completed", "Failed", "Canceled"})

StepStatus = Literal["not_started", "running", "completed", "reused", "failed", "canceled", "not_run"]
"""The state of a step of a run. ``not_run``: the run ended, or something it needs failed, before it could start."""

FINAL_STEP_STATUSES: frozenset[str] = frozenset({"completed", "reused", "failed", "canceled", "not_run"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRow:
    """The workspace that a catalog is of.

    Attributes:
        id: a UUID.
        name: its name.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One change of which spec a pipeline has.

    Attributes:
        version: of all pipelines, which this change made.
        digest: of the spec that the pipeline has from then on; None: the pipeline was taken out.
        name: of the pipeline.
    """

    version: str
    digest: Digest | None
    name: str


@dataclass(slots=True, kw_only=True)
class RunRow:
    """One run of a pipeline.

    Attributes:
        id: a UUID.
        experiment: name of the experiment.
        pipeline: name of the pipeline.
        spec_digest: which spec it runs.
        status: see :data:`RunStatus`.
        engine: ``none`` (everything was reused, nothing was started), ``embedded`` or ``server``.
        created_at: when it was submitted.
        started_at: when the first step could start.
        ended_at: when it reached a final status.
        parameters: bound parameter values by name.
        regenerate: v1's ``regenerate_outputs``.
        continue_on_step_failure: v1's flag of that name.
        tags: free texts by name.
        properties: git facts and other fixed texts by name.
        user: who submitted it.
        source: the file the pipeline was written in, for people; may be empty.
        dag_id: the Airflow DAG, or None where no engine ran.
        error: why it failed, one line, or None.
        number: position among the runs of its experiment, from 1; given by the catalog.
    """

    id: str
    experiment: str
    pipeline: str
    spec_digest: Digest
    status: RunStatus
    engine: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    regenerate: bool = False
    continue_on_step_failure: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    user: str = ""
    source: str = ""
    dag_id: str | None = None
    error: str | None = None
    number: int = 0


@dataclass(slots=True, kw_only=True)
class StepRow:
    """One step of one run.

    Attributes:
        run_id: the run.
        step_id: id of the step in the spec.
        step_run_id: a UUID; the id of the StepRun.
        name: the user's text.
        position: index in the spec's order.
        status: see :data:`StepStatus`.
        decision: what the plan said: ``reuse``, ``run`` or ``later`` (inputs not known yet).
        reason: why, as shown to people.
        fingerprint: the key, once it is known.
        derivation: the key that fetches candidates, from the plan.
        components: the named parts of the key, once they are known.
        result_id: the result it took or made.
        reused_from: id of the run that computed the reused result.
        saved_s: seconds that reusing it saved.
        started_at: when its process was staged.
        ended_at: when it reached a final status.
        exit_code: of the last try.
        error: why it failed.
        try_number: number of the last try, from 1; 0 before the first.
        written: what a step that did not succeed wrote to itself (:class:`Written` as JSON); a step that
            succeeded has it in its result.
    """

    run_id: str
    step_id: str
    step_run_id: str
    name: str
    position: int
    status: StepStatus = "not_started"
    decision: Literal["reuse", "run", "later"] = "later"
    reason: str = ""
    fingerprint: Digest | None = None
    derivation: Digest | None = None
    components: dict[str, JsonValue] | None = None
    result_id: str | None = None
    reused_from: str | None = None
    saved_s: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    error: str | None = None
    try_number: int = 0
    written: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Stop:
    """A request to end a run before its time; the first one stands.

    Attributes:
        by: ``cancel`` (a person) or ``failure`` (a step failed and the run does not continue past failures).
        reason: what to tell people.
        at: when.
    """

    by: Literal["cancel", "failure"]
    reason: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class Lease:
    """The right of one step to compute a result while others that need it wait.

    Attributes:
        fingerprint: key of the result.
        run_id: the holder's run.
        step_run_id: the holder.
        token: names this lease; whoever takes it over has another one.
        acquired_at: when it was taken.
        heartbeat_at: the holder's last sign of life.
        expires_at: when the next one is overdue.
        doubted_at: when somebody who waits saw that it was overdue, or None.
    """

    fingerprint: Digest
    run_id: str
    step_run_id: str
    token: str
    acquired_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    doubted_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class DatastoreRow:
    """A registered datastore: name, fsspec URL, options without secrets."""

    name: str
    url: str
    options: dict[str, JsonValue] = field(default_factory=dict)
    is_default: bool = False


@dataclass(slots=True, kw_only=True)
class DatasetRow:
    """One version of a registered dataset.

    Attributes:
        id: a UUID.
        name: its name.
        version: counts from 1.
        spec: the :class:`DatasetSpec` as JSON.
        digest: content identity when it was registered.
        description: free text.
        tags: free texts by name.
        run_id: id of the step run that registered it, or None.
        created_at: when.
    """

    id: str
    name: str
    version: int
    spec: dict[str, JsonValue]
    digest: Digest
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    run_id: str | None = None
    created_at: datetime


@dataclass(slots=True, kw_only=True)
class EnvironmentRow:
    """One version of a registered environment: the :class:`EnvironmentSpec` as JSON."""

    name: str
    version: str
    spec: dict[str, JsonValue]


@dataclass(slots=True, kw_only=True)
class ModelRow:
    """One version of a registered model.

    Attributes:
        id: ``name:version``, as v1 has it.
        name: its name.
        version: counts from 1.
        path: of the file or folder in the default datastore.
        digest: of its content.
        size_bytes: of its content.
        run_id: the run that registered it, or None.
        framework: v1's ``model_framework``, or None.
        framework_version: v1's ``model_framework_version``, or None.
        description: free text.
        tags: free texts by name.
        properties: fixed texts by name.
        created_at: when.
    """

    id: str
    name: str
    version: int
    path: str
    digest: Digest
    size_bytes: int
    run_id: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    created_at: datetime
