"""Making an embedded workspace: its folder, catalog, datastores and, last, its configuration file."""

from __future__ import annotations

import fcntl
import os
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.sdk import registry
from airflow_mlpipe.sdk.workspace_config import FILE, FOLDER, WorkspaceConfig, is_own, read_config, write_config

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.catalog import Catalog

DEFAULT_DATASTORE = "workspaceblobstore"
BORN_WITH = (DEFAULT_DATASTORE, "workspacefilestore")
"""The datastores every workspace has; the first is the default one."""


def catalog_url(folder: Path, config: WorkspaceConfig) -> str:
    """Return the URL of a workspace's catalog."""
    return config.catalog_conn or f"sqlite:///{folder / 'catalog.db'}"


def store_url(url: str, folder: Path, config: WorkspaceConfig) -> str:
    """Return where the datastore registered with `url` is now, if the workspace was moved to `folder` since."""
    old = f"{Path(config.folder or folder).as_uri()}/"
    return f"{folder.as_uri()}/{url.removeprefix(old)}" if url.startswith(old) else url


def make_workspace(folder: Path, config: WorkspaceConfig) -> WorkspaceConfig:
    """Make the workspace `config` in `folder` unless there is one, and return what is there then.

    Safe against another process that does the same, and against one that died half-way.

    Raises:
        ConfigError: if the folder cannot be made or the catalog cannot be created.
    """
    from airflow_mlpipe.catalog.catalog import Catalog

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "create.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            if (folder / FILE).is_file():
                return read_config(folder / FILE)
            made = replace(config, id=str(uuid.uuid4()), folder=str(folder))
            # The workspace lies inside of projects under version control, and is no part of them.
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            (folder / "work").mkdir(exist_ok=True)
            catalog = Catalog.create(catalog_url(folder, made))
            _register_stores(catalog, folder)
            write_config(folder / FILE, made)
            catalog.close()
    except OSError as error:
        raise ConfigError(f"workspace '{config.workspace_name}' cannot be made in '{folder}': {error}") from error
    registry.remember(folder)
    return made


def open_or_make(path: Path, config: WorkspaceConfig) -> tuple[Path, WorkspaceConfig]:
    """Return folder and configuration of the workspace that the file `path` stands for.

    A file of v1's names a workspace in the cloud; the embedded one beside it takes its place, and is made if need be.

    Raises:
        ConfigError: if another workspace lies where it would be made.
    """
    # The path may lead through a link; records hold one spelling of it.
    path = path.resolve()
    if is_own(path):
        return path.parent, _moved(path.parent, config)
    if config.folder and (Path(config.folder) / FILE).is_file():
        return Path(config.folder), read_config(Path(config.folder) / FILE)
    project = path.parent.parent if path.parent.name == ".azureml" else path.parent
    folder = project / FOLDER
    existed = (folder / FILE).is_file()
    made = make_workspace(folder, replace(config, folder="", id=""))
    if made.workspace_name != config.workspace_name:
        raise ConfigError(
            f"'{path}' names workspace '{config.workspace_name}', but the workspace in '{folder}' is "
            f"'{made.workspace_name}'; correct the file, or give the path of the other workspace"
        )
    if not existed:
        print(f"note: made the local workspace '{made.workspace_name}' in {folder} for {path}", file=sys.stderr)
    return folder, _moved(folder, made)


def _moved(folder: Path, config: WorkspaceConfig) -> WorkspaceConfig:
    """Return `config`; if the folder was moved since its datastores were registered, point them to where it is now."""
    # One that may only be read stays as it is: store_url tells where its datastores are.
    if config.folder == str(folder) or not config.folder or not os.access(folder, os.W_OK):
        return config
    from airflow_mlpipe.catalog.catalog import Catalog

    catalog = Catalog.open(catalog_url(folder, config))
    for row in catalog.list_datastores():
        url = store_url(row.url, folder, config)
        if url != row.url:
            row.url = url
            catalog.put_datastore(row)
    catalog.close()
    config = replace(config, folder=str(folder))
    write_config(folder / FILE, config)
    registry.remember(folder)
    return config


def _register_stores(catalog: Catalog, folder: Path) -> None:
    from airflow_mlpipe.catalog.rows import DatastoreRow

    for name in BORN_WITH:
        root = folder / "stores" / name
        root.mkdir(parents=True, exist_ok=True)
        catalog.put_datastore(DatastoreRow(name=name, url=root.as_uri(), is_default=name == DEFAULT_DATASTORE))
