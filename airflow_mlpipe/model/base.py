"""The frozen pydantic base of everything that travels: specs, results and manifests."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value. Unknown fields are refused, so that a newer document is never half read."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def build_models() -> None:
    """Build what validates each kind of value that has been imported, which else its first use in a process does."""
    pending = Frozen.__subclasses__()
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        model.model_rebuild()
