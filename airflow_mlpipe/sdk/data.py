"""Data that one step makes and others read: PipelineData and OutputFileDatasetConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_mlpipe.errors import NotSupportedError, ParameterError
from airflow_mlpipe.model.data import AccessMode, DatasetView, RegisterSpec, normalise_path, placeholder
from airflow_mlpipe.sdk.binding import Binding, Consumed, OutputView, Produced, access_mode, port_name
from airflow_mlpipe.sdk.parameter import PipelineParameter
from airflow_mlpipe.sdk.reading_options import delimited, file_options, partition_text

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.column_types import DataType
    from airflow_mlpipe.sdk.datastore import Datastore
    from airflow_mlpipe.sdk.table_output import OutputTabularDatasetConfig, PipelineOutputTabularDataset


class InputPortBinding(Consumed):
    """Says that a step reads data of another step, and how. Made by ``as_input()`` and its relatives."""

    def __init__(self, binding: Binding) -> None:
        """Wrap what was said."""
        self._binding = binding

    @property
    def name(self) -> str | None:
        """Name of the step's input port, or None if it is derived when the pipeline is compiled."""
        return self._binding.name

    @property
    def mode(self) -> AccessMode:
        """How the step gets it: ``direct``, ``mount`` or ``download``."""
        return self._binding.mode

    def as_mount(self, path_on_compute: str | None = None) -> InputPortBinding:
        """Return it given to the step as a read-only path."""
        return InputPortBinding(self._binding.read("mount", path_on_compute))

    def as_download(self, path_on_compute: str | None = None) -> InputPortBinding:
        """Return it given to the step as a private copy it may change."""
        return InputPortBinding(self._binding.read("download", path_on_compute))

    def as_direct(self) -> InputPortBinding:
        """Return it given to the step as a dataset, through ``Run.input_datasets``."""
        return InputPortBinding(self._binding.read("direct"))

    def binding(self) -> Binding:
        """Return what it means as an input."""
        return self._binding

    def __repr__(self) -> str:
        return f"InputPortBinding(name={self.name!r}, mode={self.mode!r})"


