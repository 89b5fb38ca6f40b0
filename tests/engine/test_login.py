"""Where the login of a remote Airflow comes from."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from airflow_mlpipe.engine.client import PASSWORD_VARIABLE, TOKEN_VARIABLE, USER_VARIABLE, _login
from airflow_mlpipe.errors import ConfigError

URL = "https://airflow.example.com"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USER_VARIABLE, PASSWORD_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)


def with_keyring(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    """A keyring with passwords by user for the service URL."""

    def get_credential(service: str, user: str | None) -> SimpleNamespace | None:
        assert service == URL
        name = user or next(iter(entries), None)
        return SimpleNamespace(username=name, password=entries[name]) if name in entries else None

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_credential=get_credential))


def test_a_token_of_the_environment_is_first(monkeypatch: pytest.MonkeyPatch):
    with_keyring(monkeypatch, ann="from-keyring")
    monkeypatch.setenv(USER_VARIABLE, "bob")
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    assert (_login(URL).user, _login(URL).password) == ("bob", "secret")
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token")
    assert (_login(URL).user, _login(URL).password) == ("", "a-token")


def test_the_keyring_is_asked_for_the_server(monkeypatch: pytest.MonkeyPatch):
    with_keyring(monkeypatch, ann="of-ann", bob="of-bob")
    assert (_login(URL).user, _login(URL).password) == ("ann", "of-ann")
    monkeypatch.setenv(USER_VARIABLE, "bob")
    assert (_login(URL).user, _login(URL).password) == ("bob", "of-bob")
    assert "keyring" in _login(URL).advice


def test_without_any_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    wanted = f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or {TOKEN_VARIABLE}, or install"
    with pytest.raises(ConfigError, match=wanted):
        _login(URL)
    with_keyring(monkeypatch)
    with pytest.raises(ConfigError, match="no login for Airflow at https://airflow.example.com"):
        _login(URL)
