"""The software identity of the steps of a workspace, from their stored snapshots."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.execution.environments import describe_environment
from airflow_mlpipe.execution.operator_software import describe_operator
from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.snapshot import Snapshot, extract_snapshot, python_imports
from airflow_mlpipe.storage.stat_index import StatIndex

CACHE = "installed.json"
"""File of a workspace's own folder that remembers what is installed."""


class StepEnvironments:
    """Tells what software a step runs on. Each different answer is found out once; imports are remembered on disk.

    Args:
        workspace_dir: the workspace's own folder.
        store: the datastore that keeps the snapshots.
        index: remembers what each snapshot imports.
        snapshots: those that are at hand, by digest; others are read from `store`.
    """

    def __init__(
        self,
        workspace_dir: Path,
        store: Documents,
        index: StatIndex,
        snapshots: Mapping[Digest, Snapshot] = MappingProxyType({}),
    ) -> None:
        self._cache = workspace_dir / CACHE
        self._store = store
        self._index = index
        self._snapshots = snapshots
        self._imports: dict[Digest | None, frozenset[str]] = {None: frozenset()}
        self._known: dict[tuple[str, frozenset[str]], Mapping[str, JsonValue]] = {}

    def __call__(self, step: StepSpec) -> Mapping[str, JsonValue]:
        """Return the identity of the software `step` runs on; see ``describe_environment``.

        Raises:
            MissingDataError: if its snapshot is not stored and what it imports is not known either.
            StorageError: if the snapshot cannot be read, or there is no room to unpack it.
        """
        if step.operator is not None:
            return self._operators_software(step.operator.path)
        if step.snapshot is not None and step.snapshot not in self._imports:
            self._imports[step.snapshot] = self._imports_of(step.snapshot)
        key = (step.environment.model_dump_json(), self._imports[step.snapshot])
        if key not in self._known:
            self._known[key] = describe_environment(step.environment, key[1], self._cache)
        return self._known[key]

    def _operators_software(self, path: str) -> Mapping[str, JsonValue]:
        key = (path, frozenset({"operator"}))
        if key not in self._known:
            self._known[key] = describe_operator(path, self._cache)
        return self._known[key]

    def _imports_of(self, digest: Digest) -> frozenset[str]:
        from tempfile import TemporaryDirectory

        if digest in self._snapshots:
            return python_imports(self._snapshots[digest], self._index)
        # The author's own reading of the snapshot, so that submit and worker never disagree about a key.
        nowhere = Snapshot(digest=digest, code=digest, files=0, size_bytes=0, source=self._cache.with_name("no-folder"))
        with suppress(MissingDataError):
            # Answers if the index knows the snapshot. A temporary folder a step would cost as much as the whole plan.
            return python_imports(nowhere, self._index)
        with system_errors("make a temporary folder in", os.environ.get("TMPDIR") or "/tmp"):
            # What cannot be removed again does not matter to the step.
            place = TemporaryDirectory(prefix="mlpipe-", ignore_cleanup_errors=True)
        with place as folder:
            laid_out = replace(nowhere, source=Path(folder) / "code")
            extract_snapshot(digest, self._store, laid_out.source)
            return python_imports(laid_out, self._index)
