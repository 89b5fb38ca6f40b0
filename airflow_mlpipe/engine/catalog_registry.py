"""The specs of pipelines in the catalog, for a workspace whose machines share nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.rows import Publication
from airflow_mlpipe.engine.spec_registry import (
    EMPTY,
    Registry,
    SpecRegistry,
    check_name,
    entries_of,
    number_of,
    shards_of,
    version_after,
)
from airflow_mlpipe.errors import NotFoundError
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.model.spec import PipelineSpec


class CatalogRegistry:
    """See :class:`~airflow_mlpipe.engine.spec_registry.Registry`. A task asks for the spec of its own DAG alone."""

    def __init__(self, catalog: Catalog) -> None:
        """Keep the specs in `catalog`, which is on a server."""
        self._catalog = catalog

    def publish(self, spec: PipelineSpec) -> str:
        """See :meth:`Registry.publish`."""
        check_name(spec)
        self._catalog.put_spec(spec.digest, spec.to_json())
        return self._catalog.add_publication(spec.name, spec.digest, _version) or EMPTY

    def remove(self, name: str) -> str:
        """See :meth:`Registry.remove`."""
        return self._catalog.add_publication(name, None, _version) or EMPTY

    def head(self) -> str:
        """See :meth:`Registry.head`."""
        return self._catalog.newest_publication() or EMPTY

    def digest_of(self, name: str, version: str | None = None) -> Digest | None:
        """See :meth:`Registry.digest_of`."""
        found = self._catalog.publication_of(name, self._number(version))
        return None if found is None else found.digest

    def entries(self, version: str | None = None) -> dict[str, tuple[Digest, str]]:
        """See :meth:`Registry.entries`."""
        return entries_of(self._catalog.publications(self._number(version)))

    def shards(self, version: str | None = None) -> dict[str, str]:
        """See :meth:`Registry.shards`."""
        return shards_of(self._catalog.publications(self._number(version)))

    def spec(self, digest: Digest) -> PipelineSpec:
        """See :meth:`Registry.spec`."""
        return PipelineSpec.from_json(self._catalog.get_spec(digest))

    def reserved(self, name: str) -> AbstractContextManager[None]:
        """See :meth:`Registry.reserved`."""
        return self._catalog.holding(f"pipeline {name}")

    def take_over(self, workspace: Path) -> None:
        """Take over what the folder of a workspace has published, unless the catalog has a log of its own."""
        if self._catalog.newest_publication() is not None:
            return
        before = SpecRegistry(workspace)
        log = before.log()
        for digest in {change.digest for change in log if change.digest is not None}:
            self._catalog.put_spec(digest, before.spec(digest).to_json())
        self._catalog.copy_publications(log)

    def _number(self, version: str | None) -> int | None:
        if version is None:
            return None
        number = number_of(version)
        made = self._catalog.publication_numbered(number)
        if version != EMPTY and (made is None or made.version != version):
            raise NotFoundError(f"the catalog has no version '{version}'; its newest is '{self.head()}'")
        return number


def registry_of(workspace: Path, catalog: Catalog | None) -> Registry:
    """Return the registry of a workspace.

    Args:
        workspace: its ``.mlpipe`` folder.
        catalog: its catalog if that is on a server, else None.
    """
    if catalog is None:
        return SpecRegistry(workspace)
    registry = CatalogRegistry(catalog)
    registry.take_over(workspace)
    return registry


def _version(before: Publication | None, digest: str, name: str) -> str:
    return version_after(EMPTY if before is None else before.version, digest, name)
