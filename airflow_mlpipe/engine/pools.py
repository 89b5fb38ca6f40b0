"""Compute targets as pools of a live Airflow: how many steps run on each at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from airflow_mlpipe.engine.names import pool_of
from airflow_mlpipe.errors import NotFoundError, PermissionDeniedError

if TYPE_CHECKING:
    from airflow_mlpipe.engine.rest import AirflowApi

DESCRIPTION = "compute target"

Outcome = Literal["made", "resized", "unchanged"]
"""What became of a pool that was to have a size."""


class Pools:
    """The pools of one Airflow, through its REST API."""

    def __init__(self, api: AirflowApi) -> None:
        """Ask `api`."""
        self._api = api

    def ensure(self, compute: str, limit: int | None) -> Outcome:
        """Make or resize the pool of a compute target: a task in a pool that is not there would wait for ever.

        Args:
            compute: name of the target.
            limit: how many steps may run on it at once, None for no limit.

        Raises:
            PermissionDeniedError: if the user may not; the message has the command to ask for.
        """
        return self.ensure_named(pool_of(compute), limit, f"compute target '{compute}'")

    def ensure_named(self, name: str, limit: int | None, needed_by: str) -> Outcome:
        """Make or resize any pool; see :meth:`ensure`.

        Args:
            name: of the pool.
            limit: how many slots it is to have, None for no limit.
            needed_by: what needs it, for the error.

        Raises:
            PermissionDeniedError: if the user may not; the message has the command to ask for.
        """
        slots = slots_of(limit)
        pool = self.get(name)
        if pool is not None and pool["slots"] == slots:
            return "unchanged"
        try:
            if pool is None:
                # A step that is waited for without a worker's slot is on its target all the same.
                made = {"name": name, "slots": slots, "description": DESCRIPTION, "include_deferred": True}
                # 409: somebody else was faster.
                self._api.call("POST", ["pools"], made, also=[409])
                return "made"
            kept = {key: pool[key] for key in ("description", "include_deferred")}
            self._api.call("PATCH", ["pools", name], {"pool": name, "slots": slots, **kept})
            return "resized"
        except PermissionDeniedError as error:
            raise PermissionDeniedError(
                f"{needed_by} needs Airflow's pool '{name}' with {slots} slots, which user "
                f"'{self._api.login.user}' may not make; ask for: {_command(name, slots)}"
            ) from error

    def missing(self, computes: Iterable[str]) -> list[str]:
        """Return those of the targets that have no pool; none where the user may not look at pools."""
        try:
            return [compute for compute in sorted(set(computes)) if self.get(pool_of(compute)) is None]
        except PermissionDeniedError:
            return []

    def get(self, name: str) -> dict[str, object] | None:
        """Return what Airflow says of a pool, or None if there is none of that name."""
        try:
            return self._api.get("pools", name)
        except NotFoundError:
            return None


def slots_of(limit: int | None) -> int:
    """Return the slots of a pool for a limit; -1 is Airflow's word for none."""
    return -1 if limit is None else limit


def command(compute: str, limit: int | None) -> str:
    """Return the command that makes the pool of a compute target."""
    return _command(pool_of(compute), slots_of(limit))


def _command(pool: str, slots: int) -> str:
    return f"airflow pools set --include-deferred '{pool}' {slots} '{DESCRIPTION}'"


def missing_text(compute: str, limit: int | None) -> str:
    """Return what to say of a run whose steps wait for a pool that is not there."""
    return (
        f"Airflow has no pool '{pool_of(compute)}', so steps on compute target '{compute}' never start; make it with "
        f"'mlpipe sync', or: {command(compute, limit)}"
    )
