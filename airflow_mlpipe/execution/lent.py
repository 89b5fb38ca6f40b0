"""Credentials that a step's script is lent: of the datastores whose datasets it reads through objects.

They travel in a file of the try that only this user may read, and that is there only while the script runs: unlike a
variable, a file is not inherited by whatever the script starts, and no tool prints it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import UsageError
from airflow_mlpipe.execution.context import VARIABLE
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.urls import is_folder

_FILE = "credentials.json"

Credentials = Callable[[str], Mapping[str, Any]]
"""Returns the options of a datastore with its secrets, by its name; nothing for one that needs none."""


def lend(job: StepJob, credentials: Credentials, asked: Collection[str] = ()) -> None:
    """Lend the job's process the credentials it needs; :func:`take_back` ends it.

    Args:
        job: the job. What it reads as plain paths needs no credentials.
        credentials: looks them up.
        asked: datastores whose credentials every step gets (the workspace's setting ``pass_credentials``).

    Raises:
        NotFoundError: if there is no datastore of a name.
        ConfigError: if a connection is missing.
        StorageError: if the file cannot be written.
    """
    names = dict.fromkeys(asked)
    for port in job.context.inputs.values():
        if port.dataset is not None and port.mode == "direct":
            names.update(dict.fromkeys(source.datastore for source in port.dataset.sources))
    for name, url in job.context.stores.items():
        if is_folder(url) and name not in asked:
            # Its process is shown the files themselves.
            names.pop(name, None)
    lent = {name: dict(found) for name in names if (found := credentials(name))}
    if not lent:
        return
    path = job.work / _FILE
    with system_errors("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(lent, file)


def take_back(job: StepJob) -> None:
    """End what :func:`lend` began. Nothing lent is fine.

    Raises:
        StorageError: if the file cannot be removed: a secret is not left behind without a word.
    """
    path = job.work / _FILE
    if path.exists():
        with system_errors("remove", path):
            path.unlink()


def borrowed(environ: Mapping[str, str] = os.environ) -> dict[str, dict[str, Any]]:
    """Return what was lent to the step this process belongs to, by datastore.

    Raises:
        UsageError: if it cannot be read.
    """
    context = environ.get(VARIABLE)
    if not context:
        return {}
    path = Path(context).with_name(_FILE)
    try:
        lent: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        # Without the content: it is secret.
        raise UsageError(f"'{path}' cannot be read ({type(error).__name__}); run the pipeline again") from None
    return lent
