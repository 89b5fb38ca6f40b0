"""What differs between two trees, in words."""

from __future__ import annotations

from airflow_mlpipe.model.result import TreeManifest

NAMED_FILES = 3
"""How many changed files a text names before it counts the rest."""


def changed_text(after: TreeManifest, before: TreeManifest, *, count: bool = True) -> str:
    """Name the files that differ between two trees, or return '' if none does.

    Args:
        after: the tree that is there now.
        before: the tree that was there before.
        count: also say how many of how many files differ.
    """
    new_files = {entry.path: (entry.type, entry.digest) for entry in after.entries}
    old_files = {entry.path: (entry.type, entry.digest) for entry in before.entries}
    both = new_files.keys() & old_files.keys()
    every = new_files.keys() | old_files.keys()
    changed = [
        f"{path or 'the file'} {'changed' if path in both else 'added' if path in new_files else 'removed'}"
        for path in sorted(every)
        if new_files.get(path) != old_files.get(path)
    ]
    more = f" and {len(changed) - NAMED_FILES:,} more" if len(changed) > NAMED_FILES else ""
    named = ", ".join(changed[:NAMED_FILES]) + more
    if changed and count and len(every) > 1:
        return f"{len(changed):,} of {len(every):,} files differ: {named}"
    return named
