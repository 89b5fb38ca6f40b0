"""What a mount shows: names and what they stand for. It is the listing that it was made of, and never looks again."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping

from airflow_mlpipe.errors import StorageError

READ_ONLY_FILE = stat.S_IFREG | 0o444
READ_ONLY_FOLDER = stat.S_IFDIR | 0o555
LINK = stat.S_IFLNK | 0o777


class MountTable:
    """A tree of folders, files known by number, and links.

    Args:
        files: number of each file by its name, which is relative and posix.
        links: what each link means, by its name.
        folders: names of folders that may be empty; those of files and links need not be named.

    Raises:
        StorageError: if a name is none that a file can have, or stands for a file and a folder.
    """

    def __init__(self, files: Mapping[str, int], links: Mapping[str, str], folders: Iterable[str] = ()) -> None:
        self.files = {f"/{name}": number for name, number in files.items()}
        self.links = {f"/{name}": target for name, target in links.items()}
        self._folders: dict[str, dict[str, int]] = {"/": {}}
        for name, kind in (
            *((name, READ_ONLY_FILE) for name in files),
            *((name, LINK) for name in links),
            *((name, READ_ONLY_FOLDER) for name in folders),
        ):
            self._add(name, kind)

    def names(self, folder: str) -> Mapping[str, int] | None:
        """Return the modes of what lies in a folder, by name; None if there is no such folder."""
        return self._folders.get(folder)

    def _add(self, name: str, kind: int) -> None:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise StorageError(
                f"an object is named '{name}', which cannot be a file on this machine; rename it or name the files you "
                "want by a pattern that leaves it out"
            )
        at = ""
        for depth, part in enumerate(parts, start=1):
            mode = kind if depth == len(parts) else READ_ONLY_FOLDER
            if self._folders[at or "/"].setdefault(part, mode) != mode:
                raise StorageError(f"'{at}/{part}' is a file and a folder; rename one of them".replace("'/", "'", 1))
            at = f"{at}/{part}"
            if mode == READ_ONLY_FOLDER:
                self._folders.setdefault(at, {})
