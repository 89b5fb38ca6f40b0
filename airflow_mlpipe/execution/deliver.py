"""What happens to outputs besides being committed: a copy where the user wants one, a version of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, OutputSpec
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.result import OutputRecord
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.outputs import attempt_path
from airflow_mlpipe.storage.published import publish_copy
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex


def publish(step: StepSpec, outputs: tuple[OutputRecord, ...], store: Stores, index: StatIndex | None = None) -> None:
    """Put a copy of each output that has a destination there, unless one lies there already.

    Also called for a reused result, whose copies may have been changed or removed since.

    Args:
        step: the step.
        outputs: its committed outputs.
        store: opens a datastore by name.
        index: remembers what was read.

    Raises:
        ParameterError: if a destination is not allowed.
        StorageError: if something cannot be read or written.
    """
    records = {record.name: record for record in outputs}
    for port in step.outputs:
        if port.destination is None:
            continue
        record, opened = records[port.name], check_files(store(port.datastore))
        destination = _destination(port, record)
        if destination != record.path:
            publish_copy(record, opened, destination, index)


def register(
    step: StepSpec,
    outputs: tuple[OutputRecord, ...],
    step_run_id: str,
    catalog: Catalog,
    content: Callable[[DatasetSpec | DatastorePath], Digest],
) -> None:
    """Register the outputs that ask for it as datasets; the same content again makes no new version.

    Not for a reused result: registrations are not replayed.
    """
    records = {record.name: record for record in outputs}
    for port in step.outputs:
        if port.register_as is None:
            continue
        wanted, record = port.register_as, records[port.name]
        source = DatastorePath(datastore=record.datastore, path=record.path)
        spec = wanted.view.of(source, is_file=record.is_file)
        # What a version pins is the content of its files, however they are read.
        digest = content(DatasetSpec(kind="file", sources=spec.sources))
        catalog.register_dataset(
            wanted.name,
            _known_spec(catalog, wanted.name, spec, digest) or spec,
            digest,
            description=wanted.description,
            tags=wanted.tags,
            create_new_version=True,
            run_id=step_run_id,
        )


def _known_spec(catalog: Catalog, name: str, spec: DatasetSpec, digest: Digest) -> DatasetSpec | None:
    """Return the newest version's definition if it means the same content, which lies at an earlier attempt's place."""
    try:
        newest = catalog.get_dataset(name)
    except NotFoundError:
        return None
    known = DatasetSpec.model_validate(newest.spec)
    read = known.kind, known.options, known.operations
    same = newest.digest == digest and read == (spec.kind, spec.options, spec.operations)
    return known if same else None


def _destination(port: OutputSpec, record: OutputRecord) -> str:
    # The attempt that made it, also when it is reused: a path that moved with each run would be written each time.
    attempt = PurePosixPath(record.path).parts[1]
    assert record.path == attempt_path(port.kind, attempt, port.name)
    return (port.destination or "").replace("{run-id}", attempt).replace("{output-name}", port.name)
