"""What a plan knows of the world: the answers of one workspace's catalog, stores and stat index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import DatasetRow, ModelRow
from airflow_mlpipe.errors import MissingDataError, MlpipeError, NotFoundError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.result import ObservedInput, OutputRecord, StepResult, TreeManifest
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.reuse.plan import UNRESOLVED
from airflow_mlpipe.storage.content import source_digest, source_manifest
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.outputs import verify_output
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex

ABSENT = digest_json("absent", None)
"""Content of a DataReference that points at nothing yet: the step may be the one to write it (v1 allows it)."""

Row = TypeVar("Row", DatasetRow, ModelRow)

_log = logging.getLogger(__name__)


class WorkspaceFacts:
    """Answers a :class:`~airflow_mlpipe.reuse.plan.Planner` from a workspace."""

    def __init__(
        self,
        catalog: Catalog,
        store: Stores,
        manifests: Documents,
        index: StatIndex,
        environment: Callable[[StepSpec], Mapping[str, JsonValue]],
        code: Callable[[Digest], TreeManifest | None] = lambda digest: None,
    ) -> None:
        """Answer from these parts.

        Args:
            catalog: the workspace's catalog.
            store: opens a datastore by name.
            manifests: the store that keeps the manifests of trees: the default datastore.
            index: the workspace's stat index.
            environment: identity of the software of a step (``execution.environments``).
            code: finds the files of source directories that are not stored yet.
        """
        self._catalog = catalog
        self._store = store
        self._manifests = manifests
        self._index = index
        self.environment = environment
        self.home = manifests.name
        self._code = code
        self._sources: dict[Digest, DatasetSpec | DatastorePath] = {}

    def content(self, source: DatasetSpec | DatastorePath) -> Digest:
        """See :meth:`Facts.content`."""
        try:
            digest = source_digest(source, self._store, self._index)
        except MissingDataError:
            if isinstance(source, DatasetSpec):
                raise
            return ABSENT
        self._sources[digest] = source
        return digest

    def problem(self, output: OutputRecord) -> str | None:
        """See :meth:`Facts.problem`."""
        return verify_output(output, check_files(self._store(output.datastore)), self._index)

    def resolve(self, observed: ObservedInput, by: str) -> tuple[str, Digest | None]:
        """See :meth:`Facts.resolve`."""
        version = observed.version or "latest"
        try:
            if observed.kind == "dataset":
                dataset = self._catalog.get_dataset(observed.name, version)
                dataset = _of_others(dataset, observed, by, self._catalog.list_datasets)
                # Not the digest of its registration: the files under its paths may have changed since.
                return str(dataset.version), self.content(DatasetSpec.model_validate(dataset.spec))
            model = self._catalog.get_model(observed.name, version)
            model = _of_others(model, observed, by, self._catalog.list_models)
            return str(model.version), model.digest
        except (NotFoundError, MissingDataError):
            return UNRESOLVED, None

    def candidates(self, derivations: Sequence[Digest]) -> Mapping[Digest, Sequence[StepResult]]:
        """See :meth:`Facts.candidates`."""
        return self._catalog.candidates(derivations)

    def by_fingerprint(self, fingerprint: Digest) -> Sequence[StepResult]:
        """See :meth:`Facts.by_fingerprint`."""
        return self._catalog.by_fingerprint(fingerprint)

    def latest(self, pipeline: str, step: str, limit: int) -> Sequence[StepResult]:
        """See :meth:`Facts.latest`."""
        return self._catalog.nearest(pipeline, step, limit)

    def doubt(self, result: StepResult, reason: str) -> None:
        """See :meth:`Facts.doubt`."""
        _log.warning("result %s of step '%s' cannot be reused: %s", result.id, result.step, reason)
        self._catalog.mark_doubtful(result.id, reason)

    def doubt_of(self, result: StepResult) -> str | None:
        """See :meth:`Facts.doubt_of`."""
        return self._catalog.doubt_of(result.id)

    def trees(self, digest: Digest) -> TreeManifest | None:
        """Return the manifest of a tree, or None if it is not kept."""
        if digest == ABSENT:
            return TreeManifest()
        try:
            return read_manifest(digest, self._manifests) or self._here(digest) or self._code(digest)
        except MlpipeError:
            # An explanation that cannot name the file is better than none.
            return None

    def _here(self, digest: Digest) -> TreeManifest | None:
        """Return the files of an input that this plan has looked at: no step has run on them yet."""
        source = self._sources.get(digest)
        if source is None:
            return None
        manifest = source_manifest(source, self._store, self._index)
        return manifest.joined() if manifest.digest == digest else None


def _of_others(newest: Row, observed: ObservedInput, by: str, versions: Callable[[str], Sequence[Row]]) -> Row:
    """Return what a lookup of the newest version finds where the step run `by` had not registered any since.

    Raises:
        NotFoundError: if there is nothing then.
    """
    if observed.version is not None or newest.run_id != by:
        return newest
    seen = int(observed.resolved or 0)
    rows = [row for row in versions(observed.name) if row.run_id != by or row.version <= seen]
    if not rows:
        raise NotFoundError(f"{observed.kind} '{observed.name}' was registered by the step alone")
    return max(rows, key=lambda row: row.version)
