"""What a step's process runs on: its interpreter, and what it inherits."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What a step's process runs on.

    Attributes:
        python: what runs a script: the path of an interpreter, or a name to be found on the process's PATH.
        first_on_path: folder that stands first on its PATH, so that ``python`` in a command is `python`; None where
            the PATH is not ours to set, as in an image.
        shell: what runs a shell line; None for ``bash`` where its PATH has one, else ``sh``.
        parent: environment that it inherits the allowed variables from.
        import_root: folder that its interpreter needs on PYTHONPATH to find this package; None if it finds it, or has
            none.
        sees_mounts: whether it sees what this process mounts; else its inputs are copies.
        sees_catalog: whether it reaches the workspace; else it is told where its datasets' files are.
        sees_files: whether files of this machine can be shown to it where they are.
        variables: what its process is told of where it is, such as ``VIRTUAL_ENV``.
    """

    python: str
    first_on_path: str | None = None
    shell: str | None = None
    parent: Mapping[str, str] = field(default_factory=dict)
    import_root: str | None = None
    sees_mounts: bool = True
    sees_catalog: bool = True
    sees_files: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


IMAGE = Software(python="python", shell="sh", sees_mounts=False, sees_catalog=False)
"""What a container's process runs on: what its image has."""


def this_interpreter(parent: Mapping[str, str] | None = None) -> Software:
    """Return the interpreter of this process, for a process that inherits from `parent`, by default from this one."""
    return Software(
        python=sys.executable,
        first_on_path=str(Path(sys.executable).parent),
        parent=os.environ if parent is None else parent,
        import_root=_import_root(),
    )


@cache
def _import_root() -> str | None:
    """Return the folder that holds this package if a new interpreter would not find it, else None."""
    import site
    from importlib.metadata import distributions

    root = Path(__file__).resolve().parents[2]
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    if str(root) in folders or any(distributions(name="airflow-mlpipe", path=folders)):
        return None
    return str(root)
