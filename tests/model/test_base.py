"""What all values have in common."""

from __future__ import annotations

from airflow_mlpipe.model.base import Frozen, build_models


def test_a_kind_of_value_is_built_when_asked_and_not_when_it_is_imported():
    class Kind(Frozen):
        word: str

    class Narrower(Kind):
        number: int

    assert not Narrower.__pydantic_complete__
    build_models()
    assert Kind.__pydantic_complete__ and Narrower.__pydantic_complete__
    assert Narrower(word="a", number=1).model_dump() == {"word": "a", "number": 1}
