"""One try of a step from beginning to end, as every engine does it, whatever carries it out."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotFoundError, ServiceError, StorageError
from airflow_mlpipe.execution.carrier import Carried, Carrier, Order
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput
from airflow_mlpipe.execution.deliver import publish, register
from airflow_mlpipe.execution.here import Here, LocalLauncher
from airflow_mlpipe.execution.model_versions import add_wanted
from airflow_mlpipe.execution.recording import keep_record
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.execution.versions import changed_versions
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, StepOutputRef
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.result import ObservedInput, StepResult
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.content import keep_source

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKey:
    """Which execution this is: what its result will answer to.

    Attributes:
        fingerprint: the key.
        derivation: the key that fetches candidates.
        components: the named parts of the key; ``inputs`` holds the content digest of each port.
        reason: why the step runs, for people.
    """

    fingerprint: Digest
    derivation: Digest
    components: Mapping[str, JsonValue]
    reason: str


def _now() -> datetime:
    return datetime.now(UTC)


def run_attempt(
    step: StepSpec,
    run: RunIdentity,
    key: StepKey,
    results: Mapping[str, StepResult],
    site: Site,
    *,
    carrier: Carrier | None = None,
    number: int = 1,
    resumed: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    on_line: Callable[[str, str], None] | None = None,
    now: Callable[[], datetime] = _now,
) -> StepResult:
    """Run a step once and commit its result.

    The step's row says ``running`` from the beginning and ``completed`` from the moment the result exists. If this
    raises, the row holds what the step wrote and its exit code; the caller gives it its next status, because only
    the caller knows whether another try follows.

    Args:
        step: the step.
        run: which run it belongs to.
        key: which execution it is.
        results: of the steps whose outputs it reads, by step id.
        site: the workspace.
        carrier: what carries it out; by default a process of this machine.
        number: of this try, from 1.
        resumed: whether it has begun before and given its slot back since.
        stop: asked every 0.25 s; an answer other than None is the reason to end the step.
        on_line: given each line that the step prints, with ``stdout`` or ``stderr``.
        now: the clock, aware UTC.

    Raises:
        StepPaused: if it goes on later.
        StepStoppedError: if it was ended on request.
        ExecutionError: if it failed; see :func:`~airflow_mlpipe.execution.collect.collect`.
        UsageError: if it cannot be staged or started as it is written.
        StorageError: if data is missing or cannot be written.
    """
    order = Order(
        step=step,
        run=run,
        inputs=staged_inputs(step, key, results),
        number=number,
        resumed=resumed,
        stop=stop,
        on_line=on_line,
        now=now,
    )
    return carry_out(order, key, site, carrier or Here(LocalLauncher()))


def carry_out(order: Order, key: StepKey, site: Site, carrier: Carrier) -> StepResult:
    """Carry out a try from beginning to end. Errors are those of :func:`run_attempt`."""
    begin_attempt(order, key, site)
    return finish_attempt(order, key, carrier.carry(order, site), site)


def begin_attempt(order: Order, key: StepKey, site: Site) -> None:
    """Note that a try begins, and why; keep what a later run needs to say what is different."""
    if order.resumed:
        # It is all noted.
        return
    site.catalog.update_step(
        order.run.run_id,
        order.step.id,
        status="running",
        started_at=order.now(),
        try_number=order.number,
        decision="run",
        reason=key.reason,
        fingerprint=key.fingerprint,
        derivation=key.derivation,
        components=dict(key.components),
    )
    _keep_names(order.step, key, site)


def finish_attempt(order: Order, key: StepKey, carried: Carried, site: Site) -> StepResult:
    """Commit the result of a try that ended well and return the one that its run goes on with.

    Raises:
        StorageError: if a copy that the user asked for, or the record of the result, cannot be written.
        ServiceError: if the catalog cannot be reached.
    """
    step, run_id = order.step, order.run.run_id
    try:
        publish(step, carried.collected.outputs, site.store, site.index)
        register(step, carried.collected.outputs, order.run.step_run_id, site.catalog, site.content)
        add_wanted(carried.kept.models, order.run.workspace, site)
    except BaseException as error:
        carried.give_up(error)
        raise
    result = _result(order, key, carried)
    _keep_names_of_observed(step, carried.kept.observed, site)
    site.catalog.add_written(run_id, carried.kept.parent_written)
    # Before the row, which promises that a lost catalog can be made again.
    keep_record(result, site.workspace_id, step.id, site.catalog, site.store, site.default, is_new=True)
    result = _committed(result, run_id, step.id, site.catalog)
    for warning in carried.collected.warnings:
        _log.warning("step '%s': %s", step.name, warning)
    carried.discard()
    return result


def staged_inputs(step: StepSpec, key: StepKey, results: Mapping[str, StepResult]) -> dict[str, StagedInput]:
    """Return what is known of each input of a step before it starts."""
    staged = {}
    for port in step.inputs:
        record = None
        if isinstance(port.source, StepOutputRef) and port.source.step in results:
            outputs = results[port.source.step].outputs
            record = next((each for each in outputs if each.name == port.source.output), None)
        staged[port.name] = StagedInput(key.components["inputs"][port.name], record)
    return staged


def _keep_names(step: StepSpec, key: StepKey, site: Site) -> None:
    """Keep the names of the files that the step reads, so that the reason of a later run can name those that differ.

    Also tells of registered versions whose files differ from those that were registered.
    """
    for text in changed_versions(step, key.components["inputs"], site.catalog, site.store, site.default, site.index):
        _log.warning("step '%s': %s", step.name, text)
    for port in step.inputs:
        source = port.bound
        if not isinstance(source, StepOutputRef):
            _keep(step, key.components["inputs"][port.name], source, site)


def _keep_names_of_observed(step: StepSpec, observed: Iterable[ObservedInput], site: Site) -> None:
    """Do the same for the datasets that the step has looked up by name."""
    for seen in observed:
        if seen.kind == "dataset" and seen.digest is not None:
            with suppress(NotFoundError):
                row = site.catalog.get_dataset(seen.name, seen.resolved)
                _keep(step, seen.digest, DatasetSpec.model_validate(row.spec), site)


def _keep(step: StepSpec, digest: Digest, source: DatasetSpec | DatastorePath, site: Site) -> None:
    try:
        keep_source(digest, source, site.store, site.default, site.index)
    except (StorageError, ServiceError) as error:
        # Only an explanation is lost by it; what matters to the step is noticed by the step.
        _log.warning("step '%s': the names of the files it reads are not kept: %s", step.name, error.message)


def _committed(result: StepResult, run_id: str, step_id: str, catalog: Catalog) -> StepResult:
    """Commit a result and return the one that the run goes on with."""
    if not catalog.commit_result(result, run_id, step_id):
        pinned = catalog.step(run_id, step_id).result_id
        if pinned is not None:
            # Two tries ran at once, because one was frozen and taken for dead; the run never mixes their outputs.
            return catalog.get_result(pinned)
    return result


def _result(order: Order, key: StepKey, carried: Carried) -> StepResult:
    result_id = str(uuid.uuid4())
    fingerprint, derivation = key.fingerprint, key.derivation
    if not carried.collected.reusable:
        # Keys that no plan ever asks for: there is no moment in which another run could take the result.
        fingerprint = digest_json("not reusable", [fingerprint, result_id])
        derivation = digest_json("not reusable", [derivation, result_id])
    return StepResult(
        id=result_id,
        fingerprint=fingerprint,
        derivation=derivation,
        components=dict(key.components),
        run_id=order.run.run_id,
        step_run_id=order.run.step_run_id,
        pipeline=order.run.pipeline,
        step=order.step.name,
        outputs=carried.collected.outputs,
        written=carried.kept.written,
        parent_written=carried.kept.parent_written,
        observed=carried.kept.observed,
        started_at=carried.exit.started_at,
        ended_at=carried.exit.ended_at,
    )