class PipelineData(Produced):
    """A file or folder that one step makes and later steps read. The script makes it, at the path it is given."""

    def __init__(
        self,
        name: str,
        datastore: Datastore | str | None = None,
        output_name: str | None = None,
        output_mode: str = "mount",
        output_path_on_compute: str | None = None,
        output_overwrite: bool | None = None,
        data_type: str | None = None,
        is_directory: bool | None = None,
        pipeline_output_name: str | None = None,
        training_output: object = None,
    ) -> None:
        """Declare data between steps.

        Args:
            name: the consumers' name for it: letters, digits and ``_``.
            datastore: where it is kept, by object or name; by default the pipeline's default datastore.
            output_name: the producer's name for it, in its environment and in the path; by default `name`.
            output_mode: ``mount`` or ``upload``; both end in the datastore.
            output_path_on_compute: recorded; the producer gets its path in its arguments and environment.
            output_overwrite: accepted as in v1; every attempt writes in a place of its own.
            data_type: accepted as in v1, not used.
            is_directory: accepted as in v1: whatever is found at the path, a file or a folder, is the output.
            pipeline_output_name: name under which the run shows it as an output of the whole pipeline.
            training_output: refused; it belongs to step kinds that do not exist yet.

        Raises:
            ParameterError: if a name or mode is not allowed.
            NotSupportedError: for `training_output`.
        """
        port_name(name, "PipelineData")
        super().__init__(port_name(output_name or name, "PipelineData output"), name, datastore)
        if output_mode not in ("mount", "upload"):
            raise ParameterError(f"PipelineData '{name}': output_mode {output_mode!r}; allowed are mount and upload")
        if training_output is not None:
            raise NotSupportedError(
                f"PipelineData '{name}': training_output= is not supported; write the model to the path of the output"
            )
        self.output_mode = output_mode
        self.output_path_on_compute = output_path_on_compute
        self.is_directory = is_directory
        self.pipeline_output_name = pipeline_output_name

    @property
    def name(self) -> str:
        """The consumers' name for it."""
        return cast(str, self.input_name)

    @property
    def datastore(self) -> Datastore | str | None:
        """Where it is kept, as given."""
        return self.store

    def as_input(self, input_name: str | None = None) -> InputPortBinding:
        """Say that a step reads it.

        Args:
            input_name: name of the step's input port; by default `name`, made unique in the step.
        """
        return self.create_input_binding(input_name)

    def as_mount(self, input_name: str | None = None) -> InputPortBinding:
        """Say that a step reads it through a read-only path."""
        return self.create_input_binding(input_name, "mount")

    def as_download(
        self, input_name: str | None = None, path_on_compute: str | None = None, overwrite: bool | None = None
    ) -> InputPortBinding:
        """Say that a step reads a private copy, which it may change."""
        return self.create_input_binding(input_name, "download", path_on_compute, overwrite)

    def as_dataset(self) -> PipelineOutputFileDataset:
        """Return it as a dataset, for producer (``register``) and consumers (``Run.input_datasets``)."""
        return PipelineOutputFileDataset(self)

    def create_input_binding(
        self,
        input_name: str | None = None,
        mode: str | None = None,
        path_on_compute: str | None = None,
        overwrite: bool | None = None,
    ) -> InputPortBinding:
        """Say that a step reads it.

        Args:
            input_name: name of the step's input port; by default `name`, made unique in the step.
            mode: ``mount`` (the default) or ``download``.
            path_on_compute: where the step wants to find it.
            overwrite: accepted as in v1, not used.

        Raises:
            ParameterError: if name or mode is not allowed.
        """
        made = Binding(self, self.input_name, path_on_compute=path_on_compute)
        if input_name is not None:
            made = made.named(input_name)
        if mode is not None:
            made = made.read(access_mode(mode, f"PipelineData '{self.name}'"))
        return InputPortBinding(made)

    def get_env_variable_name(self) -> str:
        """Return the environment variable that holds its path in the producer."""
        return f"AZUREML_DATAREFERENCE_{self.output_name}"

    def binding(self) -> Binding:
        """Return what it means among a step's inputs."""
        return Binding(self, self.input_name, fixed=True)

    def __repr__(self) -> str:
        return f"PipelineData(name={self.name!r}, output_name={self.output_name!r})"


