"""Containers that nobody follows any more: how they are remembered, found and removed.

Beside the folder of a try that runs in a container lies a note of where that container is. The note goes when the
container has gone, so that a workspace without notes never asks an engine.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.errors import MlpipeError, NotFoundError
from airflow_mlpipe.storage.atomic import system_errors

_SUFFIX = ".container.json"
_PATIENCE_S = 5.0

_log = logging.getLogger(__name__)


def note(work: Path, url: str, labels: Mapping[str, str]) -> Path:
    """Note that the try in `work` has a container at `url` with `labels`; returns the note, to be removed with it.

    Raises:
        StorageError: if it cannot be written.
    """
    place = work.with_name(f"{work.name}{_SUFFIX}")
    draft = place.with_suffix(".tmp")
    with system_errors("write", place):
        draft.write_text(json.dumps({"url": url, "labels": dict(labels)}))
        draft.replace(place)
    return place


def end_containers(tries: Path) -> None:
    """Remove the containers of all tries of a step run, whose folder is `tries`.

    Raises:
        ServiceError: if their engine does not answer: a container that may still run must not get company.
    """
    for place in sorted(tries.glob(f"*{_SUFFIX}")):
        _remove(place, _read(place))


def sweep(workspace: Path, catalog: Catalog, *, tries: Path | None = None) -> None:
    """Remove the containers of steps that do not run any more. What cannot be removed is logged, and tried again.

    Args:
        workspace: the workspace's own folder.
        catalog: its catalog, which says what runs.
        tries: only those of one step run: the folder of its tries.
    """
    for place in sorted((tries or workspace / "work").glob(f"*{_SUFFIX}" if tries else f"*/*{_SUFFIX}")):
        try:
            if tries is not None or not _runs(place.parent.name, catalog):
                _remove(place, _read(place))
        except (MlpipeError, OSError) as error:
            _log.warning("a container of step run %s is left: %s", place.parent.name, error)


def _runs(step_run_id: str, catalog: Catalog) -> bool:
    try:
        return catalog.step_by_id(step_run_id).status == "running"
    except NotFoundError:
        return False


def _read(place: Path) -> dict[str, Any]:
    # One that goes meanwhile belongs to a container that goes.
    with suppress(OSError, ValueError):
        found = json.loads(place.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _remove(place: Path, known: Mapping[str, Any]) -> None:
    # Not above: a process that has nothing to remove does not need Docker's library.
    from airflow_mlpipe.engine.docker_engine import DockerEngine

    if known.get("url") and known.get("labels"):
        with closing(DockerEngine.at(known["url"], timeout_s=_PATIENCE_S)) as engine:
            for container in engine.labelled(known["labels"]):
                engine.remove(container["Id"])
    place.unlink(missing_ok=True)
