"""A place in a datastore, given to a step as it is: v1's DataReference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.model.data import AccessMode, DatastorePath, normalise_path
from airflow_mlpipe.sdk.binding import Binding, Consumed, port_name

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.datastore import Datastore

_MODES = ("mount", "download", "upload")


class DataReference(Consumed):
    """A file or folder of a datastore as a step's input; unlike a dataset, it need not exist yet."""

    def __init__(
        self,
        datastore: Datastore,
        data_reference_name: str | None = None,
        path_on_datastore: str | None = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Refer to a place.

        Args:
            datastore: where it lies.
            data_reference_name: name of the step's input: letters, digits and ``_``; by default the datastore's,
                made unique in the step.
            path_on_datastore: relative to the datastore's root; by default the root.
            mode: ``mount`` or ``upload`` (the path itself; in a datastore elsewhere a copy, and what the step has
                written there is uploaded once it has succeeded), or ``download`` (a private copy).
            path_on_compute: where the step wants to find it.
            overwrite: accepted as in v1, not used.

        Raises:
            ParameterError: if a name, path or mode is not allowed.
        """
        from airflow_mlpipe.sdk.datastore import Datastore

        if not isinstance(datastore, Datastore):
            raise ParameterError(
                f"DataReference: datastore {datastore!r} is a {type(datastore).__name__}; "
                "give a Datastore, e.g. workspace.get_default_datastore()"
            )
        if data_reference_name is not None:
            port_name(data_reference_name, "data reference")
        if mode not in _MODES:
            raise ParameterError(f"DataReference: mode {mode!r} is not allowed; allowed are {', '.join(_MODES)}")
        self.datastore = datastore
        self.data_reference_name = data_reference_name or re.sub(r"\W", "_", datastore.name, flags=re.ASCII)
        self.path_on_datastore = normalise_path(path_on_datastore or "")
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite
        self._fixed = data_reference_name is not None

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """Return a reference to a place below this one."""
        below = f"{self.path_on_datastore}/{path or ''}"
        return self._like(self.mode, self.path_on_compute, below, data_reference_name)

    def as_mount(self) -> DataReference:
        """Return it given to a step as the path itself."""
        return self._like("mount", self.path_on_compute)

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """Return it given to a step as a private copy."""
        return self._like("download", path_on_compute or self.path_on_compute)

    def as_upload(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """Return it as a place to write to; see `mode`."""
        return self._like("upload", path_on_compute or self.path_on_compute)

    def binding(self) -> Binding:
        """Return what it means as an input."""
        mode: AccessMode = "download" if self.mode == "download" else "mount"
        return Binding(
            DatastorePath(datastore=self.datastore.name, path=self.path_on_datastore),
            self.data_reference_name,
            fixed=self._fixed,
            mode=mode,
            explicit=mode == "download",
            path_on_compute=self.path_on_compute,
            label=f"{self.datastore.name}:/{self.path_on_datastore}",
            stores=(self.datastore,),
        )

    def _like(
        self, mode: str, path_on_compute: str | None, path: str | None = None, name: str | None = None
    ) -> DataReference:
        return DataReference(
            self.datastore,
            name or (self.data_reference_name if self._fixed else None),
            self.path_on_datastore if path is None else path,
            mode,
            path_on_compute,
            self.overwrite,
        )

    def __repr__(self) -> str:
        return (
            f"DataReference(datastore={self.datastore.name!r}, data_reference_name={self.data_reference_name!r}, "
            f"path_on_datastore={self.path_on_datastore!r}, mode={self.mode!r})"
        )
