"""A new version of a registered model: its bytes in the default datastore, then its row in the catalog."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import ModelRow
from airflow_mlpipe.errors import ServiceError, StorageError
from airflow_mlpipe.execution.site import Site
from airflow_mlpipe.model.result import WantedModel
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import LocalStore, documents_of
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.ledger import write_model
from airflow_mlpipe.storage.stat_index import StatIndex, TreeSummary
from airflow_mlpipe.storage.tree import tree_digest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelHome:
    """Where models of a workspace are registered.

    Attributes:
        catalog: its catalog.
        store: its default datastore.
        index: its stat index.
        cache: its folder of copies of what lies elsewhere.
        workspace_id: its id.
    """

    catalog: Catalog
    store: Documents
    index: StatIndex
    cache: Path
    workspace_id: str

    def add(self, row: ModelRow, files: Mapping[str, Path], folder: str | None) -> ModelRow:
        """Copy files into the default datastore, register them as a new version and return its row.

        Args:
            row: what is known of it; id, version, path, digest, size and time are not.
            files: by the name they get inside the model.
            folder: name of the folder the model is, or None if it is the one file.

        Raises:
            StorageError: if something cannot be read or written.
            ServiceError: if the catalog or the datastore cannot be reached.
        """
        while True:
            version = self.catalog.reserve_model_version(row.name)
            home = f"models/{row.name}/{version}"
            # Taken if another workspace shares the datastore, or a registration was killed here.
            if not self.store.exists(home):
                break
        path = f"{home}/{folder or next(iter(files))}"
        tree = self._keep(path, {f"{path}/{name}" if folder else path: source for name, source in files.items()})
        row = replace(row, version=version, path=path, digest=tree.digest, size_bytes=tree.size_bytes)
        row = self.catalog.register_model(row)
        keep_record(row, self.workspace_id, self.store)
        return row

    def _keep(self, path: str, files: Mapping[str, Path]) -> TreeSummary:
        """Copy the files of a model, by their path in the datastore; return what digest and size all have."""
        if isinstance(self.store, LocalStore):
            for place, source in files.items():
                self.store.copy_in(source, place)
            return tree_digest(self.store.path_of(path), self.index)
        # As it comes down again: without modes.
        here = self.cache / path
        for place, source in files.items():
            copy = self.cache / place
            with system_errors("write", copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
        self.store.copy_in(here, path)
        return tree_digest(here, self.index)


def draft_row(wanted: WantedModel) -> ModelRow:
    """Return the row of a model that is not registered yet."""
    return ModelRow(
        id="",
        name=wanted.name,
        version=0,
        path="",
        digest="",
        size_bytes=0,
        run_id=wanted.run_id,
        framework=wanted.framework,
        framework_version=wanted.framework_version,
        description=wanted.description,
        tags=wanted.tags,
        properties=wanted.properties,
        # The catalog's clock says when.
        created_at=datetime.fromtimestamp(0, UTC),
    )


def add_wanted(models: Iterable[WantedModel], workspace: Path, site: Site) -> None:
    """Register the models that a step has asked for, which had no catalog to do it itself.

    Args:
        models: what was asked for, their files kept in the default datastore; they are removed from there.
        workspace: the workspace's own folder.
        site: the workspace.

    Raises:
        StorageError: if something cannot be read or written.
        ServiceError: if the catalog or the datastore cannot be reached.
    """
    for wanted in models:
        store = documents_of(site.store(site.default.name))
        home = ModelHome(site.catalog, store, site.index, workspace / "cache", site.workspace_id)
        with tempfile.TemporaryDirectory(prefix="mlpipe-model-") as scratch:
            files = {name: _here(path, store, Path(scratch)) for name, path in wanted.files.items()}
            row = home.add(draft_row(wanted), files, wanted.folder)
        _log.info("model '%s' is registered", row.id)
        for path in wanted.files.values():
            store.remove(path)


def keep_record(row: ModelRow, workspace_id: str, store: Documents) -> None:
    """Write the record from which a lost catalog is told of a model. Without it, the model is registered all the same.

    Args:
        row: the registered version.
        workspace_id: id of the workspace it is registered in.
        store: the default datastore, which has its bytes.
    """
    try:
        write_model(row.name, row.version, {**asdict(row), "workspace": workspace_id}, store)
    except (StorageError, ServiceError) as error:
        _log.warning("model '%s' has no record in its store: %s", row.id, error.message)


def _here(path: str, store: Documents, scratch: Path) -> Path:
    if isinstance(store, LocalStore):
        return store.path_of(path)
    store.copy_out(path, scratch / path)
    return scratch / path
