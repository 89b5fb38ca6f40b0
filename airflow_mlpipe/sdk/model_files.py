"""The bytes of registered models as files of this machine, for whoever loads them."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import DigestMismatchError, MissingDataError
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.tree import tree_digest

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import ModelRow
    from airflow_mlpipe.sdk.workspace import Workspace


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
