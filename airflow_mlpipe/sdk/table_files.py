"""Tables written into datastores as files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, normalise_path
from airflow_mlpipe.model.digest import digest_json, hex_part

if TYPE_CHECKING:
    import pyarrow
    from pandas import DataFrame

    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.datastore_copies import Plan
    from airflow_mlpipe.sdk.file_dataset import FileDataset
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset

FOLDER = "runs/tables"
"""Where files of tables lie in the default datastore: beside the files of runs, which are no content of the datastore's
root and which nothing collects."""


def written(table: TabularDataset, kind: str, separator: str = ",") -> FileDataset:
    """Write the rows of a dataset as one file into the default datastore, unless that was done already.

    Args:
        table: the dataset.
        kind: ``parquet`` or ``csv``.
        separator: of columns, for ``csv``.
    """
    from airflow_mlpipe.sdk.file_dataset import FileDataset

    workspace = table.workspace
    store = workspace.default_store
    digest = digest_json("table files", [table.content(), kind, separator])
    path = f"{FOLDER}/{hex_part(digest)[:32]}/part-00000.{kind}"
    if not store.exists(path):
        with tempfile.TemporaryDirectory(prefix="mlpipe-table-") as folder:
            file = Path(folder) / "part"
            write(table.to_arrow(), file, kind, separator)
            store.copy_in(file, path)
    source = DatastorePath(datastore=store.name, path=path.rpartition("/")[0])
    return FileDataset(workspace, DatasetSpec(kind="file", sources=(source,)))


def write(table: pyarrow.Table, path: Path, kind: str, separator: str = ",") -> None:
    """Write an Arrow table to a file: ``parquet`` or ``csv``.

    Raises:
        ParameterError: if a column cannot be written so.
    """
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if kind == "parquet":
            parquet.write_table(table, path)
        else:
            csv.write_csv(table, path, csv.WriteOptions(delimiter=separator))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError) as error:
        raise ParameterError(f"the table cannot be written as {kind}: {str(error).splitlines()[0]}") from error


def target_of(target: Any, what: str) -> tuple[Datastore, str]:
    """Return the datastore and the folder that v1's forms name: a datastore, a pair, or a DataPath or DataReference.

    Raises:
        ParameterError: if it is something else.
    """
    from airflow_mlpipe.sdk.data_path import DataPath
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.reference import DataReference

    if isinstance(target, Datastore):
        return target, ""
    if isinstance(target, (tuple, list)) and len(target) == 2 and isinstance(target[0], Datastore):
        if target[1] is None or isinstance(target[1], str):
            return target[0], normalise_path(target[1] or "")
    elif isinstance(target, (DataPath, DataReference)):
        return target.datastore, target.path_on_datastore
    raise ParameterError(f"{what}: target {target!r} is not allowed; give a Datastore, or (datastore, 'folder')")


def put(datastore: Datastore, plan: Plan) -> None:
    """Copy files into a datastore, here or elsewhere, in place of what is there.

    Raises:
        NotSupportedError: if it is only read.
        StorageError: if one cannot be written.
    """
    from airflow_mlpipe.sdk.datastore_copies import upload_plan

    upload_plan(datastore.workspace.store(datastore.name), "", plan, overwrite=True, show_progress=False)


def register_frame(
    frame: DataFrame, target: Any, name: str, *, unique: bool, row_group_size: int | None, **registration: Any
) -> TabularDataset:
    """Write a data frame as a Parquet file and register it; see ``TabularDatasetFactory.register_pandas_dataframe``."""
    import pyarrow
    from pyarrow import parquet

    from airflow_mlpipe.sdk.dataset_factory import TabularDatasetFactory
    from airflow_mlpipe.storage.tree import tree_digest

    datastore, folder = target_of(target, "register_pandas_dataframe")
    with tempfile.TemporaryDirectory(prefix="mlpipe-frame-") as local:
        file = Path(local) / "part"
        try:
            parquet.write_table(
                pyarrow.Table.from_pandas(frame, preserve_index=False), file, row_group_size=row_group_size
            )
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
            raise ParameterError(
                f"register_pandas_dataframe: the frame cannot be written as Parquet: {str(error).splitlines()[0]}; "
                "convert columns that hold several types, e.g. with astype(str)"
            ) from error
        # The content, where v1 draws a name: the same frame again is the same version.
        inside = [folder, hex_part(tree_digest(file).digest)[:32]] if unique else [folder]
        place = "/".join(part for part in inside if part)
        put(datastore, [(file, f"{place}/part-00000.parquet".lstrip("/"))])
    dataset = TabularDatasetFactory.from_parquet_files((datastore, f"{place}/part-00000.parquet".lstrip("/")))
    return dataset.register(datastore.workspace, name, create_new_version=True, **registration)  # type: ignore[no-any-return]
