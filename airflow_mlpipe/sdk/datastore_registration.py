"""Registering datastores: v1's calls, and one for any place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ConfigError, NotSupportedError, ParameterError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.workspace import Workspace

AZURE_CLOUD = "core.windows.net"
_MAX_NAME = 255


class Registrations:
    """The static methods of :class:`~airflow_mlpipe.Datastore` that register one.

    A secret that is given here is kept in a file of the workspace that only its owner reads; the catalog never has it.
    Better, give none: name an Airflow connection with ``conn_id=``, set ``MLPIPE_DATASTORE_<NAME>_<OPTION>`` where
    steps run, or rely on the cloud's own login.
    """

    @staticmethod
    def register(
        workspace: Workspace, name: str, url: str, *, overwrite: bool = False, **storage_options: Any
    ) -> Datastore:
        """Register a place as a datastore. Nothing is asked over the network.

        Args:
            workspace: where it is registered.
            name: letters, digits and ``_``.
            url: a folder (a path or ``file:///path``), ``s3://bucket/folder``, ``az://container/folder``,
                ``abfss://container@account.dfs.core.windows.net/folder``, ``gs://bucket/folder``, ``https://host/folder``
                (read-only), or a database's URL of SQLAlchemy.
            overwrite: whether another definition of that name is replaced.
            **storage_options: of the store's library - s3fs, adlfs, gcsfs - such as ``endpoint_url``, ``anon``,
                ``account_name``; ``conn_id``, an Airflow connection; ``deadline_s``, the longest time without progress,
                60 by default; ``allow_private``, for a web datastore in a private network.

        Raises:
            ParameterError: if the name or an option is not allowed.
            ConfigError: if it is registered with another definition, or the store's library is not installed.
            NotSupportedError: for another scheme.
        """
        return _register(workspace, name, url, storage_options, overwrite)

    @staticmethod
    def register_sql(
        workspace: Workspace, name: str, url: str, *, overwrite: bool = False, **options: Any
    ) -> Datastore:
        """Register a database, read-only.

        Args:
            workspace: where it is registered.
            name: letters, digits and ``_``.
            url: of SQLAlchemy, e.g. ``postgresql+psycopg://user:password@host/database``; the password is kept apart.
            overwrite: whether another definition of that name is replaced.
            **options: ``username``, ``password``, ``conn_id``, ``connect_args``.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if the URL is not SQLAlchemy's, or it is registered with another definition.
        """
        from airflow_mlpipe.storage.urls import is_folder, is_remote

        if is_folder(url) or is_remote(url):
            raise ParameterError(f"register_sql: '{name}' is to be a database; use Datastore.register for files")
        return _register(workspace, name, url, options, overwrite)

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace,
        datastore_name: str,
        container_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
        blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        **options: Any,
    ) -> Datastore:
        """Register a container of Azure Blob Storage.

        Without key and token, the environment's or the machine's own Azure login is used; without a login, a container
        that everybody may list and read is read all the same. Where everybody may read blobs alone, give ``anon=True``.

        Args:
            workspace: where it is registered.
            datastore_name: letters, digits and ``_``.
            container_name: the container.
            account_name: the storage account.
            sas_token: opens the account.
            account_key: opens the account.
            protocol: ``https`` (the default) or ``http``.
            endpoint: by default ``core.windows.net``; a whole URL names any server, e.g. an emulator.
            overwrite: whether another definition of that name is replaced.
            create_if_not_exists: whether the container is made.
            skip_validation: accepted as in v1; nothing is asked unless the container is to be made.
            blob_cache_timeout: accepted as in v1, not used.
            grant_workspace_access: accepted as in v1, not used.
            subscription_id: accepted as in v1, not used.
            resource_group: accepted as in v1, not used.
            **options: see :meth:`register`.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if it is registered with another definition, or adlfs is not installed.
            ServiceError: if the container cannot be made.
        """
        given = {"account_name": account_name, "sas_token": sas_token, "account_key": account_key}
        given |= {"protocol": protocol, "endpoint": endpoint, **options}
        store = _register(workspace, datastore_name, f"az://{container_name}", given, overwrite, "AzureBlob")
        if create_if_not_exists:
            from airflow_mlpipe.storage.remote import RemoteStore

            opened = workspace.store(datastore_name)
            assert isinstance(opened, RemoteStore)
            opened.create_container()
        return store

    @staticmethod
    def register_azure_data_lake_gen2(
        workspace: Workspace,
        datastore_name: str,
        filesystem: str,
        account_name: str,
        tenant_id: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        resource_url: str | None = None,
        authority_url: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        grant_workspace_access: bool = False,
        **options: Any,
    ) -> Datastore:
        """Register a file system of Azure Data Lake Storage gen 2.

        Args:
            workspace: where it is registered.
            datastore_name: letters, digits and ``_``.
            filesystem: its name.
            account_name: the storage account.
            tenant_id: of a service principal; without one the machine's own Azure login is used.
            client_id: of the service principal.
            client_secret: of the service principal.
            resource_url: accepted as in v1, not used.
            authority_url: accepted as in v1, not used.
            protocol: ``https`` (the default) or ``http``.
            endpoint: by default ``core.windows.net``; a whole URL names any server.
            overwrite: whether another definition of that name is replaced.
            subscription_id: accepted as in v1, not used.
            resource_group: accepted as in v1, not used.
            grant_workspace_access: accepted as in v1, not used.
            **options: see :meth:`register`.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if it is registered with another definition, or adlfs is not installed.
        """
        given = {"account_name": account_name, "tenant_id": tenant_id, "client_id": client_id}
        given |= {"client_secret": client_secret, "protocol": protocol, "endpoint": endpoint, **options}
        return _register(workspace, datastore_name, f"abfs://{filesystem}", given, overwrite, "AzureDataLakeGen2")

    @staticmethod
    def register_azure_data_lake(
        workspace: Workspace, datastore_name: str, store_name: str, *args: object, **kwargs: object
    ) -> Datastore:
        """Refuse: Azure Data Lake Storage gen 1 was shut down on 29 February 2024.

        Raises:
            NotSupportedError: always; it names the call for gen 2.
        """
        raise NotSupportedError(
            f"datastore '{datastore_name}': Azure Data Lake Storage gen 1 ('{store_name}') was shut down on 29 "
            "February 2024; move the data to gen 2 and use Datastore.register_azure_data_lake_gen2(workspace, "
            f"{datastore_name!r}, filesystem=..., account_name=...)"
        )

    @staticmethod
    def register_dbfs(workspace: Workspace, datastore_name: str) -> Datastore:
        """Refuse: a cluster's own file system is reached by the cluster alone.

        Raises:
            NotSupportedError: always; it names what a DatabricksStep reads and writes instead.
        """
        raise NotSupportedError(
            f"datastore '{datastore_name}': DBFS is not supported: only the cluster reaches it; give a DatabricksStep "
            "data of a datastore that both reach, such as Datastore.register_azure_data_lake_gen2(...), or a "
            "'dbfs:/...' path as text"
        )

    @staticmethod
    def register_azure_file_share(
        workspace: Workspace,
        datastore_name: str,
        file_share_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
        **options: Any,
    ) -> Datastore:
        """Register a file share of Azure that this machine has mounted: as the folder it is mounted on.

        Args:
            workspace: where it is registered.
            datastore_name: letters, digits and ``_``.
            file_share_name: the share.
            account_name: the storage account.
            sas_token: accepted as in v1, not used: the mount has its own.
            account_key: accepted as in v1, not used.
            protocol: accepted as in v1, not used.
            endpoint: by default ``core.windows.net``.
            overwrite: whether another definition of that name is replaced.
            create_if_not_exists: accepted as in v1, not used.
            skip_validation: accepted as in v1, not used.
            **options: accepted, not used.

        Raises:
            NotSupportedError: if it is not mounted; it says how to mount it.
            ConfigError: if it is registered with another definition.
        """
        folder = _mounted(account_name, file_share_name, endpoint or AZURE_CLOUD)
        if folder is None:
            host = f"{account_name}.file.{endpoint or AZURE_CLOUD}"
            raise NotSupportedError(
                f"datastore '{datastore_name}': file share '{file_share_name}' of '{account_name}' is not mounted: "
                f"mount -t cifs //{host}/{file_share_name} /mnt/{file_share_name} -o username={account_name}; then "
                "register it again, or its folder with Datastore.register"
            )
        given = {"account_name": account_name, "share": file_share_name}
        return _register(workspace, datastore_name, folder.as_uri(), given, overwrite, "AzureFile")

    @staticmethod
    def register_azure_sql_database(
        workspace: Workspace,
        datastore_name: str,
        server_name: str,
        database_name: str,
        tenant_id: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        resource_url: str | None = None,
        authority_url: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        username: str | None = None,
        password: str | None = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        grant_workspace_access: bool = False,
        **options: Any,
    ) -> Datastore:
        """Register a database of Azure SQL, read-only. It is read through pyodbc and Microsoft's ODBC driver 18.

        Args:
            workspace: where it is registered.
            datastore_name: letters, digits and ``_``.
            server_name: the server, without the endpoint.
            database_name: the database.
            tenant_id: accepted as in v1, not used: the client's id tells it.
            client_id: of a service principal, which signs in instead of a user.
            client_secret: of the service principal.
            resource_url: accepted as in v1, not used.
            authority_url: accepted as in v1, not used.
            endpoint: by default ``database.windows.net``.
            overwrite: whether another definition of that name is replaced.
            username: of a user of the database.
            password: of the user.
            subscription_id: accepted as in v1, not used.
            resource_group: accepted as in v1, not used.
            grant_workspace_access: accepted as in v1, not used.
            **options: see :meth:`register_sql`.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if it is registered with another definition, or pyodbc is not installed.
        """
        query = {"driver": "ODBC Driver 18 for SQL Server"}
        if client_id and not username:
            query["Authentication"] = "ActiveDirectoryServicePrincipal"
        url = _database_url(
            "mssql+pyodbc", server_name, endpoint or "database.windows.net", 1433, database_name,
            username or client_id, query,
        )  # fmt: skip
        given = {"password": password or client_secret, **options}
        return _register(workspace, datastore_name, url, given, overwrite, "AzureSqlDatabase")

    @staticmethod
    def register_azure_postgre_sql(
        workspace: Workspace,
        datastore_name: str,
        server_name: str,
        database_name: str,
        user_id: str,
        user_password: str,
        port_number: int | str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        enforce_ssl: bool = True,
        **options: Any,
    ) -> Datastore:
        """Register a database of Azure Database for PostgreSQL, read-only.

        Args:
            workspace: where it is registered.
            datastore_name: letters, digits and ``_``.
            server_name: the server, without the endpoint.
            database_name: the database.
            user_id: the user.
            user_password: of the user.
            port_number: by default 5432.
            endpoint: by default ``postgres.database.azure.com``; empty if `server_name` is the whole host.
            overwrite: whether another definition of that name is replaced.
            enforce_ssl: whether the connection must be encrypted.
            **options: see :meth:`register_sql`.

        Raises:
            ParameterError: if the name is not allowed.
            ConfigError: if it is registered with another definition, or psycopg is not installed.
        """
        place = "postgres.database.azure.com" if endpoint is None else endpoint
        url = _database_url(
            "postgresql+psycopg", server_name, place, int(port_number or 5432), database_name, user_id,
            {"sslmode": "require"} if enforce_ssl else {},
        )  # fmt: skip
        given = {"password": user_password, **options}
        return _register(workspace, datastore_name, url, given, overwrite, "AzurePostgreSql")


def unregister(workspace: Workspace, name: str) -> None:
    """Forget a datastore and its secrets. What lies there stays.

    Raises:
        ConfigError: if it is the default one.
        NotFoundError: if it is gone already.
    """
    from airflow_mlpipe.storage.credentials import SecretFile

    workspace.catalog.delete_datastore(name)
    SecretFile(workspace.dir, name).remove()
    workspace.forget_store(name)


def _register(
    workspace: Workspace, name: str, url: str, options: Mapping[str, Any], overwrite: bool, kind: str | None = None
) -> Datastore:
    from airflow_mlpipe.catalog.rows import DatastoreRow
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.storage.credentials import SecretFile, split_secrets
    from airflow_mlpipe.storage.urls import is_folder

    _check_name(name)
    given = {option: value for option, value in options.items() if value is not None}
    if is_folder(url):
        url = url if "://" in url else Path(url).expanduser().absolute().as_uri()
    url, inside = _without_login(url)
    public, secret = split_secrets({**inside, **given})
    _check_options(name, public)
    _try_open(name, url, {**public, **secret})
    if kind is not None:
        public["datastore_type"] = kind
    row = DatastoreRow(name=name, url=url, options=public)
    known = {each.name: each for each in workspace.catalog.list_datastores()}.get(name)
    if known is not None and not overwrite and (known.url, known.options) != (url, public):
        raise ConfigError(
            f"workspace '{workspace.name}' has another datastore '{name}' ({known.url}); give overwrite=True to "
            "replace it, or choose another name"
        )
    if secret or known is None or overwrite:
        SecretFile(workspace.dir, name).write(secret)
    workspace.catalog.put_datastore(row)
    workspace.forget_store(name)
    return Datastore(workspace, name)


def _try_open(name: str, url: str, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be opened, before it is registered. Connections may be defined elsewhere."""
    from airflow_mlpipe.storage.database import Database
    from airflow_mlpipe.storage.datastore import open_store
    from airflow_mlpipe.storage.remote import RemoteStore
    from airflow_mlpipe.storage.urls import is_database, is_remote

    known = {option: value for option, value in options.items() if option != "conn_id"}
    if is_database(url):
        Database(name, url, known)
    elif not is_remote(url) or "conn_id" not in options:
        opened = RemoteStore(name, url, known) if is_remote(url) else open_store(name, url, known)
        if isinstance(opened, RemoteStore):
            opened.close()


def _check_name(name: object) -> None:
    ok = isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isascii() and name.replace("_", "a").isalnum()
    if not ok:
        raise ParameterError(f"datastore name {name!r} is not allowed; use letters, digits and _")


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    import json

    for option, value in options.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ParameterError(
                f"datastore '{name}': option {option} is a {type(value).__name__}; give text, numbers or mappings"
            ) from None


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without the user and password in it, and those."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    if parts.password is None or parts.scheme == "file":
        return url, {}
    user, password = unquote(parts.username or ""), unquote(parts.password)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in ("s3", "s3a"):
        return urlunsplit(parts._replace(netloc=host)), {"key": user, "secret": password}
    if parts.scheme in ("http", "https"):
        return urlunsplit(parts._replace(netloc=host)), {"username": user, "password": password}
    kept = f"{parts.netloc.rpartition('@')[0].partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=kept)), {"password": password}


def _database_url(
    scheme: str, server: str, endpoint: str, port: int, database: str, user: str | None, query: Mapping[str, str]
) -> str:
    from sqlalchemy.engine import URL

    host = f"{server}.{endpoint}" if endpoint else server
    made = URL.create(scheme, username=user, host=host, port=port, database=database, query=dict(query))
    return made.render_as_string(hide_password=False)


def _mounted(account: str, share: str, endpoint: str) -> Path | None:
    """Return the folder on which a share is mounted, by SMB or NFS."""
    host = f"{account}.file.{endpoint}"
    sources = {f"//{host}/{share}", f"{host}:/{account}/{share}"}
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        source, folder, *_ = line.split(" ")
        if source.rstrip("/") in sources:
            return Path(folder.encode().decode("unicode_escape"))
    return None
