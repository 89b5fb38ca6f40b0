"""What a workspace keeps, as the SDK reaches it: the default datastore, wherever it lies."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.storage.datastore import AnyStore
    from airflow_mlpipe.storage.documents import DefaultDocuments, Documents


class WorkspaceDocuments:
    """The part of a workspace that knows its default datastore."""

    if TYPE_CHECKING:

        @property
        def catalog(self) -> Catalog:
            """The record of what happened."""

        def store(self, name: str) -> AnyStore:
            """Return what is behind a datastore."""

    def documents_in(self, name: str, *, cached: bool = True) -> Documents:
        """Return a datastore of files, here or elsewhere, as one that keeps documents.

        Args:
            name: of a registered datastore.
            cached: see :func:`~airflow_mlpipe.storage.datastore.documents_of`.

        Raises:
            NotFoundError: if there is no datastore of that name.
            NotSupportedError: if it is a database.
            ConfigError: if what it needs - a library, a connection - is missing.
        """
        from airflow_mlpipe.storage.datastore import documents_of

        return documents_of(self.store(name), cached=cached)

    @property
    def default_store(self) -> Documents:
        """The bytes behind the default datastore, which keeps snapshots, outputs and logs."""
        return self.documents_in(self.catalog.get_datastore().name)

    @property
    def documents(self) -> DefaultDocuments:
        """The default datastore, with what those keep that were it before."""
        return self.default_documents()

    def default_documents(self, *, cached: bool = True) -> DefaultDocuments:
        """Return :attr:`documents`; for `cached` see :meth:`documents_in`."""
        from airflow_mlpipe.storage.documents import DefaultDocuments

        def former() -> list[Documents]:
            return [self.documents_in(row.name, cached=cached) for row in self.catalog.former_defaults()]

        return DefaultDocuments(self.documents_in(self.catalog.get_datastore().name, cached=cached), former)

    @cached_property
    def scratch(self) -> Path:
        """A folder for copies of files that lie elsewhere; it goes with this object."""
        import shutil
        import tempfile
        import weakref

        folder = tempfile.mkdtemp(prefix="mlpipe-files-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
