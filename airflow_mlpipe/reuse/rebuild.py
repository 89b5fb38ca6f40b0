"""A catalog made again from the records of its stores: structure is checked, no byte is read."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.restoring import UNKNOWN_STEP, model_row
from airflow_mlpipe.catalog.rows import RunRow, StepRow
from airflow_mlpipe.errors import MlpipeError
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.record import ResultRecord
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.ledger import Found, list_models, list_results, model_versions, read_spec
from airflow_mlpipe.storage.outputs import check_output
from airflow_mlpipe.storage.selection import Stores


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did.

    Attributes:
        results: how many results were put back.
        runs: ids of the runs that were put back.
        models: how many versions of models were put back.
        known: how many results with a record the catalog knew already.
        foreign: how many records are of other workspaces, or of nobody; they are not taken.
        left_out: path and reason of each record that was not taken.
    """

    results: int = 0
    runs: list[str] = field(default_factory=list)
    models: int = 0
    known: int = 0
    foreign: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def rebuild(catalog: Catalog, records: Iterable[Documents], store: Stores, workspace_id: str) -> Rebuilt:
    """Put back into a catalog what it does not have and the records of its stores tell of.

    Args:
        catalog: the catalog; what it has stays as it is.
        records: the datastores in which to look for records.
        store: opens a datastore by name.
        workspace_id: whose records to take: several workspaces may share a datastore, but no results.

    Raises:
        StorageError: if a store cannot be listed.
    """
    work = _Rebuild(catalog, store, workspace_id)
    for kept in records:
        for found in list_results(kept):
            work.take(found, kept)
        work.take_models(kept)
    for run_id in work.done.runs:
        catalog.keeper.close_restored_run(run_id)
    return work.done


class _Rebuild:
    def __init__(self, catalog: Catalog, store: Stores, workspace_id: str) -> None:
        self.done = Rebuilt()
        self._catalog = catalog
        self._keeper = catalog.keeper
        self._store = store
        self._workspace_id = workspace_id
        self._results = {kept.id for kept in self._keeper.kept_results()}
        self._runs = {run.id for run in catalog.list_runs()}
        self._specs: dict[Digest, PipelineSpec | None] = {}

    def take(self, found: Found, kept: Documents) -> None:
        record = found.record
        if record is not None and not self._is_ours(record.workspace):
            self.done.foreign += 1
            return
        if record is not None and record.result.id in self._results:
            self.done.known += 1
            return
        problem = found.problem if record is None else self._problem(record)
        if record is not None and not problem:
            problem = self._put_back(record, found.written_ns, kept)
        if problem:
            self.done.left_out.append((found.path, problem))

    def _is_ours(self, workspace_id: object) -> bool:
        return bool(workspace_id) and workspace_id == self._workspace_id

    def _problem(self, record: ResultRecord) -> str:
        for output in record.result.outputs:
            try:
                problem = check_output(output, check_files(self._store(output.datastore)))
            except MlpipeError as error:
                return error.message
            if problem is not None:
                return problem
        return ""

    def _put_back(self, record: ResultRecord, written_ns: int, kept: Documents) -> str:
        spec = self._spec(record, kept)
        run, step = _run_row(record), _step_row(record)
        others = [] if spec is None else _others(spec, run, step)
        # By the store's clock: that of the machine that committed it may have been wrong.
        created_at = datetime.fromtimestamp(written_ns / 1e9, UTC)
        outcome = self._keeper.restore_result(record.result, run, step, others, created_at)
        if outcome not in ("added", "known"):
            return outcome
        self._results.add(record.result.id)
        self.done.results += 1
        if run.id not in self._runs:
            self._runs.add(run.id)
            self.done.runs.append(run.id)
        return ""

    def _spec(self, record: ResultRecord, kept: Documents) -> PipelineSpec | None:
        digest = record.run.spec_digest
        if digest not in self._specs:
            self._specs[digest] = None
            text = read_spec(digest, kept)
            if text is not None:
                self._catalog.put_spec(digest, text)
                try:
                    self._specs[digest] = PipelineSpec.from_json(text)
                except ValueError:
                    # Of a newer version: kept for it, and of no use here.
                    self._specs[digest] = None
        return self._specs[digest]

    def take_models(self, kept: Documents) -> None:
        for path, fields, problem in list_models(kept):
            if fields is not None and not self._is_ours(fields.pop("workspace", None)):
                self.done.foreign += 1
                continue
            try:
                row = None if fields is None else model_row(fields)
            except (TypeError, ValueError, KeyError):
                row, problem = None, "damaged"
            if row is None:
                self.done.left_out.append((path, problem))
            elif not kept.exists(row.path):
                self.done.left_out.append((path, f"its bytes are missing from {kept.name}: {row.path}"))
            else:
                self.done.models += self._keeper.restore_model(row)
        for name, newest in model_versions(kept).items():
            self._keeper.reserve_model_versions(name, newest)


def _run_row(record: ResultRecord) -> RunRow:
    return RunRow(
        **{name: getattr(record.run, name) for name in type(record.run).model_fields},
        status="Completed",
        ended_at=record.result.ended_at,
    )


def _step_row(record: ResultRecord) -> StepRow:
    result = record.result
    return StepRow(
        **{name: getattr(record.step, name) for name in type(record.step).model_fields if name != "derivation"},
        run_id=record.run.id,
        status="completed",
        decision="run",
        fingerprint=result.fingerprint,
        derivation=result.derivation,
        components=result.components,
        result_id=result.id,
        ended_at=result.ended_at,
        exit_code=0,
    )


def _others(spec: PipelineSpec, run: RunRow, step: StepRow) -> list[StepRow]:
    return [
        StepRow(
            run_id=run.id,
            step_id=each.id,
            step_run_id=str(uuid.uuid4()),
            name=each.name,
            position=position,
            status="not_run",
            reason=UNKNOWN_STEP,
        )
        for position, each in enumerate(spec.steps)
        if each.id != step.step_id
    ]
