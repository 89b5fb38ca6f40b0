"""Whether everything that results, runs and models rest on is there, and, if asked, is what was recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import MlpipeError, NotFoundError, StorageError
from airflow_mlpipe.model.digest import Digest, short
from airflow_mlpipe.model.result import OutputRecord, StepResult
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.storage.archive import check_snapshot
from airflow_mlpipe.storage.datastore import LocalStore, Store, check_files
from airflow_mlpipe.storage.documents import DefaultDocuments, Documents
from airflow_mlpipe.storage.ledger import NEWER, read_model, read_result
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.outputs import check_output, read_output
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.tree import tree_digest

MEND = "'mlpipe catalog rebuild' writes it"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        subject: what it is about, for people.
        text: what is wrong.
        result_id: the result whose bytes are in doubt, or None.
    """

    subject: str
    text: str
    result_id: str | None = None

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(slots=True)
class Verified:
    """What was looked at, and what was found.

    Attributes:
        results: number of results looked at.
        doubtful: number of results that were known to be doubtful, and were not looked at.
        outputs: number of outputs looked at.
        files: number of their files.
        size_bytes: sum of the sizes of these.
        snapshots: number of snapshots looked at.
        models: number of versions of models looked at.
        problems: what is wrong.
        marked: number of results that were marked doubtful.
    """

    results: int = 0
    doubtful: int = 0
    outputs: int = 0
    files: int = 0
    size_bytes: int = 0
    snapshots: int = 0
    models: int = 0
    problems: list[Problem] = field(default_factory=list)
    marked: int = 0


def verify(
    catalog: Catalog,
    store: Stores,
    default: DefaultDocuments,
    *,
    read_data: bool = False,
    mark: bool = True,
) -> Verified:
    """Look at every result that a run may take, every snapshot and every registered model.

    Args:
        catalog: the workspace's catalog.
        store: opens a datastore by name.
        default: the default datastore.
        read_data: read and hash every byte, whatever the stat index knows; else only structure is checked.
        mark: whether a result with damaged bytes is marked doubtful, so that no run takes it.
    """
    work = _Verification(catalog, store, default, read_data)
    work.results()
    work.snapshots()
    work.models()
    for problem in work.done.problems if mark else ():
        if problem.result_id is not None and catalog.doubt_of(problem.result_id) is None:
            catalog.mark_doubtful(problem.result_id, problem.text)
            work.done.marked += 1
    return work.done


