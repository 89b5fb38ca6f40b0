"""A model that is registered later: once the step has succeeded that asked for it where no catalog was reached."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.execution.model_versions import draft_row
from airflow_mlpipe.model.result import WantedModel
from airflow_mlpipe.sdk.model import Model

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.workspace import Workspace


class LaterModel(Model):
    """What the step has of it: all but its version, which is 0 until it is registered."""

    def __init__(self, workspace: Workspace, wanted: WantedModel, laid: Path) -> None:
        """Stand for a model whose files lie in the folder `laid`."""
        from dataclasses import replace

        from airflow_mlpipe.catalog.part import utc_now
        from airflow_mlpipe.storage.tree import scan_tree

        self._laid = laid / wanted.folder if wanted.folder else next(laid.iterdir())
        tree = scan_tree(self._laid)
        row = replace(
            draft_row(wanted),
            id=f"{wanted.name}:0",
            digest=tree.digest,
            size_bytes=tree.size_bytes,
            created_at=utc_now(),
        )
        super().__init__(workspace, _row=row)

    @property
    def url(self) -> str:
        """Where its bytes lie while the step runs."""
        return self._laid.as_uri()

    def path_on_disk(self) -> Path:
        """Return where its file or folder lies while the step runs."""
        return self._laid
