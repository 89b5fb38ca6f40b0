"""The software identity of the steps of a workspace, from their stored snapshots."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.execution.environments import Interpreter, describe_environment, interpreter_at
from airflow_mlpipe.execution.operator_software import describe_operator
from airflow_mlpipe.execution.provision import Environments, EnvironmentSettings, managed_interpreter
from airflow_mlpipe.model.digest import Digest, JsonValue, digest_bytes, hex_part
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
        environments: what environments were resolved to; by default those in `store`, built if need be.
        images: tells of the image that a step runs in, see ``StepImages``.
    """

    def __init__(
        self,
        workspace_dir: Path,
        store: Documents,
        index: StatIndex,
        snapshots: Mapping[Digest, Snapshot] = MappingProxyType({}),
        environments: Environments | None = None,
        images: Callable[[StepSpec], Mapping[str, JsonValue] | None] = lambda step: None,
    ) -> None:
        self._folder = workspace_dir
        self._store = store
        self._index = index
        self._snapshots = snapshots
        self._environments = environments or Environments(store, EnvironmentSettings())
        self._images = images
        self._interpreters: dict[str | None, Interpreter | None] = {None: None}
        self._imports: dict[Digest | None, frozenset[str]] = {None: frozenset()}
        self._known: dict[tuple[str, frozenset[str]], Mapping[str, JsonValue]] = {}

    def __call__(self, step: StepSpec) -> Mapping[str, JsonValue]:
        """Return the identity of the software `step` runs on.

        Of an environment with packages it is Python and all that it was resolved to, which is the same wherever the
        step runs; it is resolved here if it was not yet. An image that the environment names
        counts as well where it is used. Of an interpreter as it is, see ``describe_environment``.

        Raises:
            MissingDataError: if its snapshot is not stored and what it imports is not known either.
            StorageError: if the snapshot cannot be read, or there is no room to unpack it.
            ParameterError: if a package is not allowed.
            EnvironmentBuildError: if its packages cannot be resolved, or its user's interpreter is not there.
        """
        if step.operator is not None:
            return self._operators_software(step.operator.path)
        lock = self._environments.lock(step.environment)
        image = self._images(step)
        if lock is not None:
            return {**lock.identity, **(image or {})}
        if image is not None:
            return image
        if step.snapshot is not None and step.snapshot not in self._imports:
            self._imports[step.snapshot] = self._imports_of(step.snapshot)
        key = (step.environment.model_dump_json(), self._imports[step.snapshot])
        if key not in self._known:
            self._known[key] = self._described(managed_interpreter(step.environment), key[1])
        return self._known[key]

    def _operators_software(self, path: str) -> Mapping[str, JsonValue]:
        key = (path, frozenset({"operator"}))
        if key not in self._known:
            self._known[key] = describe_operator(path, self._folder / CACHE)
        return self._known[key]

    def _described(self, path: str | None, imports: frozenset[str]) -> Mapping[str, JsonValue]:
        if path not in self._interpreters:
            self._interpreters[path] = interpreter_at(str(path))
        # One file each: what one interpreter has says nothing of another.
        name = CACHE if path is None else f"installed-{hex_part(digest_bytes(path.encode()))[:12]}.json"
        return describe_environment(imports, self._folder / name, self._interpreters[path])

    def _imports_of(self, digest: Digest) -> frozenset[str]:
        from tempfile import TemporaryDirectory

        if digest in self._snapshots:
            return python_imports(self._snapshots[digest], self._index)
        # The author's own reading of the snapshot, so that submit and worker never disagree about a key.
        nowhere = Snapshot(digest=digest, code=digest, files=0, size_bytes=0, source=self._folder / "no-folder")
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
