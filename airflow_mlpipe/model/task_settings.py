"""What a step may say about its task in Airflow: names, types, and how it is written down as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from airflow_mlpipe.errors import PipelineError
from airflow_mlpipe.model.digest import JsonValue, canonical_json
from airflow_mlpipe.model.nearest import nearest

CALLBACKS = (
    "on_execute_callback",
    "on_failure_callback",
    "on_retry_callback",
    "on_skipped_callback",
    "on_success_callback",
)
"""Settings that name what is called when a task changes its state."""

TRIGGER_RULES = ("none_failed_min_one_success", "all_done_min_one_success")
"""Rules under which a step runs although one above it was reused, which Airflow shows as skipped."""

ELSEWHERE = {
    "task_id": "the step's name",
    "retries": "retries= of the step",
    "retry_delay": "retry_delay_s= of the step",
    "doc_md": "the step's command, which is shown there",
    "params": "PipelineParameter",
    "env": "environment variables of the step's environment",
    "do_xcom_push": "outputs of the step",
    "start_date": "the schedule of the pipeline",
    "dag": "the pipeline",
}
"""Arguments of Airflow's tasks that are said in another way, and how."""

_WEIGHT_RULES = ("downstream", "upstream", "absolute")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")


def task_settings(step: str, given: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return what a step says about its task, as JSON: times in seconds, callbacks by import path.

    Args:
        step: its name, for errors.
        given: by the names of Airflow's own arguments.

    Raises:
        PipelineError: for a name that is not known, or a value that is not allowed.
    """
    if not isinstance(given, Mapping):
        raise PipelineError(f"step '{step}': airflow is {given!r}, a {type(given).__name__}; give a dict")
    return {name: _checked(step, name, value) for name, value in given.items()}


def _checked(step: str, name: object, value: Any) -> JsonValue:
    if not isinstance(name, str) or name not in _KINDS:
        if name in ELSEWHERE:
            raise PipelineError(f"step '{step}': airflow has '{name}', which is said by {ELSEWHERE[str(name)]}")
        raise PipelineError(
            f"step '{step}': airflow has {name!r}, which is not known; it may have: "
            f"{', '.join(sorted(_KINDS))}{nearest(str(name), _KINDS)}"
        )
    allowed, read = _KINDS[name]
    try:
        return read(value)
    except (TypeError, ValueError):
        raise PipelineError(f"step '{step}': airflow={{'{name}': {value!r}}} is not allowed; give {allowed}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError
    return int(value)


def _seconds(value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
        raise ValueError
    return float(seconds)


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return read


def _mapping(value: Any) -> dict[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise TypeError
    canonical_json(dict(value))
    return dict(value)


def _callbacks(value: Any) -> list[JsonValue]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    return [_callback(each) for each in listed]


def _callback(value: Any) -> JsonValue:
    if isinstance(value, Mapping):
        # A notifier: a class, and what it is made with.
        if not set(value) <= {"notifier", "arguments"}:
            raise ValueError
        return {"notifier": _import_path(value.get("notifier")), "arguments": _mapping(value.get("arguments", {}))}
    if callable(value):
        value = f"{value.__module__}.{value.__qualname__}"
    return _import_path(value)


def _import_path(value: Any) -> str:
    if not isinstance(value, str) or not _IMPORT_PATH.fullmatch(value) or value.startswith("__main__."):
        raise ValueError
    return value


def _assets(value: Any) -> list[dict[str, JsonValue]]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    return [_asset(each) for each in listed]


def _asset(value: Any) -> dict[str, JsonValue]:
    if isinstance(value, str):
        return {"uri": value} if _SCHEME.fullmatch(value) else {"name": _text(value)}
    if not isinstance(value, Mapping) or not value or not set(value) <= {"name", "uri", "group", "extra"}:
        raise ValueError
    return {key: _mapping(each) if key == "extra" else _text(each) for key, each in value.items()}


_CALLBACK = (
    "the import path of a function, {'notifier': import path of a notifier, 'arguments': {...}}, or a list of these",
    _callbacks,
)
_ASSETS = ("a name, a URI, a dict of name, uri, group and extra, or a list of these", _assets)
_SECONDS = ("a timedelta, or seconds above 0", _seconds)

_KINDS: dict[str, tuple[str, Callable[[Any], JsonValue]]] = {
    "pool": ("the name of a pool", _text),
    "pool_slots": ("a whole number from 1", _count),
    "priority_weight": ("a whole number", _whole),
    "weight_rule": (" or ".join(_WEIGHT_RULES), _one_of(*_WEIGHT_RULES)),
    "queue": ("the name of a queue", _text),
    "executor": ("the name of an executor", _text),
    "executor_config": ("a dict that JSON can say", _mapping),
    "execution_timeout": _SECONDS,
    "max_retry_delay": _SECONDS,
    "retry_exponential_backoff": ("a number above 0, by which the delay grows with each try", _seconds),
    "trigger_rule": (" or ".join(TRIGGER_RULES), _one_of(*TRIGGER_RULES)),
    "depends_on_past": ("True or False", _flag),
    "wait_for_downstream": ("True or False", _flag),
    "max_active_tis_per_dag": ("a whole number from 1", _count),
    "max_active_tis_per_dagrun": ("a whole number from 1", _count),
    "owner": ("a text", _text),
    "inlets": _ASSETS,
    "outlets": _ASSETS,
    **dict.fromkeys(CALLBACKS, _CALLBACK),
}
