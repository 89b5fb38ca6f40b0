"""The folder of what belongs to a user and not to one workspace."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MLPIPE_HOME"
"""Environment variable that names the folder of user-level files; by default ``~/.mlpipe``."""


def home() -> Path:
    """Return the folder of user-level files."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".mlpipe"
