"""From an operator's import path and arguments to the operator, or to what is wrong with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.operator_call import Piece
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.model.task_settings import ELSEWHERE

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

_KEPT = ("do_xcom_push", "multiple_outputs")
"""Arguments of every operator that change what this one does; the others are its task's."""

_EXTRAS = {"airflow_mlpipe.engine.azure_batch": "batch"}
"""Modules of ours that are made of a provider's, and the extra that brings it."""


def check_operators(spec: PipelineSpec, parameters: Mapping[str, Any]) -> None:
    """Make the operator of each step that is one, with paths and addresses that stand for the real ones.

    Args:
        spec: the pipeline.
        parameters: bound values of its parameters.

    Raises:
        PipelineError: if a class cannot be imported or refuses its arguments; the message names step and argument.
    """

    def stand_in(piece: Piece) -> Any:
        if piece.kind == "parameter":
            return parameters[piece.value]
        return f"s3://datastore/{piece.value}" if piece.kind.endswith("_url") else piece.value

    for step in spec.steps:
        if step.operator is not None:
            make_operator(step, step.operator.filled(stand_in))


def make_operator(step: StepSpec, arguments: Mapping[str, Any]) -> BaseOperator:
    """Return the operator of a step.

    Raises:
        PipelineError: if its class cannot be imported, or refuses these arguments.
    """
    kind = operator_class(step)
    misplaced = [name for name in arguments if name in _of_tasks() and name not in _KEPT]
    if misplaced:
        raise PipelineError(
            f"step '{step.name}': '{misplaced[0]}' is no argument of its operator but of its task; use "
            f"{ELSEWHERE.get(misplaced[0], f'airflow={{{misplaced[0]!r}: ...}} of the step')}"
        )
    try:
        return kind(task_id=step.id, **arguments)
    except Exception as error:
        unknown = [name for name in arguments if name not in set(_accepted(kind))]
        if unknown:
            raise PipelineError(
                f"step '{step.name}': {kind.__name__} has no argument '{unknown[0]}'{nearest(unknown[0], _own(kind))}"
            ) from None
        raise PipelineError(f"step '{step.name}': {kind.__name__} refuses its arguments: {error}") from None


def operator_class(step: StepSpec) -> type[BaseOperator]:
    """Return the class of a step's operator.

    Raises:
        PipelineError: if there is no such class, or it is no operator.
    """
    from airflow.sdk import BaseOperator

    assert step.operator is not None
    path = step.operator.path
    module_name, _, name = path.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"step '{step.name}': operator '{path}' cannot be imported: there is no module '{error.name}'"
            f"{_where_from(module_name)}"
        ) from None
    except Exception as error:
        raise PipelineError(
            f"step '{step.name}': operator '{path}' cannot be imported: {type(error).__name__}: {error}"
        ) from None
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, BaseOperator):
        names = [each for each, value in vars(module).items() if _is_operator(value)]
        known = f"'{module_name}' has no operator '{name}'" if kind is None else f"'{path}' is no operator of Airflow"
        raise PipelineError(f"step '{step.name}': {known}{nearest(name, names)}")
    return kind


def _where_from(module: str) -> str:
    if module in _EXTRAS:
        return f"; install its provider: pip install 'airflow-mlpipe[{_EXTRAS[module]}]'"
    if not module.startswith("airflow.providers."):
        return "; put it where Airflow's processes find it, on PYTHONPATH or in its plugins folder"
    words = module.split(".")[2:]
    named = words[: words.index("operators")] if "operators" in words else words[:1]
    return f"; install its provider: pip install apache-airflow-providers-{'-'.join(named)}"


def _is_operator(value: object) -> bool:
    from airflow.sdk import BaseOperator

    return isinstance(value, type) and issubclass(value, BaseOperator)


def _of_tasks() -> frozenset[str]:
    from airflow.sdk import BaseOperator

    return frozenset(inspect.signature(BaseOperator.__init__).parameters) - {"self", "kwargs"}


def _own(kind: type) -> list[str]:
    return [name for name in dict.fromkeys(_accepted(kind)) if name not in _of_tasks()]


def _accepted(kind: type) -> Iterator[str]:
    """Yield the names of the arguments that a class, or one it is made of, takes."""
    for each in kind.__mro__:
        if "__init__" in vars(each):
            for name, parameter in inspect.signature(vars(each)["__init__"]).parameters.items():
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name != "self":
                    yield name
