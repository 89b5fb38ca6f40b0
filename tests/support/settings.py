"""The settings of a workspace that a test has made."""

from __future__ import annotations

import json
from pathlib import Path


def change_settings(folder: Path, **settings: object) -> None:
    """Change settings of the workspace in `folder`, before it is opened."""
    path = folder / ".mlpipe" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "settings": {**config.get("settings", {}), **settings}}))
