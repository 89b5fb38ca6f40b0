"""What a step says about its task (``airflow={...}``), as arguments of Airflow's operators."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.task_settings import CALLBACKS

SERVER_ONLY = (
    "queue",
    "executor",
    "executor_config",
    "inlets",
    "outlets",
    "depends_on_past",
    "wait_for_downstream",
    "max_active_tis_per_dag",
    "max_active_tis_per_dagrun",
)
"""Settings that mean nothing without a server: there is one machine, one run of a DAG at hand, and no assets."""

_SECONDS = ("execution_timeout", "max_retry_delay")


class NamedCallback:
    """Calls what an import path names; it is imported then, since a parse reads the spec alone."""

    def __init__(self, named: JsonValue) -> None:
        """Name a function, or a notifier and what it is made with."""
        self._named = named

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Call it as Airflow calls its callbacks."""
        return self.load()(*arguments, **more)

    def load(self) -> Any:
        """Import it; a notifier is made.

        Raises:
            ImportError: if its module cannot be imported.
            AttributeError: if that has nothing of this name.
            TypeError: if a notifier refuses its arguments.
        """
        notifier = self._named["notifier"] if isinstance(self._named, Mapping) else None
        module, _, name = (notifier or self._named).rpartition(".")
        found = getattr(import_module(module), name)
        return found if notifier is None else found(**self._named["arguments"])

    def __repr__(self) -> str:
        return f"NamedCallback({self._named!r})"


def task_arguments(settings: Mapping[str, JsonValue], passed_over: Collection[str] = ()) -> dict[str, Any]:
    """Return `settings` as arguments of an operator, without those of the names `passed_over`."""
    return {name: _argument(name, value) for name, value in settings.items() if name not in passed_over}


def check_callbacks(spec: PipelineSpec) -> None:
    """Import what the steps of `spec` name as callbacks.

    Raises:
        PipelineError: if something cannot be imported or made; the message names step and setting.
    """
    for step in spec.steps:
        for name, named in _callbacks(step.airflow):
            try:
                loaded = NamedCallback(named).load()
            except Exception as error:
                raise PipelineError(
                    f"step '{step.name}': airflow has '{name}' {named!r}, which cannot be loaded here: "
                    f"{type(error).__name__}: {error}"
                ) from None
            if not callable(loaded):
                raise PipelineError(f"step '{step.name}': airflow has '{name}' {named!r}, which cannot be called")


def tell_ignored(spec: PipelineSpec) -> None:
    """Warn of what steps say about their tasks that an embedded run passes over."""
    for step in spec.steps:
        ignored = [name for name in SERVER_ONLY if name in step.airflow]
        if ignored:
            warnings.warn(
                f"step '{step.name}': airflow has {', '.join(map(repr, ignored))}, which an embedded run passes over; "
                "a server obeys: mlpipe up",
                stacklevel=2,
            )


def _callbacks(settings: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    for name in CALLBACKS:
        for named in settings.get(name, ()):
            yield name, named


def _argument(name: str, value: JsonValue) -> Any:
    if name in _SECONDS:
        return timedelta(seconds=value)
    if name in CALLBACKS:
        return [NamedCallback(named) for named in value]
    if name in ("inlets", "outlets"):
        from airflow.sdk import Asset

        return [Asset(**each) for each in value]
    return value
