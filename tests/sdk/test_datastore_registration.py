"""Datastores are registered: any place, v1's calls, databases; and no secret reaches the catalog."""

from __future__ import annotations

import itertools
import sqlite3

import emulators
import postgres
import pytest

from airflow_mlpipe import Datastore
from airflow_mlpipe.errors import (
    ConfigError,
    MissingDataError,
    NotSupportedError,
    ParameterError,
    StorageError,
    UnreachableError,
)
from airflow_mlpipe.storage.database import open_database

NUMBERS = itertools.count(1)
SECRET = "s3cr3t-of-the-store"


@pytest.fixture(scope="module")
def postgres_url():
    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres.server() as url:
        yield url


def kept_in_catalog(workspace) -> str:
    workspace.catalog.close()
    return "".join(path.read_bytes().decode("latin-1") for path in workspace.dir.glob("catalog.db*"))


def database(workspace, name):
    row = workspace.catalog.get_datastore(name)
    return open_database(row.name, row.url, row.options, workspace.dir)


def test_a_folder(workspace, tmp_path):
    store = Datastore.register(workspace, "here", str(tmp_path / "data"))
    assert (store.datastore_type, store.container_name, store.account_name) == ("Local", "data", None)
    assert (store.protocol, store.endpoint, store.url) == (None, None, (tmp_path / "data").as_uri())
    (tmp_path / "f").write_text("1")
    store.upload_files([tmp_path / "f"], show_progress=False)
    assert (tmp_path / "data/f").read_text() == "1"


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("s3://bucket/x", {"endpoint_url": "http://e:1"}, ("S3", "bucket", None, "https", "http://e:1")),
        ("gs://bucket", {"token": "anon"}, ("Gcs", "bucket", None, "https", None)),
        ("https://host:8/x", {}, ("Http", "host:8", None, "https", None)),
        ("http://host/x", {}, ("Http", "host", None, "http", None)),
        ("az://cont/x", {"account_name": "acc"}, ("AzureBlob", "cont", "acc", "https", "core.windows.net")),
        (
            "abfss://fs@acc.dfs.core.windows.net/x", {"account_key": "a2V5"},
            ("AzureDataLakeGen2", "fs", "acc", "https", "core.windows.net"),
        ),
    ],
)  # fmt: skip
def test_what_a_store_says_of_itself(url, options, expected, workspace):
    store = Datastore.register(workspace, "store", url, **options)
    told = (store.datastore_type, store.container_name, store.account_name, store.protocol, store.endpoint)
    assert told == expected and workspace.datastores["store"] == store and store.url == url


def test_secrets_stay_out_of_the_catalog(workspace, capsys):
    Datastore.register(workspace, "a", "s3://bucket", key="an-id", secret=SECRET, client_kwargs={"api_token": SECRET})
    Datastore.register(workspace, "b", f"s3://an-id:{SECRET}@bucket/x")
    Datastore.register(workspace, "c", f"https://user:{SECRET}@host/x")
    blob = Datastore.register_azure_blob_container(workspace, "d", "cont", "acc", account_key=SECRET)
    Datastore.register_azure_blob_container(workspace, "e", "cont", "acc", sas_token=SECRET)
    Datastore.register_azure_postgre_sql(workspace, "f", "srv", "db", "user", SECRET)
    Datastore.register_sql(workspace, "g", f"postgresql+psycopg://user:{SECRET}@host/db")
    assert (blob.account_key, blob.sas_token) == (SECRET, None) and workspace.datastores["e"].sas_token == SECRET
    assert workspace.store("b")._options == {"key": "an-id", "secret": SECRET}
    assert workspace.datastores["c"].url == "https://host/x"
    assert "f" in database(workspace, "f").name and SECRET not in repr(database(workspace, "f"))
    print([repr(store) for store in workspace.datastores.values()], [repr(workspace.store(n)) for n in "abcde"])
    for row in workspace.catalog.list_datastores():
        print(row)
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert SECRET not in kept_in_catalog(workspace)
    modes = {path.stat().st_mode & 0o777 for path in (workspace.dir / "secrets").iterdir()}
    assert modes == {0o600}


