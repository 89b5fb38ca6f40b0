"""What the clients of S3 in a process share, and what they do not."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import emulators
import pytest

pytest.importorskip("s3fs", reason="needs s3fs: pip install 'airflow-mlpipe[s3]'")

import certifi
from botocore.exceptions import ProfileNotFound
from botocore.loaders import JSONFileLoader

from airflow_mlpipe.errors import UnreachableError
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.s3_session import load, new_session, trusting

CERTIFICATES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of descriptions and certificates from here on."""
    read: list[str] = []
    load_file = JSONFileLoader.load_file
    locations = ssl.SSLContext.load_verify_locations

    def described(self: JSONFileLoader, path: str) -> Any:
        found = load_file(self, path)
        return found if found is None else read.append(path) or found

    def trusted(self: ssl.SSLContext, cafile: Any = None, *others: Any) -> None:
        read.append(str(cafile))
        locations(self, cafile, *others)

    monkeypatch.setattr(JSONFileLoader, "load_file", described)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", trusted)
    return read


def asked() -> None:
    """Make a client and let it ask a server that is not there."""
    url = f"http://127.0.0.1:{emulators.free_port()}"
    store = RemoteStore("lake", "s3://lake", {"endpoint_url": url, "key": "k", "secret": "s", "deadline_s": 0.2})
    with pytest.raises(UnreachableError):
        store.exists("a")
    store.close()


@pytest.mark.parametrize("named", [None, *CERTIFICATES])
def test_a_client_reads_nothing_that_was_loaded(
    named: str | None, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    bundle = tmp_path / "ca.pem"
    if named is not None:
        bundle.write_bytes(Path(certifi.where()).read_bytes())
        monkeypatch.setenv(named, str(bundle))
    load()
    read.clear()
    asked()
    assert read == []
    if named is not None:
        # Renewed, it is read again.
        bundle.write_bytes(bundle.read_bytes() + b"\n")
        asked()
        assert read == [str(bundle)]


def test_a_child_process_reads_nothing_either_and_has_a_client_of_its_own(read: list[str]) -> None:
    load()
    read.clear()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asked()
            code = 0 if read == [] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sessions_share_descriptions_and_no_credentials() -> None:
    load()
    first, second = new_session(), new_session()
    assert first is not second
    assert first.get_component("data_loader") is second.get_component("data_loader")
    first.set_credentials("one", "secret")
    assert second._credentials is None


def test_a_session_that_was_made_beforehand_sees_what_was_set_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    config = tmp_path / "config"
    config.write_text("[profile team]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert new_session().get_config_variable("region") == "eu-central-1"


def test_a_profile_that_is_missing_is_told_by_the_client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    load()
    with pytest.raises(ProfileNotFound):
        new_session()


@pytest.mark.parametrize("own", ["client_cert", "proxies", "proxies_config", "http_session_cls"])
def test_a_client_with_certificates_of_its_own_shares_none(own: str) -> None:
    assert trusting({own: "x"}) == {own: "x"}
    assert trusting({"read_timeout": 1.0}).keys() == {"read_timeout", "http_session_cls"}
