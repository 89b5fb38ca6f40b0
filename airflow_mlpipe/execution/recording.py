"""The record of a result in the store: everything that a lost catalog would need to know of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.record import RecordedRun, RecordedStep, ResultRecord
from airflow_mlpipe.model.result import StepResult
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.ledger import spec_path, write_result, write_spec
from airflow_mlpipe.storage.selection import Stores


def keep_record(
    result: StepResult,
    workspace_id: str,
    step_id: str,
    catalog: Catalog,
    store: Stores,
    default: Documents,
    *,
    is_new: bool = False,
) -> None:
    """Write the record of a result, and the spec of its run, to the default datastore.

    Args:
        result: what was computed.
        workspace_id: id of the workspace.
        step_id: the step that computed it.
        catalog: knows both.
        store: opens a datastore by name.
        default: the default datastore.
        is_new: whether the result was made just now; else a record that is there stays.

    Raises:
        NotFoundError: if the catalog knows no such run or step.
        StorageError: if it cannot be written.
    """
    run, step = catalog.get_run(result.run_id), catalog.step(result.run_id, step_id)
    _keep_spec(run.spec_digest, catalog, default)
    record = ResultRecord(
        result=result,
        run=RecordedRun(**_taken(run, RecordedRun)),
        step=RecordedStep(**_taken(step, RecordedStep)),
        workspace=workspace_id,
        datastores={name: store(name).url for name in sorted({each.datastore for each in result.outputs})},
        default_datastore=default.name,
    )
    write_result(record, default, is_new=is_new)


def _keep_spec(digest: Digest, catalog: Catalog, default: Documents) -> None:
    if default.renew(spec_path(digest)):
        return
    try:
        text = catalog.get_spec(digest)
    except NotFoundError:
        # Whoever made the run has not stored it: there is nothing to lose.
        return
    write_spec(digest, text, default)


def _taken(row: Any, kind: type[RecordedRun] | type[RecordedStep]) -> dict[str, Any]:
    wanted = kind.model_fields
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name in wanted}
