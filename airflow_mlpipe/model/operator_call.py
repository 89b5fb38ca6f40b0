"""An operator of Airflow that a step runs, as data: its import path and its arguments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Literal

from airflow_mlpipe.model.base import Frozen
from airflow_mlpipe.model.digest import JsonValue


class Piece(Frozen):
    """What stands in a slot, or in a part of it.

    Attributes:
        kind: ``literal`` (the text itself), ``input`` or ``output`` (the path of that port on the worker),
            ``input_url`` or ``output_url`` (where that port lies in its datastore), ``parameter`` (the bound value of
            that pipeline parameter), ``source`` (the path of that file of the step's code on the worker), ``compute``
            (that setting of the step's compute target) or ``try`` (a name that no other try has; the value is ``id``).
        value: the text, or a name of that kind.
    """

    kind: Literal["literal", "input", "output", "input_url", "output_url", "parameter", "source", "compute", "try"]
    value: str


class Slot(Frozen):
    """A place in an operator's arguments that gets its value when the step starts.

    Attributes:
        at: keys and positions that lead to it, the argument's name first.
        pieces: one gives its value as it is, a number stays a number; several are joined to one text.
    """

    at: tuple[str | int, ...]
    pieces: tuple[Piece, ...]


class OperatorCall(Frozen):
    """An operator and its arguments.

    Attributes:
        path: import path of its class.
        arguments: by name; null where a slot is.
        slots: the places that get their values when the step starts.
        templated: whether Airflow's templates in its template fields are rendered; values in slots never are.
        returns: the output that gets the operator's return value as JSON, or None.
    """

    path: str
    arguments: dict[str, JsonValue] = {}
    slots: tuple[Slot, ...] = ()
    templated: bool = False
    returns: str | None = None

    @property
    def pieces(self) -> Iterator[Piece]:
        """Everything in its slots."""
        return (piece for slot in self.slots for piece in slot.pieces)

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the pipeline parameters it uses."""
        return frozenset(piece.value for piece in self.pieces if piece.kind == "parameter")

    @property
    def remote_inputs(self) -> frozenset[str]:
        """The inputs of which it uses nothing but their address."""
        named = {piece.value for piece in self.pieces if piece.kind == "input_url"}
        return frozenset(named - {piece.value for piece in self.pieces if piece.kind == "input"})

    @property
    def remote_outputs(self) -> frozenset[str]:
        """The outputs that it writes by their address."""
        return frozenset(piece.value for piece in self.pieces if piece.kind == "output_url")

    def identity(self) -> JsonValue:
        """Return what of it decides about reuse. A setting of a compute target counts by its name."""
        return {
            "class": self.path,
            "arguments": self.arguments,
            "slots": [[list(slot.at), [[piece.kind, piece.value] for piece in slot.pieces]] for slot in self.slots],
            "templated": self.templated,
            "returns": self.returns,
        }

    def filled(self, value: Callable[[Piece], Any], arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return its arguments with the values of their slots.

        Args:
            value: gives the value of a piece.
            arguments: what to fill instead of its own, of the same form.
        """
        filled = copy.deepcopy(self.arguments if arguments is None else arguments)
        for slot in self.slots:
            values = [value(piece) for piece in slot.pieces]
            *way, last = slot.at
            place: Any = filled
            for key in way:
                place = place[key]
            place[last] = values[0] if len(values) == 1 else "".join(map(str, values))
        return filled
