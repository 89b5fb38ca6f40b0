"""How large a snapshot may be, and a message that helps when it is larger."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.errors import ConfigError, PipelineError
from airflow_mlpipe.model.digest import JsonValue
from airflow_mlpipe.storage.ignore import IGNORE_FILES
from airflow_mlpipe.storage.records import Walk

_MIB = 1 << 20
_SHOWN = 5
NO_FILE_LIMIT = "AML_SNAPSHOT_NO_FILE_LIMIT"


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """Limits of a snapshot; the defaults are v1's.

    Attributes:
        max_files: number of files, or None for any.
        max_bytes: sum of their sizes, or None for any.
    """

    max_files: int | None = 2000
    max_bytes: int | None = 300 * _MIB

    @classmethod
    def of(cls, settings: Mapping[str, JsonValue], environment: Mapping[str, str]) -> SnapshotLimits:
        """Return the limits of a workspace.

        Args:
            settings: the workspace's; ``snapshot_max_files`` and ``snapshot_max_bytes`` count, null lifts a limit.
            environment: variables; ``AML_SNAPSHOT_NO_FILE_LIMIT`` lifts the number of files, as in v1.

        Raises:
            ConfigError: if a setting is not a positive integer or null.
        """
        files = _setting(settings, "snapshot_max_files", cls().max_files)
        if environment.get(NO_FILE_LIMIT, "").strip().lower() not in ("", "0", "false", "no"):
            files = None
        return cls(files, _setting(settings, "snapshot_max_bytes", cls().max_bytes))

    @property
    def stop_after(self) -> int | None:
        """Number of entries after which reading on would only make the user wait for the same message."""
        return None if self.max_files is None else max(100_000, 20 * self.max_files)


def check_limits(found: Walk, limits: SnapshotLimits, script: str | None) -> None:
    """Refuse a snapshot that is too large.

    Args:
        found: what it would hold.
        limits: how much it may hold.
        script: a path in it whose folders are not proposed to be ignored.

    Raises:
        PipelineError: naming the largest files and folders, the ignore line to add and the settings.
    """
    files = [(path, size) for path, kind, size, *_ in found.records if kind in ("file", "exec")]
    total = sum(size for _, size in files)
    if limits.max_files is not None and len(files) > limits.max_files:
        more = "more than " if found.truncated else ""
        problem = f"{more}{len(files):,} files; at most {limits.max_files:,} are allowed"
        sizes: list[tuple[str, int]] = [(path, 1) for path, _ in files]
        unit = "files"
        setting = f"settings.snapshot_max_files in .mlpipe/config.json ({NO_FILE_LIMIT}=1 lifts it)"
    elif limits.max_bytes is not None and total > limits.max_bytes:
        problem = f"{_size(total)}; at most {_size(limits.max_bytes)} are allowed"
        sizes, unit = files, "bytes"
        setting = "settings.snapshot_max_bytes in .mlpipe/config.json"
    else:
        return
    largest = _largest(sizes, script)
    shown = ", ".join(f"{name} ({_size(n) if unit == 'bytes' else _count(n)})" for name, n in largest)
    raise PipelineError(
        f"the snapshot of source_directory '{found.root}' has {problem}. Largest: {shown}. Add a line like"
        f" '{ignore_line(largest[0][0])}' to {_ignore_file(found.root)}, or raise {setting}"
    )


def ignore_line(path: str) -> str:
    """Return the line that hides exactly `path` (a folder ends in a slash)."""
    return "/" + re.sub(r"([\\*?\[\]]|(?<!\S) | $)", r"\\\1", path)


def _largest(sizes: list[tuple[str, int]], script: str | None) -> list[tuple[str, int]]:
    """Return the largest files and folders, as high up as can be ignored without hiding the script."""
    needed = set()
    if script is not None:
        parts = script.split("/")
        needed = {"/".join(parts[:depth]) + "/" for depth in range(1, len(parts))}
    sums: dict[str, int] = defaultdict(int)
    for path, size in sizes:
        end = path.find("/") + 1
        while end and path[:end] in needed:
            end = path.find("/", end) + 1
        if path != script:
            sums[path[:end] if end else path] += size
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN] or [(script or "", sizes[0][1])]


def _ignore_file(root: str) -> Path:
    """Return the ignore file in force: a new one of higher rank would switch the present one off."""
    present = [name for name in IGNORE_FILES if Path(root, name).exists()]
    return Path(root, present[0] if present else IGNORE_FILES[0])


def _setting(settings: Mapping[str, JsonValue], name: str, default: int | None) -> int | None:
    value = settings.get(name, default)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigError(f"setting {name} is {value!r}; allowed are a positive integer, or null for no limit")


def _count(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.1f} MB" if size_bytes >= _MIB // 10 else f"{size_bytes:,} bytes"
