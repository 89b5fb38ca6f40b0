from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.catalog.columns import TEXT, RowMap, loaded_text, stored_json, stored_text, stored_time
from airflow_mlpipe.catalog.rows import EnvironmentRow

ANY_TEXT = st.text(st.characters())


@given(ANY_TEXT)
def test_any_text_comes_back_and_can_be_encoded(text: str) -> None:
    stored = stored_text(text)
    stored.encode()
    assert "\0" not in stored
    assert loaded_text(stored) == text


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_are_stored_differently(one: str, other: str) -> None:
    assert (stored_text(one) == stored_text(other)) == (one == other)


@pytest.mark.parametrize("text", ["plain", "größe", "日本 🎉", ""])
def test_an_ordinary_name_is_stored_as_it_is(text: str) -> None:
    assert stored_text(text) == text


def test_times_are_utc_with_microseconds_and_sort_as_text() -> None:
    noon_in_berlin = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    assert stored_time(noon_in_berlin) == "2026-01-01T11:00:00.000000+00:00"
    times = [datetime(2026, 1, 1, 11, 0, 0, micro, tzinfo=UTC) for micro in (0, 1, 10, 999_999)]
    assert sorted(map(stored_time, times)) == [stored_time(time) for time in times]


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        stored_time(datetime(2026, 1, 1))


def test_json_is_ascii_and_keeps_what_is_not_a_number() -> None:
    text = stored_json({"name": "\udc80é", "loss": math.inf})
    assert text.isascii()
    assert "Infinity" in text


def test_json_refuses_what_it_cannot_say() -> None:
    with pytest.raises(TypeError, match="set is not a JSON type"):
        stored_json({1, 2})


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    rows = RowMap(EnvironmentRow, "environments", {"name": TEXT, "version": TEXT})
    with pytest.raises(ValueError, match="no column colour; it has: name, version"):
        rows.assignments(["name", "colour"])
