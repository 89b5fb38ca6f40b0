"""Where a process that is no task of Airflow's has the credentials of its datastores from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.context import current_context
from airflow_mlpipe.execution.lent import borrowed
from airflow_mlpipe.model.data import is_web
from airflow_mlpipe.sdk.engine import server_connection
from airflow_mlpipe.storage.credentials import add_connection_resolver, lend, resolve
from airflow_mlpipe.storage.urls import is_folder

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.workspace import Workspace


def provide_credentials() -> None:
    """Let datastores of this process find their credentials: a step's script has what it was lent, others ask Airflow.

    Raises:
        UsageError: if what was lent cannot be read.
    """
    add_connection_resolver(_known_here, last=True)
    context = current_context()
    if context is not None:
        lend(Path(context.workspace), borrowed())


def credentials_of(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the options of a datastore elsewhere with its secrets; nothing of one that is here, or on the web.

    Raises:
        NotFoundError: if there is no datastore of that name.
        ConfigError: if its connection is missing.
    """
    if is_web(name):
        return {}
    provide_credentials()
    row = workspace.catalog.get_datastore(name)
    return {} if is_folder(row.url) else resolve(row.name, row.url, row.options, workspace.dir)


def _known_here(conn_id: str, workspace: Path | None) -> Mapping[str, Any] | None:
    # Asked anew each time: a process can belong to a step for a while, as a notebook does that debugs one.
    if current_context() is None:
        return server_connection(conn_id, workspace)
    raise ConfigError(
        f"connection '{conn_id}' is not lent to this step's script; make a dataset of the datastore an input of the "
        "step, or name the datastore in the workspace's setting pass_credentials, a list"
    )
