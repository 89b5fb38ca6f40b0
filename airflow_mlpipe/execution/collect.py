"""From the end of a step's process to its committed outputs, or to the reason why there are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.errors import ExecutionError, OutputMissingError, StepFailedError, StepStoppedError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.kept import Kept
from airflow_mlpipe.execution.launch import Exit
from airflow_mlpipe.execution.report import full_disk, last_lines, traceback_line
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.outputs import commit_output, verify_output
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex

_NEARBY = 5


@dataclass(frozen=True, slots=True)
class Collected:
    """What a step that succeeded gives.

    Attributes:
        outputs: its committed outputs, in the order of its ports.
        reusable: False if the step wrote into data that it also reads, so that its key does not describe it.
        warnings: what people should know, one line each.
    """

    outputs: tuple[OutputRecord, ...]
    reusable: bool = True
    warnings: tuple[str, ...] = ()


def collect(
    job: StepJob,
    exit: Exit,
    kept: Kept,
    *,
    store: Stores,
    content: Callable[[DatasetSpec | DatastorePath], Digest],
    index: StatIndex | None = None,
    manifests: Documents | None = None,
) -> Collected:
    """Check that the step did what it promises and commit its outputs.

    Args:
        job: what was launched.
        exit: how it ended.
        kept: what :func:`~airflow_mlpipe.execution.kept.keep` kept of it.
        store: opens a datastore by name.
        content: identity of a dataset or DataReference now; computed in the same way as before the step.
        index: remembers what was read.
        manifests: keeps the manifests of outputs in remote datastores: the default datastore.

    Raises:
        StepStoppedError: if it was ended on request.
        StepFailedError: if its process failed.
        ExecutionError: if its time was over, it called itself failed, or it changed an input.
        OutputMissingError: if it did not write a declared output.
        StorageError: if an output cannot be committed.
    """
    _check_end(job, exit, kept)
    warnings = list(kept.warnings)
    if exit.leftovers:
        warnings.append(f"processes that the step left behind were ended: {', '.join(exit.leftovers)}")
    changed = _check_inputs(job, store, content, index)
    for port in job.step.outputs:
        _check_written(port, job)
    outputs = tuple(
        commit_output(
            port,
            job.context.step_run_id,
            check_files(store(port.datastore)),
            index,
            place=job.outputs[port.name],
            manifests=manifests,
        )
        for port in job.step.outputs
    )
    # Last: nothing of a step that fails is uploaded.
    written = {reference.port for reference in job.references if reference.upload()}
    changed += [port for port in job.step.inputs if port.name in written and port not in changed]
    warnings += [_change_text(port) for port in changed]
    warnings += [f"output '{record.name}' is empty" for record in outputs if not record.files]
    return Collected(outputs, reusable=not changed, warnings=tuple(warnings))


def _check_end(job: StepJob, exit: Exit, kept: Kept) -> None:
    name = job.step.name
    if exit.stopped is not None:
        raise StepStoppedError(f"step '{name}' was stopped: {exit.stopped}")
    if exit.timed_out:
        text = f"step '{name}' was ended after its timeout of {job.step.timeout_s:g} s; its log: {kept.log}"
        raise ExecutionError("\n".join([text, *(f"    {line}" for line in last_lines(job.stdout, job.stderr))]))
    if exit.code != 0:
        raise StepFailedError(
            name,
            exit.code,
            log_path=kept.log,
            last_lines=last_lines(job.stdout, job.stderr),
            traceback_line=traceback_line(job.stderr, job.cwd),
            hint=exit.hint
            or job.mount_trouble
            or full_disk([job.work, *(path.parent for path in job.outputs.values())]),
        )
    if kept.failure is not None:
        raise ExecutionError(f"step '{name}' called itself failed: {kept.failure}; its log: {kept.log}")


def _check_inputs(
    job: StepJob, store: Stores, content: Callable[[DatasetSpec | DatastorePath], Digest], index: StatIndex | None
) -> list[InputSpec]:
    """Return the inputs that may change and did: DataReferences, which the step may write to, and databases.

    Raise for any other input that changed.
    """
    changed = []
    for port in job.step.inputs:
        known = job.inputs[port.name]
        source = port.bound
        if isinstance(source, StepOutputRef):
            assert known.record is not None  # stage() refuses such an input without one.
            problem = verify_output(known.record, check_files(store(known.record.datastore)), index)
        else:
            problem = None if content(source) == known.digest else "its content is not what it was"
        if problem is None:
            continue
        if isinstance(source, DatastorePath) or _is_query(port):
            changed.append(port)
            continue
        raise ExecutionError(
            f"step '{job.step.name}': its input '{port.name}' ({_shown(port)}) was changed while it ran: {problem}; "
            "inputs are read-only, use as_download() for a private copy that may be changed"
        )
    return changed


def _is_query(port: InputSpec) -> bool:
    return isinstance(port.source, DatasetSpec) and port.source.query is not None


def _change_text(port: InputSpec) -> str:
    if _is_query(port):
        return f"the database of input '{port.name}' has changed while the step ran: its result will not be reused"
    return f"the step wrote into its input '{port.name}' ({_shown(port)}): its result will not be reused"


def _shown(port: InputSpec) -> str:
    if port.label:
        return port.label
    read = port.bound
    if isinstance(read, StepOutputRef):
        return f"output '{read.output}' of step '{read.step}'"
    sources = read.sources if isinstance(read, DatasetSpec) else (read,)
    return ", ".join(f"{source.datastore}: {source.path or '/'}" for source in sources)


def _check_written(port: OutputSpec, job: StepJob) -> None:
    path = job.outputs[port.name]
    if os.path.lexists(path):
        return
    declared = set(job.outputs.values())
    near = [*_entries(path.parent), *_entries(job.cwd / "outputs")]
    found = [f"'{entry}'" for entry in near if entry not in declared][:_NEARBY]
    raise OutputMissingError(
        f"step '{job.step.name}' ended well but did not write its output '{port.name}': there is nothing at the path "
        f"it was given, '{path}'; nearby it wrote {', '.join(found) or 'nothing'}"
    )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
