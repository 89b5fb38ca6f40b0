from __future__ import annotations

import importlib.util

import pytest

from airflow_mlpipe.catalog.catalog import Catalog
from airflow_mlpipe.catalog.dialect import PostgresDialect, dialect_of
from airflow_mlpipe.errors import ConfigError, UnreachableError


def test_the_same_statement_is_written_for_each_driver() -> None:
    text = "SELECT k.value FROM {each} WHERE x = ?"
    assert dialect_of("sqlite:////c.db").sql(text) == "SELECT k.value FROM json_each(?) AS k WHERE x = ?"
    expected = "SELECT k.value FROM unnest(%s::text[]) AS k(value) WHERE x = %s"
    assert dialect_of("postgresql+psycopg://host/db").sql(text) == expected


@pytest.mark.skipif(importlib.util.find_spec("psycopg") is not None, reason="psycopg is installed")
def test_without_its_driver_postgresql_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'airflow-mlpipe\[postgres\]'"):
        PostgresDialect("postgresql://host/db").connect()


@pytest.mark.postgres
@pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="psycopg is not installed")
def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(UnreachableError, match="catalog_conn names does not answer") as caught:
        Catalog.open("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_database_without_a_catalog_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="mlpipe init"):
        Catalog.open(url)
