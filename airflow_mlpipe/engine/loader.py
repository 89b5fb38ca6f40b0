"""The DAGs of a workspace's published pipelines: what ``dags/mlpipe.py`` puts in front of Airflow."""

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

PUBLISHED = "published"
"""Folder of the workspace with one spec a file, ``<pipeline>.json``."""

_log = logging.getLogger(__name__)


def load_dags(fileloc: str, workspace: Path | None = None) -> dict[str, DAG]:
    """Return the DAGs of the published pipelines by name; reads their specs and nothing else.

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
    for path in sorted((folder / PUBLISHED).glob("*.json")):
        if wanted is not None and path.stem != wanted:
            continue
        try:
            spec = PipelineSpec.from_json(path.read_bytes())
            dags[spec.name] = build_dag(spec, workspace=folder, fileloc=fileloc)
        except (OSError, ValueError):
            _log.exception("published pipeline %s cannot be read; publish it again", path)
    return dags
