"""Where a step's files will lie in its pod: decided before the pod is made, because its specification names them.

Nothing is read: a datastore is asked at most whether a path is a file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.execution.carrier import Order
from airflow_mlpipe.execution.contract import ContextInput, StagedInput, StepContext
from airflow_mlpipe.execution.direct import copies_of, places_of_stores
from airflow_mlpipe.execution.inputs import NO_COPIES, own_place, source_of, told_of
from airflow_mlpipe.execution.stage import context_of
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec
from airflow_mlpipe.storage.datastore import LocalStore, check_files
from airflow_mlpipe.storage.outputs import place_of
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.wildcard import is_pattern


def decide(order: Order, store: Stores, work: Path) -> tuple[StepContext, dict[str, str]]:
    """Return what the step's process will be told, and where its inputs are laid out.

    Args:
        order: the try.
        store: opens a datastore by name.
        work: folder of the try in the pod.

    Raises:
        MissingDataError: if an input has not been made.
        PipelineError: if a ``path_on_compute`` cannot be had.
        ServiceError: if a datastore cannot be reached or refuses.
    """
    step, run = order.step, order.run
    shown = places_of_stores(step, order.inputs, store, work, in_place=True)
    copies = copies_of(shown, work)
    laid = {port.name: laid_out_path(port, order.inputs[port.name], store, work, copies) for port in step.inputs}
    given = {port.name: _given(port, order.inputs[port.name], laid[port.name], work) for port in step.inputs}
    outputs = {
        port.name: place_of(port, run.step_run_id, check_files(store(port.datastore)), work) for port in step.outputs
    }
    context = context_of(step, run, given, outputs, work / "events.jsonl", shown)
    return context, {name: str(path) for name, path in laid.items() if path is not None}


def laid_out_path(
    port: InputSpec, known: StagedInput, store: Stores, work: Path, copies: Mapping[str, LocalStore] = NO_COPIES
) -> Path | None:
    """Return where staging lays an input out, wherever the step finds it in the end; None for one without a path.

    Errors: see :func:`decide`.
    """
    source, place = source_of(port, known), own_place(port, work)
    if port.mode == "direct" and isinstance(source, DatasetSpec):
        return None
    dataset = source if isinstance(source, DatasetSpec) else DatasetSpec(kind="file", sources=(source,))
    if len(dataset.sources) > 1 or dataset.operations:
        return place
    (only,) = dataset.sources
    opened = check_files(store(only.datastore))
    if port.mode == "direct" and only.datastore in copies:
        return copies[only.datastore].path_of(only.path)
    refers = isinstance(source, DatastorePath) and known.record is None and port.mode == "mount"
    if port.mode == "download" or not isinstance(opened, LocalStore):
        return place / PurePosixPath(only.path).name if _is_file(only, known, store, refers) else place
    path = opened.path_of(only.path)
    if isinstance(port.source, DatastorePath) or (path.exists() and (path.is_file() or only.path)):
        return path
    return place


def wanted_elsewhere(port: InputSpec) -> PurePosixPath | None:
    """Return the absolute place at which an input is wanted: only the pod's specification can put it there.

    Raises:
        PipelineError: if it is no place of its own.
    """
    wanted = port.path_on_compute
    if wanted is None or not posixpath.isabs(wanted):
        return None
    if posixpath.normpath(wanted) != wanted.rstrip("/") or ":" in wanted:
        raise PipelineError(
            f"input '{port.name}': path_on_compute '{wanted}' cannot be had in a pod; use an absolute path without "
            "'..', '//' and ':', or a relative one"
        )
    return PurePosixPath(wanted.rstrip("/"))


def _given(port: InputSpec, known: StagedInput, laid: Path | None, work: Path) -> ContextInput:
    path = laid
    if path is not None and port.path_on_compute is not None:
        elsewhere = wanted_elsewhere(port)
        path = work / "code" / port.path_on_compute if elsewhere is None else Path(elsewhere)
    return told_of(port, source_of(port, known), known, path)


def _is_file(source: DatastorePath, known: StagedInput, store: Stores, refers: bool) -> bool:
    """Whether a copy of `source` is a file; of a DataReference that may be missing still, its own name counts."""
    if known.record is not None:
        return known.record.is_file
    if not source.path:
        return False
    opened = check_files(store(source.datastore))
    if isinstance(opened, LocalStore):
        return opened.path_of(source.path).is_file()
    if opened.is_file(source.path):
        return True
    return refers and not is_pattern(source.path) and not opened.exists(source.path)
