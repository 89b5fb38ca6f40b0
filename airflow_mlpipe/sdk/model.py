"""Registered models: named, versioned files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.catalog.rows import ModelRow
from airflow_mlpipe.errors import MissingDataError, NotFoundError, ParameterError
from airflow_mlpipe.sdk import observe

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.workspace import Workspace


class Model:
    """A version of a registered model."""

    class Framework:
        """v1's names of frameworks, for ``model_framework=``."""

        CUSTOM = "Custom"
        MULTI = "Multi"
        ONNX = "Onnx"
        PYTORCH = "PyTorch"
        SCIKITLEARN = "ScikitLearn"
        TENSORFLOW = "TensorFlow"

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - v1's name
        tags: Any = None,
        properties: Any = None,
        version: int | str | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Find a registered model: the newest version that fits.

        Args:
            workspace: where it is registered.
            name: its name.
            id: its id, ``name:version``.
            tags: only with these tags: a dict, or a list of names and ``[name, value]`` pairs.
            properties: only with these properties, in the same forms.
            version: only this version.
            run_id: only what this run registered.
            model_framework: only of this framework.
            **kwargs: accepted as in v1.

        Raises:
            NotFoundError: if none fits.
            ParameterError: if neither `name` nor `id` is given.
        """
        row: ModelRow | None = kwargs.get("_row")
        if row is None:
            if id is not None:
                name, _, version = id.rpartition(":")
            if not name:
                raise ParameterError("Model() needs a name= or an id= ('name:version')")
            row = _find(workspace, name, version, tags, properties, run_id, model_framework)
        self._workspace = workspace
        self._row = row

    @property
    def id(self) -> str:
        """``name:version``."""
        return self._row.id

    @property
    def name(self) -> str:
        """Its name."""
        return self._row.name

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return self._row.version

    @property
    def tags(self) -> dict[str, str]:
        """Free texts by name."""
        return dict(self._row.tags)

    @property
    def properties(self) -> dict[str, str]:
        """Fixed texts by name."""
        return dict(self._row.properties)

    @property
    def description(self) -> str:
        """Free text."""
        return self._row.description

    @property
    def created_time(self) -> datetime:
        """When it was registered."""
        return self._row.created_at

    @property
    def run_id(self) -> str | None:
        """Id of the run that registered it, or None."""
        return self._row.run_id

    @property
    def model_framework(self) -> str | None:
        """v1's framework name, or None."""
        return self._row.framework

    @property
    def model_framework_version(self) -> str | None:
        """Version of the framework, or None."""
        return self._row.framework_version

    @property
    def digest(self) -> str:
        """Identity of its content."""
        return self._row.digest

    @property
    def size_bytes(self) -> int:
        """Sum of its files' sizes."""
        return self._row.size_bytes

    @property
    def workspace(self) -> Workspace:
        """The workspace it is registered in."""
        return self._workspace

    @property
    def url(self) -> str:
        """Where its bytes lie."""
        return self._workspace.documents.holder(self._row.path).url_of(self._row.path)

    @staticmethod
    def register(
        workspace: Workspace,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        datasets: object = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: object = None,
        **kwargs: Any,
    ) -> Model:
        """Register a file or folder as a new version of a model. Its bytes are copied.

        Args:
            workspace: where to register it.
            model_path: the file or folder on this machine.
            model_name: name of the model: letters, digits, dots, dashes and underscores.
            tags: free texts by name.
            properties: fixed texts by name.
            description: free text.
            datasets: accepted as in v1; not kept.
            model_framework: e.g. ``Model.Framework.SCIKITLEARN``.
            model_framework_version: its version.
            child_paths: accepted as in v1.
            **kwargs: accepted as in v1.

        Raises:
            MissingDataError: if `model_path` does not exist or is an empty folder.
            ParameterError: if `model_name` is not allowed.
        """
        source = Path(model_path)
        if source.is_dir():
            inside = (path for path in sorted(source.rglob("*")) if path.is_file())
            files, folder = {path.relative_to(source).as_posix(): path for path in inside}, source.resolve().name
        else:
            files, folder = {source.name: source}, None
        if not files or not all(path.exists() for path in files.values()):
            raise MissingDataError(
                f"model '{model_name}': there is no file or filled folder '{source}' in {Path.cwd()}"
            )
        return register_files(
            workspace, model_name, files, folder=folder, run_id=observe.current_step_run_id(), tags=tags,
            properties=properties, framework=model_framework, framework_version=model_framework_version,
            description=description,
        )  # fmt: skip

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: Workspace | None = None) -> str:
        """Return where a registered model lies on this machine: its file or folder. Read-only.

        Works inside a step, and outside with `_workspace` or a workspace file in this folder or above.

        Args:
            model_name: its name.
            version: its version; default is the newest.
            _workspace: where it is registered; default is the step's or the one found from the working directory.

        Raises:
            NotFoundError: if it is not registered.
            ConfigError: if there is no workspace.
        """
        return str(Model(_workspace or _workspace_here(), model_name, version=version).path_on_disk())

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Any = None,
        properties: Any = None,
        run_id: str | None = None,
        latest: bool = False,
        **kwargs: Any,
    ) -> list[Model]:
        """Return registered models, newest first.

        Args:
            workspace: where they are registered.
            name: only of this name.
            tags: only with these tags: a dict, or a list of names and ``[name, value]`` pairs.
            properties: only with these properties, in the same forms.
            run_id: only those that this run registered.
            latest: only the newest version of each.
            **kwargs: accepted as in v1.
        """
        rows = workspace.catalog.list_models(name=name, run_id=run_id, latest=latest)
        if name is not None:
            _observe_newest(workspace, name)
        found = [row for row in rows if _fits(row.tags, tags) and _fits(row.properties, properties)]
        return [Model(workspace, _row=row) for row in found]

    def path_on_disk(self) -> Path:
        """Return where its file or folder lies on this machine. Read-only: change a copy, see :meth:`download`.

        One that is kept elsewhere is brought here once, into the workspace's ``cache`` folder.

        Raises:
            MissingDataError: if it is kept elsewhere and its bytes are gone.
            DigestMismatchError: if its bytes are not those that were registered.
        """
        from airflow_mlpipe.sdk.model_files import model_path

        return model_path(self._workspace, self._row)

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False, **kwargs: Any) -> str:
        """Copy its file or folder into `target_dir` and return where it is.

        Args:
            target_dir: folder, made if it does not exist.
            exist_ok: whether to replace what is there.
            **kwargs: accepted as in v1.

        Raises:
            ParameterError: if something is there already and `exist_ok` is not set.
            MissingDataError: if its bytes are gone.
        """
        import shutil

        source, folder = self.path_on_disk(), Path(target_dir)
        if not source.exists():
            raise MissingDataError(f"model '{self.id}': its bytes are gone from {source}; register it again")
        target = folder / source.name
        if target.exists() and not exist_ok:
            raise ParameterError(f"model '{self.id}': '{target}' exists; pass exist_ok=True to replace it")
        folder.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=exist_ok, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
        return str(target)

    def serialize(self) -> dict[str, Any]:
        """Return its fields as JSON values."""
        return {
            "id": self.id, "name": self.name, "version": self.version, "tags": self.tags, "properties": self.properties,
            "description": self.description, "createdTime": self.created_time.isoformat(), "runId": self.run_id or "",
            "framework": self.model_framework or "", "frameworkVersion": self.model_framework_version or "",
            "digest": self.digest,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Model(name={self.name}, version={self.version}, tags={self.tags}, run_id={self.run_id})"


def register_files(
    workspace: Workspace,
    model_name: str,
    files: Mapping[str, Path],
    *,
    folder: str | None = None,
    run_id: str | None = None,
    tags: Mapping[str, object] | None = None,
    properties: Mapping[str, object] | None = None,
    description: str | None = None,
    framework: str | None = None,
    framework_version: str | None = None,
) -> Model:
    """Copy files into the default datastore and register them as a new version: now, or once the step has succeeded.

    Args:
        workspace: where to register.
        model_name: name of the model.
        files: by the name they get inside the model.
        folder: name of the folder the model is, or None if it is the one file.
        run_id: the run that registers it.
        tags: free texts by name.
        properties: fixed texts by name.
        description: free text.
        framework: v1's framework name.
        framework_version: its version.

    Raises:
        ParameterError: if `model_name` is not allowed.
    """
    from airflow_mlpipe.execution.aside import new_place
    from airflow_mlpipe.execution.model_versions import ModelHome, draft_row
    from airflow_mlpipe.model.result import WantedModel
    from airflow_mlpipe.sdk.away import AwayWorkspace

    _check_name(model_name)
    wanted = WantedModel(
        name=model_name,
        place=new_place(),
        folder=folder,
        run_id=run_id,
        tags={str(key): str(value) for key, value in (tags or {}).items()},
        properties={str(key): str(value) for key, value in (properties or {}).items()},
        description=description or "",
        framework=framework,
        framework_version=framework_version,
    )
    if isinstance(workspace, AwayWorkspace):
        return workspace.register_later(wanted, files)
    home = ModelHome(workspace.catalog, workspace.default_store, workspace.index, workspace.dir / "cache", workspace.id)
    return Model(workspace, _row=home.add(draft_row(wanted), files, folder))


def _check_name(name: str) -> None:
    import re

    from airflow_mlpipe.model.result import MODEL_NAME

    if not re.fullmatch(MODEL_NAME, name or ""):
        raise ParameterError(f"model name {name!r} is not allowed; use letters, digits, dots, dashes and underscores")


def _find(
    workspace: Workspace,
    name: str,
    version: int | str | None,
    tags: Any,
    properties: Any,
    run_id: str | None,
    framework: str | None,
) -> ModelRow:
    try:
        newest = workspace.catalog.get_model(name, version)
    except NotFoundError:
        observe.record_absence("model", name, version)
        raise
    rows = [newest] if version is not None else workspace.catalog.list_models(name=name)
    for row in rows:
        if (
            _fits(row.tags, tags)
            and _fits(row.properties, properties)
            and run_id in (None, row.run_id)
            and framework in (None, row.framework)
        ):
            # A newer version could fit the filter, so the newest counts, whether it was taken or not.
            observe.record("model", name, version, newest.version, newest.digest)
            if row.version != newest.version:
                observe.record("model", name, row.version, row.version, row.digest)
            return row
    observe.record("model", name, version, newest.version, newest.digest)
    raise NotFoundError(
        f"no version of model '{name}' has these tags, properties, run or framework; "
        f"registered are versions {', '.join(str(row.version) for row in rows[::-1])}"
    )


def _observe_newest(workspace: Workspace, name: str) -> None:
    # Whatever the filter: a newer version could fit it.
    try:
        newest = workspace.catalog.get_model(name)
    except NotFoundError:
        observe.record_absence("model", name, None)
    else:
        observe.record("model", name, None, newest.version, newest.digest)


def _fits(have: Mapping[str, str], wanted: Any) -> bool:
    """Tell whether v1's forms of a tag filter match: a dict, or a list of names and ``[name, value]`` pairs."""
    if not wanted:
        return True
    if isinstance(wanted, Mapping):
        return all(have.get(str(key)) == str(value) for key, value in wanted.items())
    pairs = [wanted] if isinstance(wanted, str) else wanted
    return all(pair in have if isinstance(pair, str) else have.get(str(pair[0])) == str(pair[1]) for pair in pairs)


def _workspace_here() -> Workspace:
    from airflow_mlpipe.sdk.step_context import workspace_of_this_process
    from airflow_mlpipe.sdk.workspace import Workspace

    return workspace_of_this_process() or Workspace.from_config()
