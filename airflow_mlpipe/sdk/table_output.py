"""Outputs of steps read as tables by later steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

from airflow_mlpipe.errors import NotSupportedError, PipelineError
from airflow_mlpipe.model.data import DatasetView, RegisterSpec
from airflow_mlpipe.model.digest import JsonValue, digest_json
from airflow_mlpipe.model.operation import DropColumns, KeepColumns, Operation, Sample, declared_columns
from airflow_mlpipe.sdk.binding import Binding, OutputView, Produced


class _TableOutput(OutputView):
    """An output seen as a table. The step that makes it writes files; those that read it get rows."""

    def __init__(self, data: Produced, view: DatasetView, binding: Binding | None = None) -> None:
        """Wrap `data`.

        Args:
            data: the output.
            view: how it is read.
            binding: how a step reads it, once that was said.
        """
        self.view = view
        made = binding or Binding(data, data.input_name, mode="direct", explicit=True, as_dataset=True, view=view)
        super().__init__(data, made, consumed=binding is not None)

    def as_named_input(self, name: str) -> Self:
        """Return it as an input of this name."""
        return type(self)(self.data, self.view, self._binding.named(name))

    def as_input(self, name: str | None = None) -> Self:
        """Return it as an input; without a name, of a name that is derived."""
        return type(self)(self.data, self.view, self._binding if name is None else self._binding.named(name))

    def as_direct(self) -> Self:
        """Return it as an input: the step gets a TabularDataset, through ``Run.input_datasets``."""
        return type(self)(self.data, self.view, self._binding)

    def keep_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it with these columns only, in this order.

        Raises:
            ParameterError: if an earlier call has taken one of them away.
        """
        from airflow_mlpipe.sdk.tabular_dataset import column_names

        return self._with(KeepColumns(kind="keep", columns=column_names("keep_columns", columns)))

    def drop_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it without these columns. Raises ParameterError as :meth:`keep_columns`."""
        from airflow_mlpipe.sdk.tabular_dataset import column_names

        return self._with(DropColumns(kind="drop", columns=column_names("drop_columns", columns)))

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[Self, Self]:
        """Return two tables: one with about this share of the rows, and one with the others.

        Args:
            percentage: from 0 to 1.
            seed: of the random numbers; by default one that follows from the definition, so that steps can be reused.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        from airflow_mlpipe.sdk.abstract_dataset import seed_of, share_of

        definition = [self.data.output_name, self.view.model_dump(mode="json")]
        number = seed_of("random_split", seed, int(digest_json("seed", definition)[3:16], 16))
        sample = Sample(kind="sample", probability=share_of("random_split", "percentage", percentage), seed=number)
        return self._with(sample), self._with(sample.model_copy(update={"rest": True}))

    def _with(self, operation: Operation) -> Self:
        every = (*self.view.operations, operation)
        declared_columns(every)
        view = DatasetView(kind="tabular", options=self.view.options, operations=every, glob=self.view.glob)
        return type(self)(self.data, view)

    def _registered(self, name: str, description: str = "", tags: Mapping[str, str] | None = None) -> Self:
        view = self.view
        self.data.registration = RegisterSpec(
            name=name,
            description=description,
            tags=dict(tags or {}),
            kind="tabular",
            options=view.options,
            operations=view.operations,
            glob=view.glob,
        )
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data!r})"


class PipelineOutputTabularDataset(_TableOutput):
    """A PipelineData seen as a table; made by ``parse_delimited_files`` and ``parse_parquet_files``."""

    def register(self, name: str, create_new_version: bool = True) -> Self:
        """Register it as a TabularDataset once its step has succeeded; each different content is a new version.

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
        return self._registered(name)

    def as_mount(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: rows have no path.

        Raises:
            PipelineError: always.
        """
        raise PipelineError(
            f"{self.data!r} is read as a table, which has no path; pass it as it is and read it in the step with "
            "Run.get_context().input_datasets['name'].to_pandas_dataframe(), or pass the files: data.as_input()"
        )

    as_download = as_mount


class OutputTabularDatasetConfig(_TableOutput):
    """An OutputFileDatasetConfig whose files are a table; made by its ``read_delimited_files`` and relatives.

    In the arguments and outputs of the step that makes it, it is the folder to write to.
    """

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Self:
        """Register it as a TabularDataset once its step has succeeded; each different content is a new version.

        Args:
            name: of the dataset.
            description: free text.
            tags: free texts by name.

        Returns:
            The output itself.
        """
        return self._registered(name, description or "", tags)

    def as_mount(self, disable_metadata_cache: bool = False) -> Self:
        """Return the output itself; here every output is written straight into its datastore."""
        return self

    def as_upload(self, overwrite: bool = False, source_globs: object = None) -> Self:
        """Return the output itself; see :meth:`OutputFileDatasetConfig.as_upload`."""
        from airflow_mlpipe.sdk.data import refuse_source_globs

        refuse_source_globs(source_globs)
        return self


def options_view(options: dict[str, JsonValue], glob: str | None) -> DatasetView:
    """Return how files are read as a table."""
    return DatasetView(kind="tabular", options=options, glob=glob)
