"""Making an embedded workspace: its folder, catalog, datastores and, last, its configuration file."""

from __future__ import annotations

import fcntl
import os
import sys
import uuid
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.sdk import registry
from airflow_mlpipe.sdk.workspace_config import (
    CATALOG_VARIABLE,
    FILE,
    FOLDER,
    STORE_VARIABLE,
    WorkspaceConfig,
    is_own,
    read_config,
    write_config,
)

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


def make_workspace(folder: Path, config: WorkspaceConfig, store: str | None = None) -> WorkspaceConfig:
    """Make the workspace `config` in `folder` unless there is one, and return what is there then.

    Safe against another process that does the same, and against one that died half-way. A catalog on a server that has
    a workspace already keeps it: `folder` becomes this machine's of that one.

    Args:
        folder: the ``.mlpipe`` folder.
        config: the workspace; its `id` and `folder` are given here.
        store: URL below which the datastores that every workspace has are; by default in `folder`.

    Raises:
        ConfigError: if the folder cannot be made, the catalog cannot be created, or is of a workspace of another name.
    """
    from airflow_mlpipe.catalog.catalog import Catalog
    from airflow_mlpipe.catalog.rows import WorkspaceRow

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "create.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            if (folder / FILE).is_file():
                return read_config(folder / FILE)
            catalog = Catalog.create(catalog_url(folder, config))
            named = WorkspaceRow(id=str(uuid.uuid4()), name=config.workspace_name)
            kept = catalog.name_workspace(named) if config.catalog_conn else named
            if kept.name != named.name:
                raise ConfigError(f"the catalog is of workspace '{kept.name}', not '{named.name}'; give it that name")
            made = replace(config, id=kept.id, folder=str(folder))
            # The workspace lies inside of projects under version control, and is no part of them.
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            (folder / "work").mkdir(exist_ok=True)
            known = {row.name for row in catalog.list_datastores()} if config.catalog_conn else set()
            _register_stores(catalog, folder, store, known)
            write_config(folder / FILE, made)
            catalog.close()
    except OSError as error:
        raise ConfigError(f"workspace '{config.workspace_name}' cannot be made in '{folder}': {error}") from error
    registry.remember(folder)
    return made


def shared_or_own(config: WorkspaceConfig) -> tuple[WorkspaceConfig, str | None]:
    """Return what to make of a new workspace: its configuration, and the URL below which its first datastores lie.

    One that machines share if the environment names a catalog on a server.
    """
    url = os.environ.get(CATALOG_VARIABLE)
    if not url:
        return config, None
    return replace(config, catalog_conn=url), os.environ.get(STORE_VARIABLE) or None


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
    """Return `config`; if the folder was moved since its datastores were registered, point them to where it is now.

    A catalog on a server has other users, and the folder may be a copy on another machine: there only a datastore
    that is no longer where it was registered, and is here, was moved.
    """
    # One that may only be read stays as it is: store_url tells where its datastores are.
    if config.folder == str(folder) or not config.folder or not os.access(folder, os.W_OK):
        return config
    from airflow_mlpipe.catalog.catalog import Catalog

    catalog = Catalog.open(catalog_url(folder, config))
    for row in catalog.list_datastores():
        url = store_url(row.url, folder, config)
        if url != row.url and (not config.catalog_conn or (_is_there(url) and not _is_there(row.url))):
            row.url = url
            catalog.put_datastore(row)
    catalog.close()
    config = replace(config, folder=str(folder))
    write_config(folder / FILE, config)
    registry.remember(folder)
    return config


def _is_there(url: str) -> bool:
    return Path(unquote(urlsplit(url).path)).is_dir()


def _register_stores(catalog: Catalog, folder: Path, store: str | None, known: Collection[str]) -> None:
    from airflow_mlpipe.catalog.rows import DatastoreRow

    for name in BORN_WITH:
        if name in known:
            continue
        root = folder / "stores" / name
        if store is None:
            root.mkdir(parents=True, exist_ok=True)
        url = root.as_uri() if store is None else f"{store.rstrip('/')}/{name}"
        catalog.put_datastore(DatastoreRow(name=name, url=url, is_default=name == DEFAULT_DATASTORE))
