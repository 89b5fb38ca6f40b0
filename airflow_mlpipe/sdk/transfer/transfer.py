"""Copy what a step reads to what it makes: ``transfer.py files|csv|parquet SOURCE TARGET``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any


def main(how: str, source: str, target: str) -> None:
    """Copy.

    Args:
        how: ``files``: `source` is the path of a file or a folder. ``csv``, ``parquet``: the name of a tabular input,
            which is written so.
        source: see `how`.
        target: the file or folder to make.
    """
    if how != "files":
        from airflow_mlpipe import Run

        run: Any = Run.get_context()
        frame = run.input_datasets[source].to_pandas_dataframe()
        if how == "csv":
            frame.to_csv(target, index=False)
        else:
            frame.to_parquet(target, index=False)
    elif os.path.isdir(source):  # noqa: PTH112 - a step's script stands alone
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
