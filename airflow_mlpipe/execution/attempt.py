"""One try of a step from beginning to end, as every engine does it."""

from __future__ import annotations

import errno
import logging
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import MlpipeError, NotFoundError, ServiceError, StorageError
from airflow_mlpipe.execution.collect import Collected, collect
from airflow_mlpipe.execution.contract import RunIdentity, StagedInput, StepJob, step_run_folder, try_folder
from airflow_mlpipe.execution.deliver import publish, register
from airflow_mlpipe.execution.kept import Kept, keep
from airflow_mlpipe.execution.launch import Exit, launch
from airflow_mlpipe.execution.lent import Credentials, lend, take_back
from airflow_mlpipe.execution.processes import end_carriers, mark_of
from airflow_mlpipe.execution.recording import keep_record
from airflow_mlpipe.execution.report import full_disk
from airflow_mlpipe.execution.stage import discard, stage
from airflow_mlpipe.execution.versions import changed_versions
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, StepOutputRef
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.result import ObservedInput, StepResult
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.content import keep_source
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.mount_points import release_mounts
from airflow_mlpipe.storage.outputs import sweep_attempt
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The workspace that a step runs in.

    Attributes:
        catalog: its catalog.
        store: opens a datastore by name.
        default: the default datastore, which keeps snapshots and the files of runs.
        index: its stat index.
        content: identity of a dataset or DataReference now, as keys have it.
        passed: names or patterns of variables that steps inherit in addition (setting ``pass_environment``).
        workspace_id: of the workspace.
        credentials: looks up what a step's script is lent.
        lent: datastores whose credentials every step is lent (setting ``pass_credentials``).
    """

    catalog: Catalog
    store: Stores
    default: Documents
    index: StatIndex
    content: Callable[[DatasetSpec | DatastorePath], Digest]
    passed: Collection[str] = ()
    workspace_id: str = ""
    credentials: Credentials = lambda name: {}
    lent: Collection[str] = ()


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
    number: int = 1,
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
        number: of this try, from 1.
        stop: asked every 0.25 s; an answer other than None is the reason to end the step.
        on_line: given each line that the step prints, with ``stdout`` or ``stderr``.
        now: the clock, aware UTC.

    Raises:
        StepStoppedError: if it was ended on request.
        ExecutionError: if it failed; see :func:`~airflow_mlpipe.execution.collect.collect`.
        UsageError: if it cannot be staged or started as it is written.
        StorageError: if data is missing or cannot be written.
    """
    site.catalog.update_step(
        run.run_id,
        step.id,
        status="running",
        started_at=now(),
        try_number=number,
        decision="run",
        reason=key.reason,
        fingerprint=key.fingerprint,
        derivation=key.derivation,
        components=dict(key.components),
    )
    _keep_names(step, key, site)
    _end_earlier_tries(run)
    job = stage(
        step,
        run,
        _staged(step, key, results),
        store=site.store,
        default=site.default,
        work=try_folder(run.workspace, run.step_run_id, number),
        passed=site.passed,
    )
    exit: Exit | None = None
    kept: Kept | None = None
    try:
        exit = _launched(job, site, stop, on_line, now)
        kept = keep(job, site.default)
        collected = _collect(job, exit, kept, site)
        publish(step, collected.outputs, site.store, site.index)
        register(step, collected.outputs, site.catalog, site.content)
    except BaseException as error:
        if _no_room(error, job):
            _sweep_outputs(job, site)
        _keep_failure(job, exit, kept, site, number)
        raise
    result = _result(job, key, exit, kept, collected)
    _keep_names_of_observed(step, kept.observed, site)
    site.catalog.add_written(run.run_id, kept.parent_written)
    # Before the row, which promises that a lost catalog can be made again.
    keep_record(result, site.workspace_id, step.id, site.catalog, site.store, site.default)
    result = _committed(result, run.run_id, step.id, site.catalog)
    for warning in collected.warnings:
        _log.warning("step '%s': %s", step.name, warning)
    discard(job)
    # Folders of earlier tries, kept to look into a failure, have nothing to tell any more.
    shutil.rmtree(job.work.parent, ignore_errors=True)
    return result