def test_the_same_again_is_fine_another_is_not(workspace):
    first = Datastore.register(workspace, "s", "s3://bucket", secret="one", key="k")
    assert Datastore.register(workspace, "s", "s3://bucket") == first
    # What was not given again is still known.
    assert workspace.store("s")._options["secret"] == "one"
    with pytest.raises(ConfigError, match=r"has another datastore 's' \(s3://bucket\); give overwrite=True"):
        Datastore.register(workspace, "s", "s3://other")
    Datastore.register(workspace, "s", "s3://other", overwrite=True)
    assert (workspace.store("s").url, workspace.store("s")._options) == ("s3://other", {})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "a-b", "x" * 256, None, 3])
def test_names_that_are_refused(name, workspace):
    with pytest.raises(ParameterError, match="use letters, digits and _"):
        Datastore.register(workspace, name, "s3://bucket")


def test_what_is_refused(workspace):
    for call, error, match in [
        (lambda: Datastore.register(workspace, "s", "ftp://host"), NotSupportedError, "scheme 'ftp'"),
        (lambda: Datastore.register(workspace, "s", "adl://store"), NotSupportedError, "gen 1 .* abfss://"),
        (lambda: Datastore.register(workspace, "s", "s3://"), ConfigError, "must name a bucket"),
        (lambda: Datastore.register(workspace, "s", "az://cont"), ConfigError, "give account_name="),
        (lambda: Datastore.register(workspace, "s", "s3://b", deadline_s=0), ParameterError, "deadline_s is 0"),
        (lambda: Datastore.register(workspace, "s", "s3://b", x=object()), ParameterError, "option x is a object"),
        (lambda: Datastore.register_sql(workspace, "s", "s3://b"), ParameterError, "to be a database"),
        (lambda: Datastore.register_sql(workspace, "s", "nosql+x://h/d"), ConfigError, "give a URL of SQLAlchemy"),
        (
            lambda: Datastore.register_azure_data_lake(workspace, "s", "lake", tenant_id="t"),
            NotSupportedError,
            r"2024; .*register_azure_data_lake_gen2\(workspace, 's'",
        ),
        (lambda: Datastore.register_dbfs(workspace, "s"), NotSupportedError, "DBFS is not supported: only the cluster"),
        (
            lambda: Datastore.register_azure_file_share(workspace, "s", "share", "acc"),
            NotSupportedError,
            "mount -t cifs //acc.file.core.windows.net/share",
        ),
    ]:
        with pytest.raises(error, match=match):
            call()
    assert "s" not in workspace.datastores


def test_v1s_calls(workspace):
    lake = Datastore.register_azure_data_lake_gen2(
        workspace=workspace, datastore_name="lake", filesystem="fs", account_name="acc", tenant_id="t", client_id="c",
        client_secret=SECRET, resource_url=None, authority_url=None, overwrite=True, grant_workspace_access=False,
    )  # fmt: skip
    assert (lake.datastore_type, lake.container_name, lake.account_name) == ("AzureDataLakeGen2", "fs", "acc")
    database = Datastore.register_azure_postgre_sql(
        workspace=workspace, datastore_name="pg", server_name="srv", database_name="db", user_id="u", user_password="p",
        port_number=5433, enforce_ssl=True,
    )  # fmt: skip
    assert database.datastore_type == "AzurePostgreSql"
    assert database.url == "postgresql+psycopg://u@srv.postgres.database.azure.com:5433/db?sslmode=require"
    with pytest.raises(NotSupportedError, match="'pg' is a database"):
        database.upload_files([__file__])


def test_unregister(workspace):
    store = Datastore.register(workspace, "s", "s3://bucket", key="k", secret=SECRET)
    store.unregister()
    assert "s" not in workspace.datastores and not list((workspace.dir / "secrets").iterdir())
    with pytest.raises(ConfigError, match="'workspaceblobstore' is the default one"):
        workspace.get_default_datastore().unregister()


