"""The workspace that a try of a step runs in, as far as the try needs it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.execution.lent import Credentials
from airflow_mlpipe.execution.provision import Environments
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.digest import Digest
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.selection import Stores
from airflow_mlpipe.storage.stat_index import StatIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The workspace that a step runs in.

    Attributes:
        catalog: its catalog.
        store: opens a datastore by name.
        default: the default datastore, which keeps snapshots and the files of runs.
        index: its stat index.
        content: identity of a dataset or DataReference now, as keys have it.
        passed: names or patterns of variables that steps inherit in addition (setting ``pass_environment``).
        workspace_id: of the workspace.
        credentials: looks up what a step's script is lent.
        lent: datastores whose credentials every step is lent (setting ``pass_credentials``).
        environments: what the environments of its steps were resolved to; None if all run on the current interpreter.
    """

    catalog: Catalog
    store: Stores
    default: Documents
    index: StatIndex
    content: Callable[[DatasetSpec | DatastorePath], Digest]
    passed: Collection[str] = ()
    workspace_id: str = ""
    credentials: Credentials = lambda name: {}
    lent: Collection[str] = ()
    environments: Environments | None = None
