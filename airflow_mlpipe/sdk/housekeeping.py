"""Looking after a workspace as a whole: its catalog made again, its results verified, its garbage collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.errors import ConfigError, MlpipeError, NotFoundError, ParameterError
from airflow_mlpipe.model.data import is_web

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.model.result import OutputRecord
    from airflow_mlpipe.reuse.gc import Collected
    from airflow_mlpipe.reuse.verify import Verified
    from airflow_mlpipe.sdk.workspace import Workspace
    from airflow_mlpipe.storage.datastore import AnyStore, Store
    from airflow_mlpipe.storage.documents import DefaultDocuments, Documents
    from airflow_mlpipe.storage.selection import Stores


GRACE = timedelta(hours=24)
"""Age that garbage must have before it is removed: no write, and no pause of a write, takes so long."""


@dataclass(frozen=True, slots=True)
class RebuiltCatalog:
    """What :func:`rebuild_catalog` did.

    Attributes:
        aside: where an unusable catalog was put, or None.
        results: how many results were put back.
        runs: how many runs were put back.
        models: how many versions of models were put back.
        datastores: names of the datastores that were registered again.
        known: how many results with a record the catalog had already.
        written: how many records and manifests the store did not have and got.
        foreign: how many records of other workspaces lie in the same stores; they are not looked at.
        left_out: path and reason of each record that was not taken.
    """

    aside: Path | None
    results: int
    runs: int
    models: int
    datastores: tuple[str, ...]
    known: int
    written: int
    foreign: int
    left_out: tuple[tuple[str, str], ...]


def rebuild_catalog(workspace: Workspace, datastores: Mapping[str, str] | None = None) -> RebuiltCatalog:
    """Make the catalog whole from the records that its stores keep.

    A database that is lost, empty, damaged or an old copy gets the results, runs, steps, experiments, datastores and
    models that the records tell of. A damaged file is put aside, not deleted. What the catalog has stays as it is.

    Args:
        workspace: whose catalog it is.
        datastores: folder or URL by name of datastores that only the lost catalog knew.

    Raises:
        ConfigError: if the catalog was made by a newer version of the package, or its database cannot be made.
        StorageError: if a datastore cannot be listed.
    """
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.reuse.rebuild import rebuild
    from airflow_mlpipe.sdk.workspace_config import FILE, read_config
    from airflow_mlpipe.sdk.workspace_folder import catalog_url

    catalog, aside = Catalog.salvage(catalog_url(workspace.dir, read_config(workspace.dir / FILE)))
    try:
        places = _Places(workspace, catalog)
        places.register(datastores or {})
        done = rebuild(catalog, places.stores(), places.store, workspace.id)
        written = _write_missing(catalog, places, workspace.id)
    finally:
        catalog.close()
    return RebuiltCatalog(
        aside, done.results, len(done.runs), done.models, tuple(places.added), done.known, written,
        done.foreign, tuple(done.left_out),
    )  # fmt: skip


def verify_workspace(workspace: Workspace, *, read_data: bool = False, dry_run: bool = False) -> Verified:
    """Check everything that results, runs and models of a workspace rest on.

    Args:
        workspace: the workspace.
        read_data: read and hash every byte; else only whether all files are there with their sizes.
        dry_run: change nothing; else results whose bytes are damaged are marked doubtful, so that no run takes them.

    Raises:
        StorageError: if the default datastore cannot be read.
    """
    from airflow_mlpipe.reuse.verify import verify

    # What the datastores have, not what was kept of it here.
    documents = workspace.default_documents(cached=False)
    return verify(workspace.catalog, workspace.store, documents, read_data=read_data, mark=not dry_run)


def collect_garbage(
    workspace: Workspace,
    *,
    delete: bool = False,
    grace: timedelta = GRACE,
    unused_for: timedelta | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Collected:
    """Find what nobody needs in the datastores of a workspace and, with `delete`, remove it.

    Args:
        workspace: the workspace.
        delete: remove; otherwise only tell.
        grace: what was written later than this ago stays, whatever it is.
        unused_for: results that no run has made or taken for so long are garbage too; None keeps them.
        now: the clock for `unused_for`, aware UTC.

    Raises:
        ParameterError: if `grace` or `unused_for` is negative.
        StorageError: if a folder of this machine cannot be listed, or the catalog seems to be lost: nothing is removed
            then. A remote datastore that cannot be asked is left out; ``Collected.away`` names it.
    """
    from airflow_mlpipe.reuse.gc import collect_garbage as collect
    from airflow_mlpipe.storage.datastore import check_files
    from airflow_mlpipe.storage.urls import is_database, is_folder

    for name, value in (("grace", grace), ("unused_for", unused_for)):
        if value is not None and value < timedelta(0):
            raise ParameterError(f"{name} is {value}; it cannot be negative")
    stores: list[Store] = []
    away: dict[str, str] = {}
    for row in workspace.catalog.list_datastores():
        # Nothing is written to the web or to a database.
        if is_folder(row.url):
            stores.append(workspace.local_store(row.name))
        elif not is_web(row.url) and not is_database(row.url):
            try:
                stores.append(check_files(workspace.store(row.name)))
            except MlpipeError as error:
                away[row.name] = error.message
    return collect(
        workspace.catalog, stores, workspace.documents, workspace.dir, workspace.id,
        grace=grace, unused_for=unused_for, delete=delete, away=away, now=now(),
    )  # fmt: skip


class _Places:
    """The datastores of a workspace whose catalog may know none of them any more."""

    def __init__(self, workspace: Workspace, catalog: Catalog) -> None:
        self._workspace = workspace
        self._catalog = catalog
        self._opened: dict[str, AnyStore] = {}
        self._given: frozenset[str] = frozenset()
        self.added: list[str] = []

    def register(self, given: Mapping[str, str]) -> None:
        """Register what is given, what lies in the workspace's own folder, and what the records name."""
        from airflow_mlpipe.sdk.workspace_folder import BORN_WITH
        from airflow_mlpipe.storage.ledger import list_results

        self._given = frozenset(given)
        known = {row.name for row in self._catalog.list_datastores()}
        fresh = not known
        own = self._workspace.dir / "stores"
        found = {path.name: path.as_uri() for path in sorted(own.glob("*")) if path.is_dir()}
        wanted = {name: (own / name).as_uri() for name in BORN_WITH} | found if fresh else {}
        for name, url in {**wanted, **given}.items():
            if name not in known or name in given:
                self._add(name, url)
        told: dict[str, int] = {}
        for store in list(self.stores()):
            for found_record in list_results(store):
                record = found_record.record
                if record is None or record.workspace != self._workspace.id:
                    continue
                default = record.default_datastore
                told[default] = max(found_record.written_ns, told.get(default, 0))
                for name, url in record.datastores.items():
                    if name not in self._names() and _is_there(url):
                        self._add(name, url)
        if fresh or (not self._catalog.former_defaults() and not self.default.exists("snapshots")):
            # Without a record to tell, the one that has snapshots: only the default one ever gets them.
            holders = [store.name for store in self.stores() if store.exists("snapshots")][:1]
            known_defaults = [name for name in sorted(told, key=lambda name: told[name]) if name in self._names()]
            last = [] if not fresh else list(BORN_WITH[:1])
            # Each in its turn: those before the last one are asked for what they keep.
            for name in known_defaults or holders or last:
                self._catalog.set_default_datastore(name)

    def stores(self) -> Iterator[Documents]:
        """Give the datastores that may keep records, by name: those of this machine, given ones, and default ones."""
        from airflow_mlpipe.storage.urls import is_folder

        rows = self._catalog.list_datastores()
        asked = {*self._given, *(row.name for row in self._catalog.former_defaults())}
        for row in rows:
            if is_folder(row.url) or row.is_default or row.name in asked:
                yield self._documents_in(row.name)

    def store(self, name: str) -> AnyStore:
        """Return a datastore, of this machine or elsewhere.

        Raises:
            ConfigError: if it is not known.
        """
        from airflow_mlpipe.sdk.credentials import provide_credentials
        from airflow_mlpipe.storage.datastore import open_any

        provide_credentials()
        if name not in self._opened:
            if name not in self._names():
                raise ConfigError(f"datastore '{name}' is not known; say where it lies: --datastore {name}=PATH")
            row = self._catalog.get_datastore(name)
            self._opened[name] = open_any(row.name, row.url, row.options, self._workspace.dir)
        return self._opened[name]

    @property
    def default(self) -> DefaultDocuments:
        """The default datastore, and those that were it before."""
        from airflow_mlpipe.storage.documents import DefaultDocuments

        return DefaultDocuments(
            self._documents_in(self._catalog.get_datastore().name),
            lambda: [self._documents_in(row.name) for row in self._catalog.former_defaults()],
        )

    def _documents_in(self, name: str) -> Documents:
        from airflow_mlpipe.storage.datastore import documents_of

        # What the datastore has, not what was kept of it here.
        return documents_of(self.store(name), cached=False)

    def _names(self) -> set[str]:
        return {row.name for row in self._catalog.list_datastores()}

    def _add(self, name: str, url: str) -> None:
        from airflow_mlpipe.catalog.rows import DatastoreRow

        url = url if "://" in url else Path(url).expanduser().absolute().as_uri()
        self._catalog.put_datastore(DatastoreRow(name=name, url=url))
        self._opened.pop(name, None)
        self.added.append(name)


