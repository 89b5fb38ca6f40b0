"""A place in a datastore that a run may choose: v1's DataPath, and how a step gets it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import AccessMode, DatastorePath, normalise_path
from airflow_mlpipe.sdk.binding import Binding, Consumed

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.parameter import PipelineParameter

_MODES = ("mount", "download", "upload")


class DataPath:
    """A file or folder of a datastore; mostly the default of a :class:`PipelineParameter`."""

    def __init__(
        self, datastore: Datastore | None = None, path_on_datastore: str | None = None, name: str | None = None
    ) -> None:
        """Refer to a place.

        Args:
            datastore: where it lies.
            path_on_datastore: relative to the datastore's root; by default the root. For ``from_sql_query`` the query.
            name: what to call it; by default the last part of the path.

        Raises:
            ParameterError: if `datastore` is no Datastore.
        """
        from airflow_mlpipe.sdk.datastore import Datastore

        if not isinstance(datastore, Datastore):
            raise ParameterError(
                f"DataPath: datastore {datastore!r} is a {type(datastore).__name__}; give a Datastore, e.g. "
                "workspace.get_default_datastore()"
            )
        self.datastore = datastore
        self.path_on_datastore = path_on_datastore or ""
        self.name = name or self.path_on_datastore.rstrip("/").rpartition("/")[2] or datastore.name

    @property
    def place(self) -> DatastorePath:
        """The place as specs hold it. Raises ParameterError if the path leaves the datastore."""
        return DatastorePath(datastore=self.datastore.name, path=normalise_path(self.path_on_datastore))

    def create_data_reference(
        self, data_reference_name: str | None = None, datapath_compute_binding: DataPathComputeBinding | None = None
    ) -> Consumed:
        """Return it as a :class:`DataReference` for a step."""
        from airflow_mlpipe.sdk.reference import DataReference

        bound = datapath_compute_binding or DataPathComputeBinding()
        return DataReference(
            self.datastore,
            data_reference_name,
            self.path_on_datastore,
            bound.mode,
            bound.path_on_compute,
            bound.overwrite,
        )

    def __repr__(self) -> str:
        return f"DataPath(datastore={self.datastore.name!r}, path_on_datastore={self.path_on_datastore!r})"


class DataPathComputeBinding:
    """How a step gets a :class:`DataPath` that is a pipeline parameter: the second half of v1's pair."""

    def __init__(self, mode: str = "mount", path_on_compute: str | None = None, overwrite: bool = False) -> None:
        """Say how.

        Args:
            mode: ``mount``, ``download`` or ``upload``, as of a :class:`DataReference`.
            path_on_compute: where the step wants to find it.
            overwrite: accepted as in v1, not used.

        Raises:
            ParameterError: for another mode.
        """
        if mode not in _MODES:
            raise ParameterError(
                f"DataPathComputeBinding: mode {mode!r} is not allowed; allowed are {', '.join(_MODES)}"
            )
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def __repr__(self) -> str:
        return f"DataPathComputeBinding(mode={self.mode!r}, path_on_compute={self.path_on_compute!r})"


class BoundDataPath(Consumed):
    """A pipeline parameter whose value is a place, as a step's input: what a pair of v1's means."""

    def __init__(self, parameter: PipelineParameter, how: DataPathComputeBinding) -> None:
        """Join the two halves."""
        self.parameter = parameter
        self.how = how

    def binding(self) -> Binding:
        """Return what it means as an input."""
        mode: AccessMode = "download" if self.how.mode == "download" else "mount"
        return Binding(
            self.parameter.ref,
            re.sub(r"\W", "_", self.parameter.name, flags=re.ASCII),
            mode=mode,
            explicit=mode == "download",
            path_on_compute=self.how.path_on_compute,
            label=f"parameter {self.parameter.name}",
            parameter=self.parameter,
            stores=(self.parameter.default_value.datastore,),
        )

    def __repr__(self) -> str:
        return f"({self.parameter!r}, {self.how!r})"


def joined_pair(value: object) -> object:
    """Return the input that v1's pair ``(PipelineParameter, DataPathComputeBinding)`` means, or `value` as it is.

    Raises:
        ParameterError: if the parameter's default is no :class:`DataPath`.
    """
    from airflow_mlpipe.sdk.parameter import PipelineParameter

    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[1], DataPathComputeBinding):
        return value
    parameter, how = value
    if not isinstance(parameter, PipelineParameter) or parameter.spec.type != "data_path":
        raise ParameterError(
            f"({parameter!r}, DataPathComputeBinding): the first is no PipelineParameter with a DataPath; write "
            "(PipelineParameter('name', default_value=DataPath(datastore, 'path')), DataPathComputeBinding())"
        )
    return BoundDataPath(parameter, how)
