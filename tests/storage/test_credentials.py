"""Secrets come from a few places, and go to none."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from airflow_mlpipe.errors import ConfigError, PermissionDeniedError, UnreachableError
from airflow_mlpipe.storage import credentials
from airflow_mlpipe.storage.credentials import (
    SecretFile,
    add_connection_resolver,
    is_secret,
    lend,
    resolve,
    split_secrets,
)
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.remote import RemoteStore
from airflow_mlpipe.storage.remote_errors import explained, redacted

S3 = "s3://bucket"
AZURE = "az://container"


@pytest.mark.parametrize(
    "option",
    ["key", "secret", "token", "sas_token", "account_key", "password", "connection_string", "client_secret", "PASSWORD",
     "credential", "headers", "aws_session_token"],
)  # fmt: skip
def test_what_is_secret(option: str) -> None:
    assert is_secret(option)


@pytest.mark.parametrize(
    "option", ["account_name", "endpoint_url", "anon", "conn_id", "tenant_id", "region", "profile"]
)
def test_what_is_not(option: str) -> None:
    assert not is_secret(option)


def test_a_mapping_with_a_secret_in_it_is_one() -> None:
    given = {
        "anon": False,
        "client_kwargs": {"region_name": "eu", "aws_secret_access_key": "x"},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
        "secret": None,
    }
    public, secret = split_secrets(given)
    assert set(secret) == {"client_kwargs"} and set(public) == {"anon", "config_kwargs", "secret"}


def test_kept_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    kept = SecretFile(tmp_path, "my store/../x")
    assert kept.read() == {}
    kept.write({"key": "a", "secret": "b"})
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent == tmp_path / "secrets"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert resolve("my store/../x", S3, {"anon": False}, tmp_path) == {"anon": False, "key": "a", "secret": "b"}
    path.chmod(0o644)
    with pytest.raises(PermissionDeniedError, match=r"others may read it \(mode 644\); chmod 600"):
        kept.read()
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(ConfigError, match="register the datastore anew"):
        kept.read()
    kept.write({})
    assert not path.exists()


def test_variables_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SecretFile(tmp_path, "my_store").write({"key": "kept", "secret": "kept"})
    monkeypatch.setenv("MLPIPE_DATASTORE_MY_STORE_SECRET", "of the environment")
    monkeypatch.setenv("MLPIPE_DATASTORE_MY_STORE_TOKEN", '{"type": "service_account"}')
    monkeypatch.setenv("MLPIPE_DATASTORE_OTHER_KEY", "no")
    found = resolve("my_store", S3, {}, tmp_path)
    assert found == {"key": "kept", "secret": "of the environment", "token": {"type": "service_account"}}


@pytest.mark.parametrize(
    ("text", "url", "expected"),
    [
        (
            "aws://id:s%2Fx@/?region_name=eu-west-1&endpoint_url=http%3A%2F%2Fs3%3A9000", S3,
            {"key": "id", "secret": "s/x", "endpoint_url": "http://s3:9000"}
            | {"client_kwargs": {"region_name": "eu-west-1"}},
        ),
        (
            '{"conn_type": "aws", "login": "id", "password": "x", "extra": {"aws_session_token": "t"}}', S3,
            {"key": "id", "secret": "x", "token": "t"},
        ),
        ('{"conn_type": "wasb", "login": "acc", "password": "k"}', AZURE, {"account_name": "acc", "account_key": "k"}),
        (
            '{"conn_type": "wasb", "login": "id", "password": "s", "extra": "{\\"tenant_id\\": \\"t\\"}"}', AZURE,
            {"tenant_id": "t", "client_id": "id", "client_secret": "s"},
        ),
        ("wasb://acc@/?sas_token=sig%3D1", AZURE, {"account_name": "acc", "sas_token": "sig=1"}),
        (
            '{"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": "{\\"a\\": 1}", "project": "p"}}', "gs://b",
            {"token": {"a": 1}, "project": "p"},
        ),
        ("http://u:p@host", "https://host", {"username": "u", "password": "p"}),
        ("postgres://u:p@host:5432/db", "postgresql+psycopg://host/db", {"username": "u", "password": "p"}),
    ],
)  # fmt: skip
def test_connections_of_airflow(text: str, url: str, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MY_CONN", text)
    assert resolve("s", url, {"conn_id": "my_conn"}, None) == expected


def test_a_connection_that_is_missing_or_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"datastore 's': there is no connection 'c'; set AIRFLOW_CONN_C"):
        resolve("s", S3, {"conn_id": "c"}, None)
    monkeypatch.setenv("AIRFLOW_CONN_C", '{"password": "pa55')
    with pytest.raises(ConfigError, match=r"AIRFLOW_CONN_C is neither") as caught:
        resolve("s", S3, {"conn_id": "c"}, None)
    assert "pa55" not in str(caught.value) and caught.value.__suppress_context__


@pytest.fixture
def resolvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_resolvers", [])
    monkeypatch.setattr(credentials, "_last_resolvers", [])
    monkeypatch.setattr(credentials, "_lent", {})


def test_the_engine_knows_more_connections(resolvers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_B", "aws://env:env@/")
    add_connection_resolver(
        lambda conn_id, _: {"login": "of the database", "extra": {}} if conn_id == "a" else None,
    )
    assert resolve("s", S3, {"conn_id": "a"}, None) == {"key": "of the database"}
    assert resolve("s", S3, {"conn_id": "b"}, None) == {"key": "env", "secret": "env"}


def test_a_server_is_asked_after_the_environment_and_never_beside_an_engine(
    resolvers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def server(conn_id: str, workspace: Path | None) -> dict:
        asked.append((conn_id, workspace))
        return {"login": "of the server"}

    add_connection_resolver(server, last=True)
    monkeypatch.setenv("AIRFLOW_CONN_B", "aws://env:env@/")
    assert resolve("s", S3, {"conn_id": "b"}, tmp_path) == {"key": "env", "secret": "env"}
    assert asked == []
    assert resolve("s", S3, {"conn_id": "a"}, tmp_path) == {"key": "of the server"}
    add_connection_resolver(lambda *_: None)
    with pytest.raises(
        ConfigError, match=r"no connection 'a'; set AIRFLOW_CONN_A, or .* airflow connections add a --conn-type aws"
    ):
        resolve("s", S3, {"conn_id": "a"}, tmp_path)
    assert asked == [("a", tmp_path)]


def test_what_was_lent_is_for_the_datastore_of_that_workspace_and_replaces_all_else(
    resolvers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend(tmp_path / "w", {"s": {"key": "lent"}})
    monkeypatch.setenv("MLPIPE_DATASTORE_S_KEY", "own")
    assert resolve("s", S3, {"conn_id": "gone", "endpoint_url": "http://x"}, tmp_path / "w") == {"key": "lent"}
    assert resolve("s", S3, {}, tmp_path / "other") == {"key": "own"}


def test_texts_hold_no_secrets() -> None:
    text = (
        "GET https://user:pw@host/f?sv=2024&sig=AbC%3D failed: AccountKey=Zm9v; Authorization: Bearer eyJ0 k3y-of-mine"
    )
    clean = redacted(text, ["k3y-of-mine"])
    assert not any(secret in clean for secret in ("pw@", "AbC", "Zm9v", "eyJ0", "k3y-of-mine"))
    assert "https://***@host/f" in clean
    error = explained(ConnectionRefusedError("no k3y-of-mine"), "s", S3, "read 'f'", ["k3y-of-mine"], "S3")
    assert isinstance(error, UnreachableError) and str(error).startswith("datastore 's' (s3://bucket): cannot read 'f'")
    assert "k3y" not in str(error)


def test_a_store_shows_no_options() -> None:
    store = open_store("s", S3, {"key": "an-id", "secret": "s3cr3t"})
    assert isinstance(store, RemoteStore)
    assert "s3cr3t" not in f"{store!r} {store}" and "an-id" not in repr(store)
    assert json.dumps(store.url) == '"s3://bucket"'
