"""Which driver speaks to the store at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotSupportedError
from airflow_mlpipe.storage.urls import REMOTE, is_database

if TYPE_CHECKING:
    from airflow_mlpipe.storage.driver import Driver

_EXTRAS = {"s3fs": "s3", "adlfs": "azure", "gcsfs": "gcs", "aiohttp": "http"}


def driver_of(name: str, url: str, options: Mapping[str, Any], answer_s: float) -> Driver:
    """Return what speaks to the store at `url`; nothing is asked yet.

    Args:
        name: of the datastore.
        url: its place.
        options: settings of the scheme, secrets included.
        answer_s: longest wait for bytes of an answer, in seconds.

    Raises:
        ConfigError: if the URL or an option is not allowed, or the scheme's library is not installed.
        NotSupportedError: for another scheme.
    """
    try:
        return _driver_of(name, url, options, answer_s)
    except ImportError as error:
        extra = _EXTRAS.get(error.name or "", "")
        if not extra:
            raise
        scheme = url.partition("://")[0]
        raise ConfigError(
            f"datastore '{name}': {scheme}:// needs {error.name}; pip install 'airflow-mlpipe[{extra}]'"
        ) from error


def _driver_of(name: str, url: str, options: Mapping[str, Any], answer_s: float) -> Driver:
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme == "adl":
        raise NotSupportedError(
            f"datastore '{name}': Azure Data Lake Storage gen 1 (adl://) was shut down on 29 February 2024; move "
            "the data to gen 2 and use "
            "abfss://FILESYSTEM@ACCOUNT.dfs.core.windows.net/PATH or register_azure_data_lake_gen2"
        )
    if is_database(url):
        from airflow_mlpipe.storage.database import no_files

        raise no_files(name)
    if scheme not in REMOTE:
        raise NotSupportedError(
            f"datastore '{name}': scheme '{scheme}' is not supported; use a folder (a path or file:///path), s3://, "
            "az://, abfs[s]://, gs:// or http[s]://"
        )
    if not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"datastore '{name}': '{scheme}://...' must name a bucket, container or host, and no query")
    folder = unquote(parts.path) if scheme in ("http", "https") else parts.path
    if scheme in ("s3", "s3a"):
        import s3fs  # noqa: F401

        from airflow_mlpipe.storage.s3 import S3Driver

        return S3Driver(parts.netloc, folder, options, answer_s)
    if scheme in ("gs", "gcs"):
        import gcsfs  # noqa: F401

        from airflow_mlpipe.storage.gcs import GcsDriver

        return GcsDriver(parts.netloc, folder, options, answer_s)
    if scheme in ("http", "https"):
        import aiohttp  # noqa: F401

        from airflow_mlpipe.storage.web import WebDriver

        return WebDriver(url, options, answer_s)
    import adlfs  # noqa: F401

    from airflow_mlpipe.storage.azure import AzureDriver

    container, _, host = parts.netloc.rpartition("@")
    return AzureDriver(name, container or host, host if container else "", folder, options, answer_s)
