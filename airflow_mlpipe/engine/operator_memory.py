"""What an operator learns while it runs, kept for the one that goes on in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import redact

from airflow_mlpipe.model.digest import JsonValue

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

_LONGEST = 2000
"""Characters of a value; what names a job elsewhere is shorter, and all of it goes through Airflow's database."""


class Memory:
    """The attributes that an operator has set since it was made, as far as JSON can say them.

    Once an operator has given its slot back, another one of the same arguments goes on. Its ``on_kill`` would end
    nothing: which job that is stands in attributes such as ``run_id``, which the first one has set. What Airflow knows
    as a secret is not kept.
    """

    def __init__(self, operator: BaseOperator, known: Mapping[str, JsonValue]) -> None:
        """Remember for an operator that has not run yet.

        Args:
            operator: just made.
            known: what the ones before it have learned.
        """
        self._operator = operator
        self._before = known
        self._fresh = {name: _text(value) for name, value in vars(operator).items()}

    @property
    def known(self) -> dict[str, JsonValue]:
        """What it and the ones before it have learned."""
        return {**self._before, **self._learned()}

    def recall(self) -> None:
        """Let the operator know what the ones before it have learned, where it has learned nothing else."""
        learned = self._learned()
        vars(self._operator).update({name: value for name, value in self._before.items() if name not in learned})

    def _learned(self) -> dict[str, JsonValue]:
        changed = {}
        for name, value in vars(self._operator).items():
            text = _text(value)
            if text is not None and text != self._fresh.get(name) and not _is_secret(name, value):
                changed[name] = value
        return changed


def _text(value: Any) -> str | None:
    """Return a value as JSON, or None if it would not come back as it is, or is long."""
    try:
        text = json.dumps(value, sort_keys=True)
        return text if len(text) <= _LONGEST and json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def _is_secret(name: str, value: Any) -> bool:
    return bool(redact({name: value}) != {name: value})
