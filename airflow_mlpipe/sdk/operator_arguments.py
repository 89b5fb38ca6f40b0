"""The arguments of an operator as they are written: JSON, with data, parameters and the like anywhere inside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.operator_call import Piece, Slot
from airflow_mlpipe.model.parameter import is_unicode
from airflow_mlpipe.model.step import Argument
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
from airflow_mlpipe.sdk.binding import Consumed
from airflow_mlpipe.sdk.parameter import PipelineParameter


class Url:
    """Stands, in an operator's arguments, for where data lies in its datastore: ``s3://bucket/...``, ``file:///...``.

    For operators that have another machine read or write the data: nothing is downloaded for them, and an output is
    fetched from there once the operator has ended.
    """

    def __init__(self, data: Any) -> None:
        """Name data that the step reads or makes.

        Args:
            data: as in `inputs`, `outputs` or `arguments` of a step.
        """
        self.data = data


class Joined:
    """Stands, in an operator's arguments, for a text with data or parameters in it."""

    def __init__(self, *pieces: Any) -> None:
        """Join pieces to one text when the step starts.

        Args:
            *pieces: texts, data, pipeline parameters, :class:`Url`.
        """
        self.pieces = pieces


class SourceFile:
    """Stands, in an operator's arguments, for the path of a file of the step's ``source_directory`` on the worker."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name a file.

        Args:
            path: relative to ``source_directory``.
        """
        self.path = os.fspath(path)


class ComputeSetting:
    """Stands, in an operator's arguments, for a setting of the step's compute target, such as its connection."""

    def __init__(self, name: str) -> None:
        """Name a setting."""
        self.name = name


class TryId:
    """Stands, in an operator's arguments, for a name that no other try of any step has: of a job elsewhere."""


def addressed(value: Any) -> Any:
    """Return data as its address: a path of the worker's is of no use to a machine elsewhere. Else the value itself."""
    return Url(value) if isinstance(value, (Consumed, PipelineParameter, AbstractDataset)) else value


@dataclass(slots=True)
class WrittenCall:
    """The arguments of an operator, taken apart.

    Attributes:
        json: by name; None where a slot is.
        data: what stands in the slots of data and of parameters, in order.
        slots: where each slot is, and its pieces; a number is a position in `data`, with whether its URL is meant.
    """

    step: str
    json: dict[str, JsonValue] = field(default_factory=dict)
    data: list[Any] = field(default_factory=list)
    slots: list[tuple[tuple[str | int, ...], list[Piece | tuple[int, bool]]]] = field(default_factory=list)

    @classmethod
    def of(cls, step: str, arguments: Mapping[str, Any]) -> WrittenCall:
        """Take the arguments of an operator apart.

        Raises:
            PipelineError: for a value that is neither JSON nor allowed in a slot; the message names where it stands.
        """
        call = cls(step)
        for name, value in arguments.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise PipelineError(f"step '{step}': {name!r} is no name of an argument of an operator")
            call.json[name] = call._taken(value, (name,))
        return call

    def bound(self, words: Sequence[Argument]) -> tuple[Slot, ...]:
        """Return the slots, given what each element of `data` came to as a word of the step."""
        return tuple(Slot(at=at, pieces=tuple(_piece(piece, words) for piece in pieces)) for at, pieces in self.slots)

    def _taken(self, value: Any, at: tuple[str | int, ...]) -> JsonValue:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            return value
        if isinstance(value, (str, os.PathLike)):
            return self._text(value, at)
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise PipelineError(f"{self._where(at)} has the key {key!r}; keys are texts")
            return {key: self._taken(each, (*at, key)) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._taken(each, (*at, position)) for position, each in enumerate(value)]
        # Joined is a text, also of a single number.
        pieces = ("", *value.pieces) if isinstance(value, Joined) else (value,)
        self.slots.append((at, [self._slot(piece, at, joined=isinstance(value, Joined)) for piece in pieces]))
        return None

    def _slot(self, value: Any, at: tuple[str | int, ...], *, joined: bool) -> Piece | tuple[int, bool]:
        if joined and isinstance(value, (str, int, float)):
            return Piece(kind="literal", value=self._text(str(value), at))
        if isinstance(value, SourceFile):
            return Piece(kind="source", value=value.path)
        if isinstance(value, ComputeSetting):
            return Piece(kind="compute", value=value.name)
        if isinstance(value, TryId):
            return Piece(kind="try", value="id")
        data = value.data if isinstance(value, Url) else value
        if not isinstance(data, (Consumed, PipelineParameter, AbstractDataset)):
            raise PipelineError(
                f"{self._where(at)} is {value!r}, a {type(value).__name__}; allowed are what JSON can say, data, "
                "PipelineParameter, Url, Joined and SourceFile: the pipeline is data, and is sent to other machines"
            )
        self.data.append(data)
        return len(self.data) - 1, isinstance(value, Url)

    def _text(self, value: str | os.PathLike[str], at: tuple[str | int, ...]) -> str:
        text = os.fspath(value)
        if not is_unicode(text):
            raise PipelineError(f"{self._where(at)} is {text!r}, which is not valid Unicode")
        return text

    def _where(self, at: tuple[str | int, ...]) -> str:
        name, *rest = at
        return f"step '{self.step}': argument {name}{''.join(f'[{key!r}]' for key in rest)} of its operator"


def _piece(piece: Piece | tuple[int, bool], words: Sequence[Argument]) -> Piece:
    if isinstance(piece, Piece):
        return piece
    number, is_url = piece
    word = words[number]
    if not is_url or word.kind == "parameter":
        return Piece(kind=word.kind, value=word.value)
    return Piece(kind="input_url" if word.kind == "input" else "output_url", value=word.value)
