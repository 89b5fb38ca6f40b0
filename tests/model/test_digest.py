"""Identity is written down the same way everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.model.digest import canonical_json, digest_bytes, digest_json, hex_part, short

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_key_order_does_not_matter(value):
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)


def test_types_stay_apart():
    encodings = {canonical_json(value) for value in (1, 1.0, True, "1")}
    assert len(encodings) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_equal_nothing_are_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_a_name_that_is_not_utf8_has_an_identity():
    assert canonical_json("a\udcff") == b'"a\xff"'


def test_tags_keep_kinds_apart():
    assert digest_json("tree", []) != digest_json("step", [])


def test_known_digest_of_bytes():
    # The published BLAKE3 digest of the empty input.
    assert digest_bytes(b"") == "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_forms_for_people_and_file_names():
    digest = digest_bytes(b"x")
    assert short(digest) == digest[:15]
    assert "b3:" + hex_part(digest) == digest
