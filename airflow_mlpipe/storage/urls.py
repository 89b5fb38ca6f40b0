"""What the URL of a datastore means, by its scheme alone."""

from __future__ import annotations

REMOTE = frozenset({"s3", "s3a", "az", "abfs", "abfss", "wasb", "wasbs", "gs", "gcs", "http", "https"})
"""Schemes of remote datastores."""

_DATABASES = frozenset(
    {"postgresql", "mysql", "mariadb", "sqlite", "mssql", "oracle", "snowflake", "redshift", "bigquery", "databricks",
     "trino", "duckdb", "clickhouse", "db2"}
)  # fmt: skip


def is_remote(url: str) -> bool:
    """Whether the scheme of `url` is one of a remote datastore."""
    return url.partition("://")[0].lower() in REMOTE and "://" in url


def is_folder(url: str) -> bool:
    """Whether `url` is a folder of this machine: a plain path or ``file:///path``."""
    return "://" not in url or url.startswith("file://")


def is_database(url: str) -> bool:
    """Whether `url` has the form of one of SQLAlchemy's, and means no files."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and (scheme.partition("+")[0].lower() in _DATABASES or "+" in scheme)
