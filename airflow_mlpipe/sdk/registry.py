"""The workspaces of this machine: the user's list of them, and which one a name means, from any folder."""

from __future__ import annotations

import fcntl
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.sdk.workspace_config import FILE, WorkspaceConfig, candidates, is_own, read_config
from airflow_mlpipe.storage.home import home

_LIST = "workspaces.json"


def known_workspaces() -> list[tuple[Path, WorkspaceConfig]]:
    """Return the workspaces on the list whose folders still exist, each with its configuration, oldest first."""
    found = []
    for folder in _read():
        if (folder / FILE).is_file():
            found.append((folder, read_config(folder / FILE)))
    return found


def find(name: str, subscription_id: str | None, resource_group: str | None) -> tuple[Path, WorkspaceConfig]:
    """Return the one workspace of a name, its folder and its configuration.

    Args:
        name: its name.
        subscription_id: only one with this, if it is given and the workspace has one.
        resource_group: likewise.

    Raises:
        ConfigError: if there is none, or more than one; the message names the folders.
    """
    found = matching(name, subscription_id, resource_group)
    if len(found) > 1:
        folders = " and ".join(f"'{folder}'" for folder, _ in found)
        raise ConfigError(
            f"there are {len(found)} workspaces named '{name}', in {folders}; "
            f"open the one you mean with Workspace.from_config('{found[0][0].parent}')"
        )
    if not found:
        known = ", ".join(sorted({f"'{config.workspace_name}'" for _, config in _local()})) or "none yet"
        raise ConfigError(
            f"there is no workspace '{name}' on this machine; there are: {known}; "
            f"make it with Workspace.create('{name}') or 'mlpipe init'"
        )
    return found[0]


def matching(name: str, subscription_id: str | None, resource_group: str | None) -> list[tuple[Path, WorkspaceConfig]]:
    """Return all workspaces that :func:`find` might mean."""

    def fits(wanted: str | None, has: str) -> bool:
        return not wanted or not has or wanted == has

    return [
        (folder, config)
        for folder, config in _local()
        if config.workspace_name == name
        and fits(subscription_id, config.subscription_id)
        and fits(resource_group, config.resource_group)
    ]


def remember(folder: Path) -> None:
    """Put a workspace's folder on the list. A home that cannot be written costs a note, not the workspace."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        with (home() / f"{_LIST}.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            kept = [known for known in _read() if (known / FILE).is_file() and known != folder]
            text = json.dumps({"workspaces": [str(known) for known in (*kept, folder)]}, indent=2)
            with tempfile.NamedTemporaryFile("w", dir=home(), prefix=_LIST, delete=False, encoding="utf-8") as file:
                file.write(text + "\n")
            Path(file.name).replace(home() / _LIST)
    except OSError as error:
        print(
            f"note: '{home() / _LIST}' cannot be written ({error.strerror}); Workspace.get() will not find the "
            f"workspace by name, Workspace.from_config('{folder.parent}') will",
            file=sys.stderr,
        )


def _read() -> list[Path]:
    try:
        listed = json.loads((home() / _LIST).read_text(encoding="utf-8"))["workspaces"]
        return [Path(folder) for folder in listed if isinstance(folder, str)]
    except (OSError, ValueError, TypeError, KeyError):
        # The list is a convenience that is rebuilt as workspaces are made; a damaged one is an empty one.
        return []


def _local() -> Iterator[tuple[Path, WorkspaceConfig]]:
    """Yield the workspaces of this user and that of the working directory, each once."""
    known = dict(known_workspaces())
    yield from known.items()
    for path in candidates(Path.cwd()):
        if is_own(path) and path.parent.resolve() not in known:
            yield path.parent.resolve(), read_config(path)
            return