class PipelineOutputFileDataset(OutputView):
    """A PipelineData seen as a file dataset: registrable, and named among ``Run.input_datasets``."""

    def __init__(self, data: Produced, binding: Binding | None = None) -> None:
        """Wrap `data`.

        Args:
            data: the data that a step makes.
            binding: how a step reads it, once that was said.
        """
        made = binding or Binding(data, data.input_name, as_dataset=True)
        super().__init__(data, made, consumed=binding is not None)

    def as_named_input(self, name: str) -> PipelineOutputFileDataset:
        """Return it as an input of this name."""
        return PipelineOutputFileDataset(self.data, self._binding.named(name))

    def as_mount(self, path_on_compute: str | None = None) -> PipelineOutputFileDataset:
        """Return it given to a step as a read-only path."""
        return PipelineOutputFileDataset(self.data, self._binding.read("mount", path_on_compute))

    def as_download(self, path_on_compute: str | None = None) -> PipelineOutputFileDataset:
        """Return it given to a step as a private copy it may change."""
        return PipelineOutputFileDataset(self.data, self._binding.read("download", path_on_compute))

    def as_direct(self) -> PipelineOutputFileDataset:
        """Return it given to a step as a dataset, through ``Run.input_datasets``."""
        return PipelineOutputFileDataset(self.data, self._binding.read("direct"))

    def register(self, name: str, create_new_version: bool = True) -> PipelineOutputFileDataset:
        """Register it as a dataset once its step has succeeded; each different content is a new version.

        Args:
            name: of the dataset.
            create_new_version: True; with False, v1 fails from the second run on.

        Raises:
            NotSupportedError: if `create_new_version` is False.
        """
        if not create_new_version:
            raise NotSupportedError(
                f"register('{name}', create_new_version=False) is refused: a second run would fail; leave it out"
            )
        self.data.registration = RegisterSpec(name=name)
        return self

    def parse_delimited_files(
        self,
        include_path: bool = False,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        file_extension: str = "",
        set_column_types: Mapping[str, DataType | str] | None = None,
        quoted_line_breaks: bool = False,
    ) -> PipelineOutputTabularDataset:
        """Return it as a table: consumers get a TabularDataset of the delimited files in it.

        Args:
            include_path: see ``Dataset.Tabular.from_delimited_files``.
            separator: likewise.
            header: likewise.
            partition_format: likewise.
            file_extension: only files whose names end so, e.g. ``csv``; by default all.
            set_column_types: as in ``from_delimited_files``.
            quoted_line_breaks: accepted as in v1; they are always understood.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        from airflow_mlpipe.sdk.table_output import PipelineOutputTabularDataset, options_view

        options = delimited(
            "parse_delimited_files",
            include_path=include_path,
            separator=separator,
            header=header,
            partition_format=partition_format,
            set_column_types=set_column_types,
        )
        return PipelineOutputTabularDataset(self.data, options_view(options, _by_extension(file_extension)))

    def parse_parquet_files(
        self,
        include_path: bool = False,
        partition_format: str | None = None,
        file_extension: str = "",
        set_column_types: Mapping[str, DataType | str] | None = None,
    ) -> PipelineOutputTabularDataset:
        """Return it as a table of the Parquet files in it. For arguments see :meth:`parse_delimited_files`."""
        from airflow_mlpipe.sdk.table_output import PipelineOutputTabularDataset, options_view

        options = file_options("parquet", include_path, set_column_types, partition_format)
        return PipelineOutputTabularDataset(self.data, options_view(options, _by_extension(file_extension)))

    def __repr__(self) -> str:
        return f"PipelineOutputFileDataset({self.data!r})"


class OutputFileDatasetConfig(Produced):
    """A folder that a step fills; it exists when the step starts."""

    kind = "dataset"

    def __init__(
        self,
        name: str | None = None,
        destination: object = None,
        source: str | None = None,
        partition_format: str | None = None,
    ) -> None:
        """Declare a step's output folder.

        Args:
            name: of the output: letters, digits and ``_``; by default one by its position in the step.
            destination: a datastore, or v1's pair ``(datastore, path)``; `path` may contain ``{run-id}`` and
                ``{output-name}``, and may be a PipelineParameter or a list of texts and parameters, which are joined:
                ``(datastore, ['models/', region, '/{run-id}'])``. By default the pipeline's default datastore and
                ``dataset/{run-id}/{output-name}``.
            source: refused: the step writes to the path it is given.
            partition_format: gives the registered dataset, and those that steps get, columns of parts of the paths
                in the output, for ``FileDataset.filter``.

        Raises:
            ParameterError: if a name, destination or format is not allowed.
            NotSupportedError: for `source`.
        """
        if name is not None:
            port_name(name, "output")
        shown = "OutputFileDatasetConfig" if name is None else f"OutputFileDatasetConfig '{name}'"
        if source is not None:
            raise NotSupportedError(f"{shown}: source= is not supported; write to the path in the arguments")
        store, path, parameters = _destination(destination, shown)
        super().__init__(name, name, store)
        self.destination = path
        self.destination_parameters = parameters
        self.name = name
        text = partition_text(partition_format)
        self._options = {} if text is None else {"partition_format": text}

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        """Return the output itself; here every output is written straight into its datastore."""
        return self

    def as_upload(self, overwrite: bool = False, source_globs: object = None) -> OutputFileDatasetConfig:
        """Return the output itself; here every output is written straight into its datastore.

        Args:
            overwrite: accepted as in v1; every attempt writes in a place of its own.
            source_globs: refused; everything in the folder is the output.

        Raises:
            NotSupportedError: for `source_globs`.
        """
        refuse_source_globs(source_globs)
        return self

    def read_delimited_files(
        self,
        include_path: bool = False,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, DataType | str] | None = None,
    ) -> OutputTabularDatasetConfig:
        """Return it as a table: what is registered is a TabularDataset, and consumers get one.

        Args:
            include_path: see ``Dataset.Tabular.from_delimited_files``.
            separator: likewise.
            header: likewise.
            partition_format: likewise.
            path_glob: only files whose paths in the output match, e.g. ``**/*.csv``; by default all.
            set_column_types: as in ``from_delimited_files``.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        from airflow_mlpipe.sdk.table_output import OutputTabularDatasetConfig, options_view

        options = delimited(
            "read_delimited_files",
            include_path=include_path,
            separator=separator,
            header=header,
            partition_format=partition_format,
            set_column_types=set_column_types,
        )
        return OutputTabularDatasetConfig(self, options_view(options, _glob(path_glob)))

    def read_parquet_files(
        self,
        include_path: bool = False,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, DataType | str] | None = None,
    ) -> OutputTabularDatasetConfig:
        """Return it as a table of the Parquet files in it. For arguments see :meth:`read_delimited_files`."""
        from airflow_mlpipe.sdk.table_output import OutputTabularDatasetConfig, options_view

        options = file_options("parquet", include_path, set_column_types, partition_format)
        return OutputTabularDatasetConfig(self, options_view(options, _glob(path_glob)))

    def as_input(self, name: str | None = None) -> InputPortBinding:
        """Say that a step reads it.

        Args:
            name: name of the step's input; by default that of the output, or one by its position in the step.
        """
        view = DatasetView(kind="file", options=self._options) if self._options else None
        made = Binding(self, self.input_name, as_dataset=True, view=view)
        return InputPortBinding(made if name is None else made.named(name))

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        """Register it as a dataset once its step has succeeded; each different content is a new version.

        Args:
            name: of the dataset.
            description: free text.
            tags: free texts by name.

        Returns:
            The output itself.
        """
        self.registration = RegisterSpec(
            name=name, description=description or "", tags=dict(tags or {}), options=self._options
        )
        return self

    def binding(self) -> Binding:
        """Return what it means among a step's inputs."""
        return self.as_input().binding()

    def __repr__(self) -> str:
        return f"OutputFileDatasetConfig(name={self.name!r})"


def refuse_source_globs(source_globs: object) -> None:
    """Refuse v1's choice of what is uploaded. Raises NotSupportedError if there is one."""
    if source_globs is not None:
        raise NotSupportedError("as_upload(source_globs=...) is not supported; write only what belongs to it")


def _by_extension(given: str) -> str | None:
    bare = str(given or "").lstrip("*.")
    return f"**/*.{bare}" if bare else None


