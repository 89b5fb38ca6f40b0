"""Snapshots of source directories, as the other floors see them: taken, stored, laid out again.

``source`` says which files belong to one, ``limits`` how many they may be, ``archive`` how a store keeps them and
``imports`` what they import.
"""

from __future__ import annotations

from airflow_mlpipe.storage.archive import archive_path, extract_snapshot, store_snapshot
from airflow_mlpipe.storage.ignore import IgnoreRules, Rule
from airflow_mlpipe.storage.imports import python_imports
from airflow_mlpipe.storage.limits import SnapshotLimits
from airflow_mlpipe.storage.source import Snapshot, SourceScan, relative_path, take_snapshot

__all__ = [
    "IgnoreRules",
    "Rule",
    "Snapshot",
    "SnapshotLimits",
    "SourceScan",
    "archive_path",
    "extract_snapshot",
    "python_imports",
    "relative_path",
    "store_snapshot",
    "take_snapshot",
]
