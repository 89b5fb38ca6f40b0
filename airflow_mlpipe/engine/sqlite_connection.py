"""How a server's processes open Airflow's metadata database where that is SQLite; each of them reads this module."""

from __future__ import annotations

import sqlite3
from typing import Any

WAIT_S = 30.0
"""How long a process waits for the write lock."""

API_WAIT_S = 1.0
"""How long the API server does. Airflow 3.3 notes who did what from its event loop: while that waits for the write
lock, a request that has it cannot end and give it back. The shorter the wait, the sooner the first one fails; it is
tried again."""


class MetadataConnection(sqlite3.Connection):
    """A connection whose commits do not wait for the disk.

    With a write-ahead log this cannot damage the file; a crash of the machine may lose the last states of runs.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous=NORMAL")


CONNECT = {"factory": MetadataConnection, "timeout": WAIT_S}
"""What Airflow's setting ``[database] sql_alchemy_connect_args`` names."""

CONNECT_API = {**CONNECT, "timeout": API_WAIT_S}