def _glob(given: str | None) -> str | None:
    return None if given is None else normalise_path(given) or None


DEFAULT_DESTINATION = "dataset/{run-id}/{output-name}"


def _destination(given: object, shown: str) -> tuple[Datastore | str | None, str | None, tuple[PipelineParameter, ...]]:
    from airflow_mlpipe.sdk.datastore import Datastore

    if given is None or isinstance(given, (Datastore, str)):
        return given, None, ()
    if isinstance(given, (tuple, list)) and len(given) == 2 and isinstance(given[0], (Datastore, str)):
        store, path = given
        parts = path if isinstance(path, (tuple, list)) else [path or ""]
        if all(isinstance(part, (str, PipelineParameter)) for part in parts):
            parameters = tuple(part for part in parts if isinstance(part, PipelineParameter))
            text = "".join(part if isinstance(part, str) else _placeholder(part, shown) for part in parts)
            if "PipelineParameter(name=" in text:
                raise ParameterError(
                    f"{shown}: destination '{text}' has a parameter inside of a text, where its value is not known "
                    "yet; give the parts in a list: (datastore, ['models/', parameter, '/{run-id}'])"
                )
            cleaned = normalise_path(text)
            return store, None if cleaned in ("", DEFAULT_DESTINATION) else cleaned, parameters
    raise ParameterError(
        f"{shown}: destination {given!r} is not allowed; give a Datastore, or (datastore, 'path'), or "
        "(datastore, ['part', parameter, ...])"
    )


def _placeholder(parameter: PipelineParameter, shown: str) -> str:
    if parameter.spec.is_data:
        raise ParameterError(
            f"{shown}: parameter '{parameter.name}' in its destination names data; give one with a text or a number"
        )
    return placeholder(parameter.name)
