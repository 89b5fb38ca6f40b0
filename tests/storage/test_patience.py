"""How long requests of a remote store are made again, and which of their failures is told in the end."""

from __future__ import annotations

import asyncio

import pytest

from airflow_mlpipe.storage.patience import Patience
from airflow_mlpipe.storage.remote_errors import HttpStatusError, trouble_of


def test_a_store_that_was_busy_before_time_ran_out_is_told_as_busy():
    tries = 0

    async def request() -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            await asyncio.Event().wait()
        raise HttpStatusError(503, "Slow down")

    with pytest.raises(HttpStatusError) as caught:
        asyncio.run(Patience(0.3).attempt(request))
    assert tries == 2
    assert trouble_of(caught.value) == "busy"
    assert caught.value.__context__ is None, "the timeout is told as well"


def test_a_store_that_says_nothing_is_told_as_such():
    with pytest.raises(TimeoutError) as caught:
        asyncio.run(Patience(0.05).attempt(asyncio.Event().wait))
    assert trouble_of(caught.value) == "stalled"
