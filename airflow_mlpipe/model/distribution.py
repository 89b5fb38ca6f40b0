"""How many processes a step is, and how they find each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import JsonValue

Count = int | str
"""A number of processes or nodes, or the name of the pipeline parameter that holds it."""


class Distribution(Frozen):
    """The processes of a distributed step: its ranks.

    Attributes:
        kind: ``mpi`` starts them with mpirun; ``pytorch`` and ``tensorflow`` tell them of each other by variables.
        nodes: groups of ranks; each is meant for a machine of its own.
        processes_per_node: ranks of each group.
        workers: for ``tensorflow``, whose tasks are no groups: how many workers; None for the others.
        parameter_servers: for ``tensorflow``: how many tasks that end with the workers.
        backend: for ``pytorch``: what the ranks should talk through.
    """

    kind: Literal["mpi", "pytorch", "tensorflow"]
    nodes: Count = 1
    processes_per_node: Count = 1
    workers: Count | None = None
    parameter_servers: Count | None = None
    backend: Literal["nccl", "gloo"] | None = None

    def facts(self, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return its fields by name, with bound `values` in place of parameters; unchecked."""
        held = self.model_dump(exclude_none=True)
        return {name: values[of] if (of := self._parameter(name)) else value for name, value in held.items()}

    def bound(self, values: Mapping[str, JsonValue], step: str) -> Distribution:
        """Return it with bound `values` in place of parameters.

        Args:
            values: of the pipeline's parameters.
            step: the step's name, for errors.

        Raises:
            ParameterError: if a count is not a whole number from 1; of parameter servers there may be 0.
        """
        facts = self.facts(values)
        for name in _COUNTS:
            count, least = facts.get(name), 0 if name == "parameter_servers" else 1
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < least):
                parameter = self._parameter(name)
                said = f" (pipeline parameter '{parameter}')" if parameter else ""
                raise ParameterError(
                    f"step '{step}': {name}={count!r}{said} is not allowed; give a whole number from {least}"
                )
        return Distribution.model_validate(facts)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The pipeline parameters that hold its counts."""
        return tuple(of for name in _COUNTS if (of := self._parameter(name)))

    def machines(self) -> int:
        """Return how many machines it is meant for. Only of one without parameters."""
        if self.workers is None:
            return int(self.nodes)
        return max(int(self.workers), int(self.parameter_servers or 0))

    def ranks(self) -> int:
        """Return how many processes it is. Only of one without parameters."""
        if self.workers is None:
            return int(self.nodes) * int(self.processes_per_node)
        return int(self.workers) + int(self.parameter_servers or 0)

    def _parameter(self, name: str) -> str | None:
        value = getattr(self, name) if name in _COUNTS else None
        return value if isinstance(value, str) else None


_COUNTS = ("nodes", "processes_per_node", "workers", "parameter_servers")