def _is_there(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "file" and Path(unquote(parts.path, errors="surrogateescape")).is_dir()


def _write_manifest(output: OutputRecord, store: Stores) -> bool:
    """Write the manifest of an output if it is missing and the bytes are still those that were recorded."""
    from airflow_mlpipe.storage.datastore import check_local
    from airflow_mlpipe.storage.manifests import read_manifest, write_manifest
    from airflow_mlpipe.storage.tree import scan_tree

    try:
        kept = check_local(store(output.datastore))
        if read_manifest(output.digest, kept) is not None:
            return False
        manifest = scan_tree(kept.path_of(output.path))
        if manifest.digest == output.digest:
            write_manifest(manifest, kept)
        return manifest.digest == output.digest
    except MlpipeError:
        # Its bytes are gone, for `verify` to tell, or elsewhere, where reading them all would be dear.
        return False


def _write_missing(catalog: Catalog, places: _Places, workspace_id: str) -> int:
    """Write the records and manifests of what the catalog knows and the store does not."""
    from airflow_mlpipe.execution.model_versions import keep_record as keep_model_record
    from airflow_mlpipe.execution.recording import keep_record
    from airflow_mlpipe.storage.ledger import DAMAGED, MISSING, read_model, read_result

    written, default = 0, places.default
    for kept in catalog.keeper.kept_results():
        if kept.result is None or kept.doubtful:
            continue
        written += sum(_write_manifest(output, places.store) for output in kept.result.outputs)
        if read_result(kept.id, default).problem not in (MISSING, DAMAGED):
            continue
        try:
            step = catalog.step_by_id(kept.result.step_run_id)
            keep_record(kept.result, workspace_id, step.step_id, catalog, places.store, default)
        except (NotFoundError, ConfigError):
            continue
        written += 1
    for row in catalog.list_models():
        if read_model(row.name, row.version, default)[1] in (MISSING, DAMAGED):
            keep_model_record(row, workspace_id, default.holder(row.path))
            written += 1
    return written
