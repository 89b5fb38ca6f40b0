"""The rooms of a process: what parses a DAG and what runs its task have one, and one connection to the catalog."""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe.catalog.connection import RECONNECT_S
from airflow_mlpipe.engine.room import room_at, room_of


def test_a_room_is_kept_however_it_is_asked_for(tmp_path: Path) -> None:
    room = room_at(str(tmp_path))
    assert room_at(str(tmp_path), RECONNECT_S) is room
    assert room_of(str(tmp_path)) is room
    assert room_at(str(tmp_path), patience_s=0.0) is not room
