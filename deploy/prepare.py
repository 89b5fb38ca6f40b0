"""Makes ready what the services of docker-compose.yaml share: databases, their schemas, the workspace and its bucket.

Runs before them at every start. What is there already is brought up to date, or left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from airflow_mlpipe import Workspace
from airflow_mlpipe.errors import NotFoundError

NEEDED = ("MLPIPE_CATALOG_CONN", "MLPIPE_DEFAULT_DATASTORE", "MLPIPE_ADMIN_PASSWORD", "MLPIPE_WORKSPACE_NAME")


def main() -> None:
    """Do it, and end with an error at the first thing that cannot be done."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"set {', '.join(missing)}; docker-compose.yaml says what each is")
    # Whatever is written here is for this user alone.
    os.umask(0o077)
    make_database(os.environ["MLPIPE_CATALOG_CONN"])
    subprocess.run(["airflow", "db", "migrate"], check=True)
    write_password(Path(os.environ["AIRFLOW_HOME"], "passwords.json"), os.environ["MLPIPE_ADMIN_PASSWORD"])
    folder = Path(os.environ["MLPIPE_WORKSPACE"]).parent
    workspace = Workspace.create(os.environ["MLPIPE_WORKSPACE_NAME"], path=folder, exist_ok=True)
    for row in workspace.catalog.list_datastores():
        store = workspace.store(row.name)
        try:
            store.create_container()
        except (AttributeError, NotFoundError):
            # A folder, or a database.
            continue
        print(f"datastore '{row.name}': {row.url}")
    print(f"workspace '{workspace.name}' is ready")


def make_database(url: str) -> None:
    """Make the catalog's database on the server of `url`, unless there is one."""
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as server:
        if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def write_password(path: Path, password: str) -> None:
    """Keep the password of Airflow's one user where its API server looks for it."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"admin": password}))
    draft.replace(path)


if __name__ == "__main__":
    main()
