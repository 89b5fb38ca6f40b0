"""The bytes of registered models: in the default datastore, and as files of this machine for whoever loads them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.tree import tree_digest

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import ModelRow
    from airflow_mlpipe.sdk.workspace import Workspace
    from airflow_mlpipe.storage.documents import Documents
    from airflow_mlpipe.storage.stat_index import TreeSummary


def store_model(workspace: Workspace, store: Documents, path: str, files: Mapping[str, Path]) -> TreeSummary:
    """Copy the files of a model into a datastore, and return what its digest and size are.

    Args:
        workspace: whose model it is.
        store: the default datastore.
        path: of the model's file or folder.
        files: by their path in the datastore.
    """
    if isinstance(store, LocalStore):
        for place, source in files.items():
            store.copy_in(source, place)
        return tree_digest(store.path_of(path), workspace.index)
    # As it comes down again: without modes.
    here = workspace.dir / "cache" / path
    for place, source in files.items():
        copy = workspace.dir / "cache" / place
        with system_errors("write", copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    store.copy_in(here, path)
    return tree_digest(here, workspace.index)


def model_path(workspace: Workspace, row: ModelRow) -> Path:
    """Return where a model's file or folder lies on this machine; one that is kept elsewhere is brought here once.

    Raises:
        MissingDataError: if it is kept elsewhere and its bytes are gone.
        DigestMismatchError: if its bytes are not those that were registered.
    """
    store = workspace.documents.holder(row.path)
    if isinstance(store, LocalStore):
        return store.path_of(row.path)
    here = workspace.dir / "cache" / row.path
    if _is_right(here, row, workspace):
        return here
    draft = here.parent.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        try:
            store.copy_out(row.path, draft / here.name)
        except MissingDataError as error:
            raise MissingDataError(
                f"model '{row.id}': its bytes are gone from {store.name}: {row.path}; register it again"
            ) from error
        if not _is_right(draft / here.name, row, workspace):
            where = f"{store.name}: {row.path}"
            raise DigestMismatchError(f"model '{row.id}': {where} has changed bytes; register it again")
        shutil.rmtree(here.parent, ignore_errors=True)
        # Another process may have brought it meanwhile.
        with suppress(OSError):
            draft.replace(here.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return here


def _is_right(place: Path, row: ModelRow, workspace: Workspace) -> bool:
    return place.exists() and tree_digest(place, workspace.index).digest == row.digest
