"""A step that copies data from one datastore to another."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from airflow_mlpipe.errors import ParameterError, PipelineError
from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
from airflow_mlpipe.sdk.binding import Consumed
from airflow_mlpipe.sdk.compute import ComputeTarget
from airflow_mlpipe.sdk.data import OutputFileDatasetConfig, PipelineData
from airflow_mlpipe.sdk.data_path import DataPath
from airflow_mlpipe.sdk.reference import DataReference
from airflow_mlpipe.sdk.steps import PythonScriptStep

_TYPES = (None, "file", "directory")


class DataTransferStep(PythonScriptStep):
    """Copies a file, a folder or a table to a place in any datastore.

    It is reused while the source has the same content; what was removed or changed at the destination since is put
    back. Other files there stay.
    """

    def __init__(
        self,
        name: str,
        source_data_reference: Any = None,
        destination_data_reference: Any = None,
        compute_target: str | ComputeTarget | None = None,
        source_reference_type: str | None = None,
        destination_reference_type: str | None = None,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        """Describe a transfer; the parameters are v1's.

        Args:
            name: of the step.
            source_data_reference: a DataReference, DataPath or dataset, or what another step makes. A table is
                written as CSV if the destination's name ends so, else as Parquet.
            destination_data_reference: a DataReference or DataPath with the path to write.
            compute_target: as for :class:`PythonScriptStep`; v1's DataFactoryCompute means this machine.
            source_reference_type: ``file`` or ``directory``; what is there tells by itself.
            destination_reference_type: ``directory`` puts a single file into the destination under its own name; else
                it gets the destination's.
            allow_reuse: whether an earlier copy counts.
            **kwargs: more parameters of :class:`PythonScriptStep`: ``retries``, ``timeout_s``, ``version``, ...

        Raises:
            UsageError: if a parameter is not allowed.
        """
        for which, given in (("source", source_reference_type), ("destination", destination_reference_type)):
            if given not in _TYPES:
                raise ParameterError(
                    f"DataTransferStep '{name}': {which}_reference_type {given!r} is not allowed; "
                    "allowed are 'file' and 'directory'"
                )
        target = destination_data_reference
        if not isinstance(target, (DataReference, DataPath)) or not target.path_on_datastore:
            raise PipelineError(
                f"DataTransferStep '{name}': destination_data_reference must be a DataReference or DataPath with a "
                f"path, not {target!r}; e.g. DataReference(datastore, 'copy', path_on_datastore='folder')"
            )
        source, table = _source(name, source_data_reference)
        path = target.path_on_datastore
        how = "files"
        if table:
            path = path if path.endswith((".csv", ".parquet")) else f"{path}/part-00000.parquet"
            how = "csv" if path.endswith(".csv") else "parquet"
        elif destination_reference_type == "directory" and source_reference_type == "file":
            path = f"{path}/{_file_name(name, source_data_reference)}"
        self._output = PipelineData("destination", datastore=target.datastore)
        self._output.destination = path
        super().__init__(
            "transfer.py",
            name,
            [how, "source" if table else source, self._output],
            compute_target,
            inputs=[source],
            outputs=[self._output],
            source_directory=Path(__file__).parent / "transfer",
            allow_reuse=allow_reuse,
            **kwargs,
        )

    def get_output(self) -> PipelineData:
        """Return the copy, as the input of another step."""
        return self._output


def _source(name: str, given: Any) -> tuple[Consumed, bool]:
    """Return what is read, and whether it is a table."""
    if isinstance(given, DataPath):
        return given.create_data_reference("source"), False
    if isinstance(given, AbstractDataset):
        read = given.as_named_input("source")
        return (read, True) if given.kind == "tabular" else (read.as_mount(), False)
    if isinstance(given, (PipelineData, OutputFileDatasetConfig)):
        return given.as_input("source"), False
    if isinstance(given, Consumed):
        return given, False
    raise PipelineError(
        f"DataTransferStep '{name}': source_data_reference is a {type(given).__name__}; allowed are DataReference, "
        "DataPath, datasets and what another step makes"
    )


def _file_name(name: str, given: Any) -> str:
    """Return the name of the one file that is copied into a folder."""
    path = given.path_on_datastore if isinstance(given, (DataReference, DataPath)) else ""
    if isinstance(given, AbstractDataset) and len(given.spec.sources) == 1:
        path = given.spec.sources[0].path
    file = PurePosixPath(path).name
    if not file:
        raise PipelineError(
            f"DataTransferStep '{name}': the name of the file to put into the destination is not known before the run; "
            "give the destination's own path and destination_reference_type='file'"
        )
    return file
