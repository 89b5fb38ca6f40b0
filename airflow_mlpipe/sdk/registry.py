"""The user's list of workspaces, through which ``Workspace.get(name)`` finds one from any folder."""

from __future__ import annotations

import fcntl
import json
import sys
import tempfile
from pathlib import Path

from airflow_mlpipe.sdk.workspace_config import FILE, WorkspaceConfig, read_config
from airflow_mlpipe.storage.home import home

_LIST = "workspaces.json"


def known_workspaces() -> list[tuple[Path, WorkspaceConfig]]:
    """Return the workspaces on the list whose folders still exist, each with its configuration, oldest first."""
    found = []
    for folder in _read():
        if (folder / FILE).is_file():
            found.append((folder, read_config(folder / FILE)))
    return found


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