@pytest.mark.s3
def test_upload_and_download(workspace, tmp_path, s3_server, capsys):
    url = f"s3://sdk-{next(NUMBERS)}/in"
    store = Datastore.register(workspace, "s", url, endpoint_url=s3_server, key="k", secret=SECRET)
    workspace.store("s").create_container()
    for name in ("a.txt", "sub/b.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    reference = store.upload(tmp_path / "data", "up")
    assert (reference.path_on_datastore, workspace.store("s").glob("**")) == ("up", ["up/a.txt", "up/sub/b.txt"])
    assert "Uploaded up/a.txt, 1 of 2 files" in capsys.readouterr().out
    (tmp_path / "data/a.txt").write_text("new")
    store.upload_files([tmp_path / "data/a.txt"], target_path="up")
    assert "Kept existing up/a.txt, 1 of 1 files" in capsys.readouterr().out
    assert store.download(tmp_path / "out", prefix="up") == 2
    assert (tmp_path / "out/up/a.txt").read_text() == "a.txt" and "Downloaded" in capsys.readouterr().out
    store.upload_files([tmp_path / "data/a.txt"], target_path="up", overwrite=True, show_progress=False)
    assert store.download(tmp_path / "out", prefix="up/a.txt", show_progress=False) == 0
    assert store.download(tmp_path / "out", prefix="up/a.txt", overwrite=True, show_progress=False) == 1
    assert (tmp_path / "out/up/a.txt").read_text() == "new"
    with pytest.raises(MissingDataError, match="nope"):
        store.download(tmp_path / "out", prefix="nope")
    workspace.store("s").close()


@pytest.mark.azure
def test_a_container_is_made_on_demand(workspace, azure_server):
    for _ in range(2):
        Datastore.register_azure_blob_container(
            workspace, "blob", f"made-{next(NUMBERS)}", emulators.AZURE_ACCOUNT, account_key=emulators.AZURE_KEY,
            endpoint=azure_server, create_if_not_exists=True, overwrite=True,
        )  # fmt: skip
    workspace.store("blob").write_bytes("f", b"1")
    assert workspace.store("blob").read_bytes("f") == b"1"
    workspace.store("blob").close()


@pytest.mark.s3
def test_credentials_of_a_connection(workspace, s3_server, monkeypatch):
    Datastore.register(workspace, "s", f"s3://sdk-{next(NUMBERS)}", conn_id="my_s3")
    with pytest.raises(ConfigError, match="there is no connection 'my_s3'"):
        workspace.store("s")
    monkeypatch.setenv("AIRFLOW_CONN_MY_S3", f"aws://id:{SECRET}@/?endpoint_url={s3_server}")
    workspace.store("s").create_container()
    workspace.store("s").write_bytes("f", b"1")
    assert workspace.store("s").exists("f")
    workspace.store("s").close()


def test_a_database_is_read_and_never_written(workspace, tmp_path):
    from sqlalchemy import text

    with sqlite3.connect(tmp_path / "db.sqlite") as connection:
        connection.execute("CREATE TABLE t (x INT)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    store = Datastore.register_sql(workspace, "db", f"sqlite:///{tmp_path}/db.sqlite")
    assert store.datastore_type == "Sql"
    opened = database(workspace, "db")
    with opened.connect() as reading:
        assert reading.execute(text("SELECT x FROM t")).scalars().all() == [1]
    with pytest.raises(StorageError, match=r"datastore 'db' \(sqlite:///.*readonly"), opened.connect() as reading:
        reading.execute(text("INSERT INTO t VALUES (2)"))
    with pytest.raises(StorageError, match="no such table"), opened.connect() as reading:
        reading.execute(text("SELECT * FROM missing"))
    opened.close()


@pytest.mark.postgres
def test_a_database_of_postgresql(workspace, postgres_url):
    from sqlalchemy import text

    Datastore.register_sql(workspace, "pg", postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    opened = database(workspace, "pg")
    with opened.connect() as reading:
        assert reading.execute(text("SELECT 1 + 1")).scalar() == 2
    with pytest.raises(StorageError, match="read-only transaction"), opened.connect() as reading:
        reading.execute(text("CREATE TABLE t (x INT)"))
    Datastore.register_sql(workspace, "away", "postgresql+psycopg://u:pw-of-u@127.0.0.1:9/db")
    with pytest.raises(UnreachableError, match="datastore 'away'") as caught, database(workspace, "away").connect():
        pass
    assert "pw-of-u" not in str(caught.value)


def test_a_fresh_process_reads_a_kept_secret(workspace, tmp_path):
    from airflow_mlpipe import Workspace

    Datastore.register(workspace, "s", "s3://bucket", secret=SECRET)
    again = Workspace.from_config(tmp_path)
    assert again.store("s")._options == {"secret": SECRET}
