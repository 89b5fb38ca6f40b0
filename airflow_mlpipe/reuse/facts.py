"""What a plan knows of the world: the answers of one workspace's catalog, stores and stat index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import MissingDataError, NotFoundError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_json
from airflow_mlpipe.model.result import ObservedInput, OutputRecord, StepResult, TreeManifest
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.reuse.plan import UNRESOLVED
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.outputs import dataset_digest, verify_output
from airflow_mlpipe.storage.stat_index import StatIndex
from airflow_mlpipe.storage.tree import read_manifest

ABSENT = digest_json("absent", None)
"""Content of a DataReference that points at nothing yet: the step may be the one to write it (v1 allows it)."""

_log = logging.getLogger(__name__)


class WorkspaceFacts:
    """Answers a :class:`~airflow_mlpipe.reuse.plan.Planner` from a workspace."""

    def __init__(
        self,
        catalog: Catalog,
        store: Callable[[str], LocalStore],
        manifests: LocalStore,
        index: StatIndex,
        environment: Callable[[StepSpec], Mapping[str, JsonValue]],
    ) -> None:
        """Answer from these parts.

        Args:
            catalog: the workspace's catalog.
            store: opens a datastore by name.
            manifests: the store that keeps the manifests of trees: the default datastore.
            index: the workspace's stat index.
            environment: identity of the software of a step (``execution.environments``).
        """
        self._catalog = catalog
        self._store = store
        self._manifests = manifests
        self._index = index
        self.environment = environment

    def content(self, source: DatasetSpec | DatastorePath) -> Digest:
        """See :meth:`Facts.content`. The way a tabular dataset is read counts as content."""
        if isinstance(source, DatastorePath):
            try:
                return dataset_digest([source], self._store, self._index)
            except MissingDataError:
                return ABSENT
        content = dataset_digest(source.sources, self._store, self._index)
        return digest_json("table", [content, source.options]) if source.kind == "tabular" else content

    def problem(self, output: OutputRecord) -> str | None:
        """See :meth:`Facts.problem`."""
        return verify_output(output, self._store(output.datastore), self._index)

    def resolve(self, observed: ObservedInput) -> tuple[str, Digest | None]:
        """See :meth:`Facts.resolve`."""
        version = observed.version or "latest"
        try:
            if observed.kind == "dataset":
                dataset = self._catalog.get_dataset(observed.name, version)
                # Not the digest of its registration: the files under its paths may have changed since.
                return str(dataset.version), self.content(DatasetSpec.model_validate(dataset.spec))
            model = self._catalog.get_model(observed.name, version)
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

    def trees(self, digest: Digest) -> TreeManifest | None:
        """Return the manifest of a tree, or None if it is not kept."""
        try:
            return read_manifest(digest, self._manifests)
        except StorageError:
            # An explanation that cannot name the file is better than none.
            return None
