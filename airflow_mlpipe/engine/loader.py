"""The DAGs of a workspace's pipelines: what the bundle's files and ``dags/mlpipe.py`` put in front of Airflow."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.engine.settings import config_of, is_shared, lost_tries, named_workspace, placed, wait_for_inputs_s
from airflow_mlpipe.engine.spec_registry import Registry, SpecRegistry, shard_of
from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.model.digest import short

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_mlpipe.model.digest import Digest

_log = logging.getLogger(__name__)


def load_dags(
    fileloc: str, workspace: Path | str | None = None, *, version: str | None = None, shard: str | None = None
) -> dict[str, DAG]:
    """Return the DAGs of the pipelines of a workspace, by name; reads their specs and nothing else.

    A worker that asks for one DAG gets that one alone. A spec that cannot be read or made a DAG of is an import error
    of its own, ``<pipeline>.json``: it does not take the others with it.

    Args:
        fileloc: the file that is shown as the DAGs' code: the caller's ``__file__``.
        workspace: the ``.mlpipe`` folder; default is that of this machine, and no DAG without one, or where a DAG
            bundle shows its pipelines already.
        version: of the registry; default is the newest.
        shard: only the pipelines of this part of the registry; default is all.
    """
    from airflow.sdk import get_parsing_context

    named = named_workspace(workspace)
    if named is None or (workspace is None and version is None and _bundle_shows_them()):
        return {}
    folder = Path(named)
    registry = registry_at(folder)
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        digest = registry.digest_of(wanted, version)
        return {} if digest is None else {wanted: _build(registry, wanted, digest, folder, fileloc)}
    dags: dict[str, DAG] = {}
    for name, (digest, _) in sorted(registry.entries(version).items()):
        if shard is not None and shard_of(name) != shard:
            continue
        try:
            dag = _build(registry, name, digest, folder, fileloc)
            # Airflow does it again, but books what it finds - a schedule that is none - on the whole file.
            dag.validate()
        except Exception as error:
            _log.exception("pipeline '%s': no DAG can be made of its spec %s", name, digest)
            why = " ".join(str(error).split()).rstrip(".")
            dag = _broken(name, f"pipeline '{name}': no DAG can be made of its spec {short(digest)}: {why}")
        dags[name] = dag
    return dags


def _bundle_shows_them() -> bool:
    """Whether this Airflow has the workspace as a bundle: two files with one DAG take it from each other."""
    from airflow.configuration import conf

    return "WorkspaceBundle" in (conf.get("dag_processor", "dag_bundle_config_list", fallback="") or "")


def registry_at(folder: Path) -> Registry:
    """Return the registry of a workspace."""
    if not is_shared(_config(folder)):
        return SpecRegistry(folder)
    # Here, not above: a workspace in one folder needs nothing of it to be parsed.
    from airflow_mlpipe.engine.room import room_at

    return room_at(str(folder)).registry


def _build(registry: Registry, name: str, digest: Digest, workspace: Path, fileloc: str) -> DAG:
    from airflow_mlpipe.engine.dag_factory import build_dag

    spec = registry.spec(digest)
    if spec.name != name:
        raise ValueError(f"it is the spec of '{spec.name}'")
    config = _config(workspace)
    return build_dag(
        spec,
        workspace=placed(workspace),
        fileloc=fileloc,
        wait_for_inputs_s=wait_for_inputs_s(config),
        lost_tries=lost_tries(config),
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        return config_of(folder)
    except ConfigError:
        # What reads the specs, or the tasks, will say what is wrong with it.
        return {}


def _broken(name: str, why: str) -> DAG:
    """Return a DAG that becomes an import error of its own, the only kind that spares the file's other DAGs.

    Airflow marks every DAG of a file as gone when the file itself has an error. An error in serializing is
    booked on the path that the DAG names.
    """
    from airflow.sdk import DAG

    class Broken(DAG):
        """Never serialized."""

        @property
        def relative_fileloc(self) -> str:
            return f"{name}.json"

        @relative_fileloc.setter
        def relative_fileloc(self, _path: Any) -> None:
            """Whatever file it was loaded from."""

        @classmethod
        def get_serialized_fields(cls) -> frozenset[str]:
            raise ValueError(f"{why}; submit the pipeline again")

    return Broken(name, schedule=None)