def _launched(
    job: StepJob,
    site: Site,
    stop: Callable[[], str | None],
    on_line: Callable[[str, str], None] | None,
    now: Callable[[], datetime],
) -> Exit:
    try:
        lend(job, site.credentials, site.lent)
        return launch(job, stop=stop, on_line=on_line, now=now)
    finally:
        take_back(job)


def _collect(job: StepJob, exit: Exit, kept: Kept, site: Site) -> Collected:
    # What was kept may have been read there; from now on all that it had to say is known.
    job.close_mounts()
    return collect(job, exit, kept, store=site.store, content=site.content, index=site.index, manifests=site.default)


def _end_earlier_tries(run: RunIdentity) -> None:
    """End what is left of a try that is still being ended: it would write to the places of the next one.

    Mounts of one that was killed are taken away, before anything removes its folder.
    """
    tries = step_run_folder(run.workspace.absolute(), run.step_run_id)
    if tries.exists():
        end_carriers(f"{mark_of(tries)}/")
        release_mounts(tries)


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


def _staged(step: StepSpec, key: StepKey, results: Mapping[str, StepResult]) -> dict[str, StagedInput]:
    staged = {}
    for port in step.inputs:
        record = None
        if isinstance(port.source, StepOutputRef) and port.source.step in results:
            outputs = results[port.source.step].outputs
            record = next((each for each in outputs if each.name == port.source.output), None)
        staged[port.name] = StagedInput(key.components["inputs"][port.name], record)
    return staged


def _keep_failure(job: StepJob, exit: Exit | None, kept: Kept | None, site: Site, number: int) -> None:
    """Keep what a failed try leaves. Why it failed matters more than what cannot be kept: that is only logged."""
    try:
        try:
            _note_failure(job, exit, kept, site, number)
        except StorageError:
            # Most likely the step has filled the disk.
            _sweep_outputs(job, site)
            _note_failure(job, exit, kept, site, number)
        finally:
            job.close_mounts()
    except MlpipeError as error:
        _log.warning("step '%s': what it wrote could not be kept: %s", job.step.name, error.message)


def _no_room(error: BaseException, job: StepJob) -> bool:
    """Whether a try failed because a disk is full, or has left it full."""
    cause = error.__cause__
    refused = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return refused or full_disk([job.work, *(path.parent for path in job.outputs.values())]) is not None


def _sweep_outputs(job: StepJob, site: Site) -> None:
    """Remove what the try wrote to its outputs: no result, and the record of its failure and later runs need room."""
    for name in {port.datastore for port in job.step.outputs}:
        try:
            sweep_attempt(job.context.step_run_id, check_files(site.store(name)))
        except MlpipeError as error:
            _log.warning("step '%s': its outputs could not be removed: %s", job.step.name, error.message)


def _note_failure(job: StepJob, exit: Exit | None, kept: Kept | None, site: Site, number: int) -> None:
    """Keep what a try leaves that gives no result, and make room: copies of inputs are of no more use."""
    kept = keep(job, site.default) if kept is None else kept
    run_id = job.context.run_id
    site.catalog.add_written(run_id, kept.parent_written)
    code = None if exit is None else exit.code
    written = kept.written.model_dump(mode="json")
    site.catalog.update_step(run_id, job.step.id, of_try=number, written=written, exit_code=code)
    for link in job.links:
        link.unlink(missing_ok=True)
    job.close_mounts()
    shutil.rmtree(job.work / "inputs", ignore_errors=True)


def _result(job: StepJob, key: StepKey, exit: Exit, kept: Kept, collected: Collected) -> StepResult:
    result_id = str(uuid.uuid4())
    fingerprint, derivation = key.fingerprint, key.derivation
    if not collected.reusable:
        # Keys that no plan ever asks for: there is no moment in which another run could take the result.
        fingerprint = digest_json("not reusable", [fingerprint, result_id])
        derivation = digest_json("not reusable", [derivation, result_id])
    return StepResult(
        id=result_id,
        fingerprint=fingerprint,
        derivation=derivation,
        components=dict(key.components),
        run_id=job.context.run_id,
        step_run_id=job.context.step_run_id,
        pipeline=job.context.pipeline,
        step=job.step.name,
        outputs=collected.outputs,
        written=kept.written,
        parent_written=kept.parent_written,
        observed=kept.observed,
        started_at=exit.started_at,
        ended_at=exit.ended_at,
    )
