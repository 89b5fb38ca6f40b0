"""Tables in folders by the values of some columns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath
from airflow_mlpipe.model.nearest import nearest
from airflow_mlpipe.model.partition import PartitionFormat

if TYPE_CHECKING:
    import pyarrow
    from pandas import DataFrame

    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset

_SAFE = " ()+,=@"


def key_values(table: TabularDataset, keys: Sequence[str] | None) -> DataFrame:
    """Return the different values that the paths of a dataset's files give `keys`; see
    ``TabularDataset.get_partition_key_values``.
    """  # noqa: D205
    import pandas

    from airflow_mlpipe.storage.selection import dataset_files

    known = table.partition_keys
    wanted = list(known if keys is None else [keys] if isinstance(keys, str) else keys)
    for key in wanted:
        if key not in known:
            raise ParameterError(
                f"get_partition_key_values: '{key}' is no column of the paths of {table.label}{nearest(key, known)}; "
                f"there are: {', '.join(known) or 'none, the dataset has no partition_format'}"
            )
    if not known:
        return pandas.DataFrame()
    partition = PartitionFormat.of(table.spec.options)
    assert partition is not None
    rows = [partition.values(file.path) for file in dataset_files(table.spec, table.workspace.any_store)]
    return pandas.DataFrame(rows, columns=known)[wanted].drop_duplicates(ignore_index=True)


def partitioned(
    table: TabularDataset, keys: Sequence[str], target: Any, name: str | None, *, show: bool, as_files: bool
) -> Any:
    """Write a dataset by keys; see ``TabularDataset.partition_by``."""
    from airflow_mlpipe.sdk.file_dataset import FileDataset
    from airflow_mlpipe.sdk.row_operations import check_column
    from airflow_mlpipe.sdk.table_files import target_of, write
    from airflow_mlpipe.sdk.tabular_dataset import TabularDataset, column_names

    wanted = column_names("partition_by", keys)
    datastore, folder = target_of(target, "partition_by")
    rows = table.to_arrow()
    for key in wanted:
        check_column(key, rows.column_names, table.label)
        if rows.column(key).null_count:
            raise ParameterError(
                f"partition_by: column '{key}' of {table.label} has missing values; filter them out first"
            )
    store = datastore.workspace.documents_in(datastore.name)
    with tempfile.TemporaryDirectory(prefix="mlpipe-partition-") as local:
        for place, part in _parts(rows, wanted):
            file = Path(local) / "part"
            write(part, file, "parquet")
            path = "/".join(filter(None, [folder, place, "part-00000.parquet"]))
            store.copy_in(file, path)
            if show:
                print(f"Wrote {path}, {part.num_rows} rows")
    levels = "/".join("*" for _ in wanted)
    source = DatastorePath(
        datastore=datastore.name, path="/".join(filter(None, [folder, levels, "part-00000.parquet"]))
    )
    fields = "/".join(f"{{{key}}}" for key in wanted)
    options: dict[str, Any] = {"partition_format": f"{fields}/part-00000.parquet", "partition_quoted": True}
    if not as_files:
        # The files hold the keys too: their types survive.
        options = {"format": "parquet", "include_path": False, "column_types": {}, **options, "keys_in_files": True}
    kind = FileDataset if as_files else TabularDataset
    spec = DatasetSpec(kind=kind.kind, sources=(source,), options=options)
    made = kind(datastore.workspace, spec)
    return made if name is None else made.register(datastore.workspace, name, create_new_version=True)


def _parts(rows: pyarrow.Table, keys: Sequence[str]) -> Any:
    """Yield the folder and the rows of each combination of keys, in order."""
    import pyarrow
    import pyarrow.compute as compute

    sorting = [(key, "ascending") for key in keys]
    for combination in rows.select(list(keys)).group_by(list(keys)).aggregate([]).sort_by(sorting).to_pylist():
        mask = None
        for key in keys:
            equal = compute.equal(rows.column(key), pyarrow.scalar(combination[key], rows.schema.field(key).type))
            mask = equal if mask is None else compute.and_(mask, equal)
        yield "/".join(_folder(combination[key]) for key in keys), rows.filter(mask)


def _folder(value: Any) -> str:
    text = value.isoformat() if isinstance(value, (date, datetime)) else str(value)
    named = quote(text, safe=_SAFE)
    # Such names would mean a folder itself, or the one above.
    return {"": "%00", ".": "%2E", "..": "%2E%2E"}.get(named, named)
