"""How a step reads a dataset."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import NotSupportedError, ParameterError, PipelineError
from airflow_mlpipe.model.data import AccessMode, is_web
from airflow_mlpipe.sdk.binding import Binding, Consumed, access_mode
from airflow_mlpipe.sdk.names import UnknownNameError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.parameter import PipelineParameter

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DatasetConsumptionConfig(Consumed):
    """A dataset as a step's input: its name, and whether the step gets an object or a path."""

    def __init__(
        self,
        name: str | None,
        dataset: AbstractDataset | PipelineParameter,
        mode: str = "direct",
        path_on_compute: str | None = None,
    ) -> None:
        """Say how a step reads a dataset.

        Args:
            name: of the step's input: letters, digits and ``_``, not beginning with a digit; None for one that is
                derived.
            dataset: what is read; a PipelineParameter with a dataset as its default lets each run choose.
            mode: ``direct`` (an object in ``Run.input_datasets``), ``mount`` (a read-only path) or ``download`` (a
                private copy). The path is also in the environment variable `name`.
            path_on_compute: where the step wants to find it.

        Raises:
            ParameterError: if the name or mode is not allowed, or `dataset` is not a dataset.
            PipelineError: for a tabular dataset in another mode than ``direct``.
        """
        from airflow_mlpipe.sdk.abstract_dataset import AbstractDataset
        from airflow_mlpipe.sdk.parameter import PipelineParameter

        if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            raise ParameterError(
                f"input name {name!r} is not allowed; use letters, digits and '_', not beginning with a digit"
            )
        shown = f"input '{name}'" if name else "input"
        self.parameter: PipelineParameter | None = None
        if isinstance(dataset, PipelineParameter):
            self.parameter, dataset = dataset, dataset.default_value
        if not isinstance(dataset, AbstractDataset):
            raise ParameterError(
                f"{shown}: {dataset!r} is a {type(dataset).__name__}, not a dataset; "
                "make one with Dataset.File.from_files((datastore, 'path'))"
            )
        self.mode: AccessMode = access_mode(mode, shown)
        if self.mode != "direct" and dataset.kind == "tabular":
            raise PipelineError(
                f"{shown}: a TabularDataset has no path to {self.mode}; pass it as it is and read it in the step with "
                f"Run.get_context().input_datasets['{name or 'name'}'].to_pandas_dataframe()"
            )
        self.name = name
        self.dataset = dataset
        self.path_on_compute = path_on_compute

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it given to the step as a read-only path."""
        return DatasetConsumptionConfig(self.name, self._read, "mount", path_on_compute or self.path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it given to the step as a private copy it may change."""
        return DatasetConsumptionConfig(self.name, self._read, "download", path_on_compute or self.path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        """Return it given to the step as an object."""
        return DatasetConsumptionConfig(self.name, self._read, "direct", self.path_on_compute)

    def as_hdfs(self) -> DatasetConsumptionConfig:
        """Refuse: what a Spark service is given is the data's address.

        Raises:
            NotSupportedError: always.
        """
        raise NotSupportedError(
            f"input '{self.name}': as_hdfs() is not supported; give it to a SynapseSparkStep or an HDInsightStep as it "
            "is, which get the address of its data"
        )

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return it under another name."""
        return DatasetConsumptionConfig(name, self._read, self.mode, self.path_on_compute)

    def binding(self) -> Binding:
        """Return what it means as an input."""
        dataset, parameter = self.dataset, self.parameter
        known = dataset.name if parameter is None else parameter.name
        spoken = re.sub(r"\W", "_", known or "", flags=re.ASCII)
        return Binding(
            dataset.spec if parameter is None else parameter.ref,
            self.name or (spoken if _NAME.fullmatch(spoken) else None),
            fixed=self.name is not None,
            mode=self.mode,
            # A plain named input says nothing about how the step wants it; v1's default is direct.
            explicit=self.mode != "direct",
            path_on_compute=self.path_on_compute,
            as_dataset=True,
            label=dataset.label if parameter is None else f"parameter {parameter.name}",
            dataset_id=dataset.id if parameter is None else None,
            parameter=parameter,
            stores=self._datastores,
        )

    @property
    def _read(self) -> AbstractDataset | PipelineParameter:
        return self.dataset if self.parameter is None else self.parameter

    @cached_property
    def _datastores(self) -> tuple[Datastore, ...]:
        from airflow_mlpipe.sdk.datastore import Datastore

        sources = self.dataset.spec.sources
        names = dict.fromkeys(source.datastore for source in sources if not is_web(source.datastore))
        try:
            return tuple(Datastore(self.dataset.workspace, name) for name in names)
        except UnknownNameError as error:
            raise UnknownNameError(f"{self.dataset.label}: {error.message}") from None

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig(name={self.name!r}, mode={self.mode!r}, dataset={self.dataset!r})"
