"""The DAGs of a workspace's pipelines: what ``dags/mlpipe.py`` puts in front of Airflow."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.engine.dag_factory import build_dag
from airflow_mlpipe.engine.names import WORKSPACE_VARIABLE
from airflow_mlpipe.model.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow.sdk import DAG

SPECS = "specs"
"""Folder of the workspace with the latest spec of each pipeline that ran, ``<pipeline>.json``."""

_log = logging.getLogger(__name__)


def keep_spec(spec: PipelineSpec, workspace: Path) -> None:
    """Make `spec` the one that :func:`load_dags` shows for its pipeline."""
    folder = workspace / SPECS
    folder.mkdir(exist_ok=True)
    # Elsewhere first: a reader never sees half a file. The process id keeps two writers apart.
    draft = folder / f".{spec.name}.{os.getpid()}"
    draft.write_text(spec.to_json(), encoding="utf-8")
    draft.replace(folder / f"{spec.name}.json")


def load_dags(fileloc: str, workspace: Path | None = None) -> dict[str, DAG]:
    """Return the DAGs of the pipelines that ran in a workspace, by name; reads their specs and nothing else.

    A worker that asks for one DAG gets that one alone. A spec that cannot be read is logged and left out: it
    must not take the others with it.

    Args:
        fileloc: the file that is shown as the DAGs' code: the caller's ``__file__``.
        workspace: the ``.mlpipe`` folder; default is the one named by ``MLPIPE_WORKSPACE``, and no DAG without one.
    """
    from airflow.sdk import get_parsing_context

    named = os.environ.get(WORKSPACE_VARIABLE)
    folder = workspace or (Path(named) if named else None)
    if folder is None:
        return {}
    wanted = get_parsing_context().dag_id
    dags = {}
    for path in sorted((folder / SPECS).glob("*.json")):
        if wanted is not None and path.stem != wanted:
            continue
        try:
            spec = PipelineSpec.from_json(path.read_bytes())
            dags[spec.name] = build_dag(spec, workspace=folder, fileloc=fileloc)
        except (OSError, ValueError):
            _log.exception("spec %s cannot be read; submit its pipeline again", path)
    return dags
