"""Tells when a registered version of a dataset does not hold any more what it was registered with."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatasetSpec

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import DatasetRow
    from airflow_mlpipe.sdk.workspace import Workspace


class DatasetChangedWarning(UserWarning):
    """The bytes under a registered version have changed since it was registered. What is there now is read.

    v1 reads whatever lies under the paths, and says nothing. To have an error instead:
    ``warnings.simplefilter("error", DatasetChangedWarning)``.
    """


def warn_if_changed(row: DatasetRow, workspace: Workspace) -> None:
    """Warn if the bytes of a registered version are not those that it was registered with.

    Raises:
        StorageError: if they cannot be read.
    """
    from airflow_mlpipe.storage.pinned import change_since

    spec = DatasetSpec.model_validate(row.spec)
    try:
        change = change_since(row.digest, spec, workspace.store, workspace.documents, workspace.index)
    except MissingDataError:
        # Whoever reads it says so, as an error.
        return
    if change is not None:
        warnings.warn(
            f"dataset '{row.name}' version {row.version} has changed since it was registered: {change}; what is there "
            "now is read; register(..., create_new_version=True) makes it the next version",
            DatasetChangedWarning,
            stacklevel=_depth(),
        )


def _depth() -> int:
    """Return how far up the caller's own line is, for the warning to name it."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("airflow_mlpipe."):
        frame, depth = frame.f_back, depth + 1
    return depth
