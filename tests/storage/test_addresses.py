"""S16: a web datastore leads to no address of this machine or of a private network, whatever leads there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_site import Site, redirect, serving

from airflow_mlpipe.errors import ConfigError, StorageError
from airflow_mlpipe.storage import addresses
from airflow_mlpipe.storage.addresses import is_public
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.remote import RemoteStore


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/f").write_bytes(b"secret")
    with serving(tmp_path / "site") as served:
        yield served


@pytest.fixture
def only_this_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for the internet, so that a redirect from there can lead elsewhere."""
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")


def web(url: str, **options: object) -> RemoteStore:
    store = open_store("web", url, {"deadline_s": 5, **options})
    assert isinstance(store, RemoteStore)
    return store


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "not an address",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused_under_every_name(host: str, site: Site) -> None:
    store = web(site.url.replace("127.0.0.1", host))
    for action in (lambda: store.read_bytes("f"), lambda: store.listing("f"), lambda: store.exists("f")):
        with pytest.raises((ConfigError, StorageError)) as caught:
            action()
        if isinstance(caught.value, ConfigError):
            assert "not a public address; register the datastore with allow_private=True" in str(caught.value)
    store.close()
    assert site.requests == []


def test_this_machine_is_allowed_where_the_datastore_says_so(site: Site) -> None:
    store = web(site.url, allow_private=True)
    assert store.read_bytes("f") == b"secret"
    store.close()


@pytest.mark.parametrize("allowed", ["true", "yes", 1])
def test_only_true_allows(allowed: object, site: Site) -> None:
    store = web(site.url, allow_private=allowed)
    with pytest.raises(ConfigError, match="not a public address"):
        store.read_bytes("f")
    store.close()


@pytest.mark.usefixtures("only_this_is_public")
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://127.0.0.2:{port}/f", "leads to 127.0.0.2"),
        ("//127.0.0.3:{port}/f", "leads to 127.0.0.3"),
        ("http://[::1]:{port}/f", "leads to ::1"),
        ("file:///etc/passwd", "redirected from http:// to file://"),
        ("gopher://127.0.0.1:{port}/f", "redirected from http:// to gopher://"),
        ("/loop", "redirected more than 10 times"),
    ],
)
def test_every_redirect_is_checked(target: str, why: str, site: Site) -> None:
    port = site.url.rpartition(":")[2]
    site.answers["/start"] = lambda handler: redirect(handler, "/next")
    site.answers["/next"] = lambda handler: redirect(handler, target.format(port=port))
    site.answers["/loop"] = lambda handler: redirect(handler, "/loop")
    store = web(site.url)
    with pytest.raises(ConfigError, match=why):
        store.read_bytes("start")
    store.close()
    assert all(path != "/f" for _, path, _ in site.requests)


@pytest.mark.usefixtures("only_this_is_public")
def test_secrets_are_not_sent_to_where_it_is_redirected(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/f").write_bytes(b"1")
    with serving(tmp_path / "other") as other:
        site.answers["/away"] = lambda handler: redirect(handler, f"{other.url}/f")
        site.answers["/here"] = lambda handler: redirect(handler, "/f")
        store = web(site.url, token="t0ken", headers={"X-Key": "k3y"})
        assert store.read_bytes("away") == b"1" and store.read_bytes("here") == b"secret"
        store.close()
        assert not any({"Authorization", "X-Key"} & set(headers) for _, _, headers in other.requests)
    assert all(
        headers["Authorization"] == "Bearer t0ken" and headers["X-Key"] == "k3y" for *_, headers in site.requests
    )


@pytest.mark.parametrize("url", ["https://user:pw@host/x", "https://host/x?sig=abc", "https:///x"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("web", url, {})
    assert "pw" not in str(caught.value) and "abc" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"option 'proxy' is not known"):
        open_store("web", "https://host", {"proxy": "x"})
