"""From the forms in which v1 takes paths of datasets to sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from airflow_mlpipe.errors import NotSupportedError, ParameterError
from airflow_mlpipe.model.data import DatastorePath, normalise_path

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.workspace import Workspace

_EXAMPLE = "Dataset.File.from_files((datastore, 'folder/**/*.png'))"
_SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature", "token", "access_token", "key"})
"""Parameters of an address that open what it names to whoever has it."""


def sources_of(path: Any, factory: str) -> tuple[Workspace | None, tuple[DatastorePath, ...]]:
    """Return the sources that `path` means, and the workspace of their datastores: None if all lie in the web.

    Args:
        path: ``(datastore, 'path')``, ``(datastore, ['path', ...])``, a Datastore, DataReference or DataPath, a web
            address, or a list of these.
        factory: the method it was given to, for errors.

    Raises:
        ParameterError: if `path` is something else, or leaves its datastore.
        NotSupportedError: for web addresses, where nothing can read them.
    """
    found: list[tuple[Datastore | None, DatastorePath]] = []
    for each in path if isinstance(path, list) else [path]:
        found.extend(_places(each, factory))
    if not found:
        raise ParameterError(f"{factory}: no path is given; write {_EXAMPLE}")
    first: Workspace | None = None
    for datastore, place in found:
        if datastore is None:
            continue
        first = first or datastore.workspace
        if datastore.workspace != first:
            raise ParameterError(
                f"{factory}: '{place.path}' lies in workspace '{datastore.workspace.name}', the first path in "
                f"'{first.name}'; a dataset has one workspace"
            )
    return first, tuple(place for _, place in found)


def _places(given: Any, factory: str) -> list[tuple[Datastore | None, DatastorePath]]:
    from airflow_mlpipe.sdk.data_path import DataPath
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.reference import DataReference

    if isinstance(given, (DataReference, DataPath)):
        return [(given.datastore, _place(given.datastore, given.path_on_datastore))]
    if isinstance(given, Datastore):
        return [(given, _place(given, ""))]
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Datastore):
        paths = given[1] if isinstance(given[1], (list, tuple)) else [given[1]]
        if paths and all(isinstance(place, str) for place in paths):
            return [(given[0], _place(given[0], place)) for place in paths]
    if isinstance(given, str):
        if "://" in given:
            return [(None, _web(given, factory))]
        raise ParameterError(
            f"{factory}: '{given}' is a local path; upload it: datastore.upload('{given}', target_path='data'), "
            "then give (datastore, 'data')"
        )
    raise ParameterError(f"{factory}: path {given!r} is not allowed; write {_EXAMPLE}")


def _place(datastore: Datastore, path: str) -> DatastorePath:
    return DatastorePath(datastore=datastore.name, path=normalise_path(path))


def _web(address: str, factory: str) -> DatastorePath:
    """Return an address as a path on its server, which is a datastore that is registered nowhere."""
    from airflow_mlpipe.storage.datastore import open_store

    parts = urlsplit(address)
    bare = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(
            f"{factory}: '{bare}' is not allowed; allowed are https://HOST/PATH and (datastore, 'path'), with a "
            "datastore that is registered for that place"
        )
    secret = [name for name, _ in parse_qsl(parts.query) if name.lower() in _SIGNATURES]
    if parts.username or parts.password or secret:
        held = f"the parameter '{secret[0]}'" if secret else "a user name or password"
        raise ParameterError(
            f"{factory}: '{bare}' holds a credential ({held}), which would be written into every definition; register "
            "a datastore for it, or download the file and upload it"
        )
    server = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    try:
        open_store(server, server, {})
    except NotSupportedError:
        raise NotSupportedError(
            f"{factory}: '{address}' is a web address, which this version does not read; download it, upload it: "
            "datastore.upload_files(['FILE'], target_path='data'), then give (datastore, 'data/FILE')"
        ) from None
    query = f"?{parts.query}" if parts.query else ""
    return DatastorePath(datastore=server, path=normalise_path(parts.path) + query)
