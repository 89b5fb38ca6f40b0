"""The files a dataset consists of now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_mlpipe.errors import MissingDataError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.storage.datastore import LocalStore
from airflow_mlpipe.storage.wildcard import is_pattern, split_pattern


def dataset_files(spec: DatasetSpec, store: Callable[[str], LocalStore]) -> list[tuple[str, Path]]:
    """Return the files of a dataset, in the order of its sources and sorted in each.

    Args:
        spec: the dataset.
        store: opens a datastore by name.

    Returns:
        For each file its path relative to the folder or pattern it comes from, and where it lies.

    Raises:
        MissingDataError: if a source matches nothing.
    """
    found: list[tuple[str, Path]] = []
    for source in spec.sources:
        place = store(source.datastore)
        path = place.path_of(source.path) if not is_pattern(source.path) else None
        if path is not None and path.is_file():
            found.append((path.name, path))
            continue
        pattern = source.path if path is None else f"{source.path}/**".lstrip("/")
        base = split_pattern(pattern)[0]
        matches = place.glob(pattern)
        if not matches:
            raise MissingDataError(f"'{source.path}' is no file in datastore '{source.datastore}'; upload the data")
        found.extend((match.removeprefix(f"{base}/" if base else ""), place.path_of(match)) for match in matches)
    return found
