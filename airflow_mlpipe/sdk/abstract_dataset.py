"""What all datasets are: definitions over data in datastores, read by steps and by users."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from airflow_mlpipe.errors import NotSupportedError, ParameterError
from airflow_mlpipe.model.data import DatasetSpec
from airflow_mlpipe.model.digest import Digest, digest_json
from airflow_mlpipe.model.operation import Filter, Operation, Sample, Skip, Take, declared_columns
from airflow_mlpipe.sdk.consumption import DatasetConsumptionConfig
from airflow_mlpipe.sdk.expression import Expression

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.rows import DatasetRow
    from airflow_mlpipe.sdk.workspace import Workspace


class WrongKindError(NotSupportedError, AttributeError):
    """Something was asked of a dataset that only the other kind has.

    An AttributeError too: scripts written for v1 test with ``hasattr``.
    """


class AbstractDataset:
    """What file and tabular datasets share: a definition, whose content is what lies there when it is read."""

    kind: Literal["file", "tabular"]

    def __init__(
        self,
        workspace: Workspace | None,
        spec: DatasetSpec,
        row: DatasetRow | None = None,
        *,
        name: str | None = None,
        dataset_id: str | None = None,
        origin: DatasetRow | None = None,
    ) -> None:
        """Wrap a definition. Users make datasets with ``Dataset.File`` and ``Dataset.Tabular``.

        Args:
            workspace: whose datastores hold it; None for web addresses: that of the folder or step, once it is needed.
            spec: the definition.
            row: its registration, if it is registered.
            name: its name where `row` is not known.
            dataset_id: its id where `row` is not known.
            origin: the registered version that it was derived from, e.g. by ``take``.
        """
        self._given_workspace = workspace
        self._spec = spec
        self._row = row
        self._name = name
        self._id = dataset_id
        self._origin = row or origin

    @property
    def workspace(self) -> Workspace:
        """The workspace whose datastores hold it."""
        if self._given_workspace is None:
            from airflow_mlpipe.sdk.workspace import Workspace

            self._given_workspace = Workspace.from_config()
        return self._given_workspace

    @property
    def _workspace(self) -> Workspace:
        return self.workspace

    @property
    def spec(self) -> DatasetSpec:
        """Its wire form."""
        return self._spec

    @property
    def id(self) -> str | None:
        """Id of its registered version, or None."""
        return self._row.id if self._row else self._id

    @property
    def name(self) -> str | None:
        """Name it is registered under, or None."""
        return self._row.name if self._row else self._name

    @property
    def version(self) -> int | None:
        """Its version, from 1, or None if it is not registered."""
        return self._row.version if self._row else None

    @property
    def description(self) -> str | None:
        """Free text given when it was registered."""
        return self._row.description if self._row else None

    @property
    def tags(self) -> dict[str, str]:
        """Free texts by name given when it was registered."""
        return dict(self._row.tags) if self._row else {}

    @property
    def label(self) -> str:
        """What it is called towards people, e.g. ``dataset diabetes v2``."""
        if self._origin is not None:
            shown = f"dataset {self._origin.name} v{self._origin.version}"
            done = self._spec.operations[len(self._origin.spec.get("operations", ())) :]
        else:
            first, *more = [f"{source.datastore}:/{source.path}" for source in self._spec.sources]
            shown, done = f"{first} and {len(more)} more" if more else first, self._spec.operations
        return f"{shown} ({', '.join(operation.kind for operation in done)})" if done else shown

    def digest(self) -> Digest:
        """Return the identity of the content of its sources now: what a registered version pins.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.storage.content import registered_digest

        return registered_digest(self._spec, self._workspace.store, self._workspace.index)

    def content(self) -> Digest:
        """Return what a step that reads it depends on: its content, how it is read, and what is done to it then.

        Raises:
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.storage.content import source_digest

        return source_digest(self._spec, self._workspace.store, self._workspace.index)

    def register(
        self,
        workspace: Workspace,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Any:
        """Register it under a name.

        Args:
            workspace: where; that of its datastores.
            name: to register under.
            description: free text.
            tags: free texts by name.
            create_new_version: whether another definition, or changed content, becomes a new version.

        Returns:
            The registered dataset.

        Raises:
            UsageError: if the name is taken by another definition and `create_new_version` is false, or by a dataset of
                another kind.
            MissingDataError: if a path matches nothing.
        """
        from airflow_mlpipe.sdk.observe import current_step_run_id
        from airflow_mlpipe.storage.pinned import pin

        row = workspace.catalog.register_dataset(
            name,
            self._spec,
            pin(self._spec, workspace.store, workspace.documents, workspace.index),
            description=description or "",
            tags=tags,
            create_new_version=create_new_version,
            run_id=current_step_run_id(),
        )
        return type(self)(workspace, self._spec, row)

    def update(self, description: str | None = None, tags: Mapping[str, str] | None = None) -> Self:
        """Change the texts of this registered version in place.

        Args:
            description: another text; None to leave it.
            tags: all its tags; None to leave them.

        Raises:
            ParameterError: if it is not registered.
        """
        row = self._registered("update")
        self._row = self._origin = self._workspace.catalog.update_dataset(row.id, description=description, tags=tags)
        return self

    def add_tags(self, tags: Mapping[str, str]) -> Self:
        """Add tags to this registered version. Raises ParameterError if it is not registered."""
        return self.update(tags={**self._registered("add_tags").tags, **tags})

    def remove_tags(self, tags: list[str]) -> Self:
        """Remove tags of this registered version by name. Raises ParameterError if it is not registered."""
        kept = {name: value for name, value in self._registered("remove_tags").tags.items() if name not in tags}
        return self.update(tags=kept)

    def unregister_all_versions(self) -> None:
        """Remove all versions of its name from the workspace. The data stays; a later registration starts at 1.

        Raises:
            ParameterError: if it is not registered.
        """
        self._workspace.catalog.unregister_dataset(self._registered("unregister_all_versions").name)
        self._row = self._origin = None

    @property
    def data_changed_time(self) -> datetime | None:
        """When the newest of its files was changed, aware UTC; None for the answer of a query."""
        if self._spec.query is not None:
            return None
        from airflow_mlpipe.storage.selection import dataset_files

        files = dataset_files(self._spec, self._workspace.store)
        return datetime.fromtimestamp(max((file.record[3] for file in files), default=0) / 1e9, UTC)

    def take(self, count: int) -> Self:
        """Return it with its first rows (a FileDataset: files) only.

        Raises:
            ParameterError: if `count` is no number from 0.
        """
        return self._with(Take(kind="take", count=_count("take", count)))

    def skip(self, count: int) -> Self:
        """Return it without its first rows (a FileDataset: files). Raises ParameterError as :meth:`take`."""
        return self._with(Skip(kind="skip", count=_count("skip", count)))

    def take_sample(self, probability: float, seed: int | None = None) -> Self:
        """Return it with about this share of its rows (a FileDataset: files), picked at random.

        Args:
            probability: from 0 to 1, of each row.
            seed: of the random numbers; by default one that follows from the definition, so that the same script picks
                the same rows and a step that reads them can be reused.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        share, number = share_of("take_sample", "probability", probability), self._seed("take_sample", seed)
        return self._with(Sample(kind="sample", probability=share, seed=number))

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[Self, Self]:
        """Return two datasets: one with about this share of the rows (a FileDataset: files), and one with the others.

        Args:
            percentage: from 0 to 1.
            seed: see :meth:`take_sample`.

        Raises:
            ParameterError: if an argument is not allowed.
        """
        share, number = share_of("random_split", "percentage", percentage), self._seed("random_split", seed)
        sample = Sample(kind="sample", probability=share, seed=number)
        return self._with(sample), self._with(sample.model_copy(update={"rest": True}))

    def filter(self, expression: Expression) -> Self:
        """Return it with the rows (a FileDataset: files) for which a condition is true.

        Args:
            expression: e.g. ``(dataset['age'] > 30) & ~dataset['name'].is_null()``; of files
                ``dataset.file_metadata('Size') > 1000``, or a column of the ``partition_format``.

        Raises:
            ParameterError: if it is no condition, or speaks of a column that is not there any more.
        """
        if not isinstance(expression, Expression):
            raise ParameterError(
                f"filter({expression!r}): give a condition such as dataset['age'] > 30; join several with & | ~, each "
                "in parentheses"
            )
        return self._with(Filter(kind="filter", expression=expression.form))

    def __getitem__(self, name: str) -> Expression:
        return Expression.column(name)

    # Without it Python takes __getitem__ for a sequence's.
    __iter__: None = None

    def _with(self, *operations: Operation) -> Self:
        every = (*self._spec.operations, *operations)
        declared_columns(every)
        spec = DatasetSpec(
            kind=self._spec.kind,
            sources=self._spec.sources,
            options=self._spec.options,
            operations=every,
        )
        return type(self)(self._given_workspace, spec, origin=self._origin)

    def _seed(self, what: str, given: object) -> int:
        derived = digest_json("seed", [what, self._spec.model_dump(mode="json")])
        return seed_of(what, given, int(derived[3:16], 16))

    def _registered(self, what: str) -> DatasetRow:
        if self._row is None:
            if self._id is not None:
                self._row = self._origin = self._workspace.catalog.get_dataset_by_id(self._id)
                return self._row
            raise ParameterError(f"{what}: {self.label} is not registered; register it: dataset.register(ws, 'name')")
        return self._row

    def _warn_if_changed(self) -> None:
        from airflow_mlpipe.sdk.versions import warn_if_changed

        if self._origin is not None:
            warn_if_changed(self._origin, self._workspace)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return it as a step's input of this name.

        Raises:
            ParameterError: if the name is not allowed.
        """
        return DatasetConsumptionConfig(name, self)

    def as_input(self, name: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a step's input; without a name, its own or one by its position in the step."""
        return DatasetConsumptionConfig(name, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label})"


def _count(what: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ParameterError(f"{what}({given!r}) is not allowed; give a whole number from 0")
    return given


def seed_of(what: str, given: object, derived: int) -> int:
    """Return the seed that was given, or else the derived one.

    Raises:
        ParameterError: if it is no whole number from 0.
    """
    if given is None:
        return derived
    try:
        seed = int(given)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        seed = -1
    if isinstance(given, (bool, str)) or seed != given or not 0 <= seed < 2**63:
        raise ParameterError(f"{what}: seed={given!r} is not allowed; give a whole number from 0, or None")
    return int(seed)


def share_of(what: str, name: str, given: object) -> float:
    """Return a share that was given. Raises ParameterError if it is no number from 0 to 1."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
        raise ParameterError(f"{what}: {name}={given!r} is not allowed; give a number from 0 to 1")
    return float(given)