class _Verification:
    def __init__(self, catalog: Catalog, store: Stores, default: DefaultDocuments, read_data: bool) -> None:
        self.done = Verified()
        self._catalog = catalog
        self._store = store
        self._default = default
        self._read_data = read_data
        self._manifests: dict[tuple[str, Digest], bool] = {}
        # Remote datastores that have answered, and any that are not there.
        self._asked: set[str] = set()
        self._away: set[str] = set()

    def results(self) -> None:
        for kept in self._catalog.keeper.kept_results():
            if kept.doubtful is not None:
                self.done.doubtful += 1
                continue
            self.done.results += 1
            if kept.result is None:
                self._problem(f"result {kept.id}", "its row in the catalog cannot be read by this version")
                continue
            subject = f"result {kept.id} of step '{kept.result.step}'"
            for text, in_doubt in self._of_result(kept.result):
                # It may have been collected, or found out by a run, since it was listed.
                if self._catalog.doubt_of(kept.id) is None:
                    self._problem(subject, text, kept.id if in_doubt else None)

    def _of_result(self, result: StepResult) -> Iterator[tuple[str, bool]]:
        """Give what is wrong with a result, and whether its bytes are in doubt by it."""
        record = read_result(result.id, self._default)
        if record.record is None and record.problem != NEWER:
            yield f"its record is {record.problem} in {self._default.name}: {record.path}; {MEND}", False
        elif record.record is not None and record.record.result != result:
            yield f"its record says something else than the catalog ({self._default.name}: {record.path})", False
        for output in result.outputs:
            store = self._opened(output.datastore)
            if store is None:
                continue
            try:
                problem = self._of_output(output, store)
            except MlpipeError as error:
                # It went away, or did not give the bytes now: they may be whole.
                yield f"output '{output.name}' cannot be looked at: {error.message}", False
                self._asked.discard(output.datastore)
                continue
            self.done.outputs += 1
            self.done.files += output.files
            self.done.size_bytes += output.size_bytes
            if problem is not None:
                yield problem, True
            elif not self._has_manifest(output.digest, store):
                # Rebuilding would have to read all of an output elsewhere.
                mend = MEND if isinstance(store, LocalStore) else "its step writes it when it runs again"
                where = self._keeper(store).name
                yield f"the manifest of output '{output.name}' is missing from {where}; {mend}", False

    def _of_output(self, output: OutputRecord, store: Store) -> str | None:
        return check_output(output, store) or (read_output(output, store) if self._read_data else None)

    def _opened(self, name: str) -> Store | None:
        """Return a datastore, or None if it is not there: one problem, not one for each of its results."""
        if name in self._away:
            return None
        try:
            store = check_files(self._store(name))
            if isinstance(store, LocalStore):
                if not store.root.is_dir():
                    raise StorageError(f"its folder '{store.root}' is not there; mount it, or register it anew")
            elif name not in self._asked:
                store.exists("")
                self._asked.add(name)
            return store
        except MlpipeError as error:
            self._away.add(name)
            self._problem(f"datastore '{name}'", error.message)
        return None

    def _keeper(self, store: Store) -> Documents:
        """Return what keeps the manifests of outputs in `store`."""
        return store if isinstance(store, LocalStore) else self._default

    def _has_manifest(self, digest: Digest, store: Store) -> bool:
        kept = self._keeper(store)
        key = kept.name, digest
        if key not in self._manifests:
            self._manifests[key] = read_manifest(digest, kept, remove_damaged=False) is not None
        return self._manifests[key]

    def snapshots(self) -> None:
        seen: set[Digest] = set()
        for digest in {run.spec_digest for run in self._catalog.list_runs()}:
            try:
                spec = PipelineSpec.from_json(self._catalog.get_spec(digest))
            except (NotFoundError, ValueError):
                self._problem(f"pipeline spec {short(digest)}", "it is missing from the catalog, or cannot be read")
                continue
            for step in spec.steps:
                if step.snapshot is None or step.snapshot in seen or self._opened(self._default.name) is None:
                    continue
                seen.add(step.snapshot)
                self.done.snapshots += 1
                text = check_snapshot(step.snapshot, self._default, read_data=self._read_data)
                if text is not None:
                    self._problem(f"snapshot {short(step.snapshot)} of step '{step.name}'", text)

    def models(self) -> None:
        for row in self._catalog.list_models():
            if self._opened(self._default.name) is None:
                return
            self.done.models += 1
            kept = self._default.holder(row.path)
            try:
                digest = _digest(row.path, kept) if self._read_data else None
            except MlpipeError as error:
                self._problem(f"model '{row.id}'", error.message)
                continue
            if not kept.exists(row.path):
                self._problem(f"model '{row.id}'", f"its bytes are missing from {kept.name}: {row.path}")
            elif digest is not None and digest != row.digest:
                self._problem(f"model '{row.id}'", f"{kept.name}: {row.path} has changed bytes")
            elif (problem := read_model(row.name, row.version, self._default)[1]) not in ("", NEWER):
                self._problem(f"model '{row.id}'", f"its record is {problem}; {MEND}")

    def _problem(self, subject: str, text: str, result_id: str | None = None) -> None:
        self.done.problems.append(Problem(subject, text, result_id))


def _digest(path: str, store: Documents) -> Digest:
    """Return the digest of a file or folder, every byte of it read."""
    if isinstance(store, LocalStore):
        return tree_digest(store.path_of(path)).digest
    with tempfile.TemporaryDirectory(prefix="mlpipe-verify-") as folder:
        copy = Path(folder, "copy")
        store.copy_out(path, copy)
        return tree_digest(copy).digest
