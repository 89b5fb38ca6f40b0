"""The pipelines of a workspace as an Airflow DAG bundle with versions.

The truth is the workspace's registry (:mod:`airflow_mlpipe.engine.spec_registry`), in its folder or its catalog. What
lies in the bundle's folders is made of it and can be made again: a few files that call the loader, one for each part of
the registry that has pipelines.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

# Airflow's processes read this module before they fork the parser of a file and the runner of a task, which then find
# loaded what they need.
from airflow_mlpipe.engine import dag_factory as dag_factory
from airflow_mlpipe.engine import loader as loader
from airflow_mlpipe.engine import room as room
from airflow_mlpipe.engine.names import WORKSPACE_VARIABLE
from airflow_mlpipe.engine.settings import named_workspace, placed
from airflow_mlpipe.engine.spec_registry import Registry
from airflow_mlpipe.errors import ConfigError

_FILE = '''"""Pipelines of a workspace, as DAGs."""

from airflow_mlpipe.engine.loader import load_dags

globals().update(load_dags(__file__, {workspace!r}, version={version!r}, shard={shard!r}))
'''


class WorkspaceBundle(BaseDagBundle):
    """The DAGs of the pipelines that were submitted to a workspace.

    A run is pinned to the version it was triggered in: a task gets the spec of that version, whatever was published
    since. A task's version is a folder below ``versions_dir``, which Airflow removes when it was not used for long. The
    DAG processor, which wants the newest version, has a folder of its own that no cleanup touches; there a file is
    written only when its part of the registry has changed, so that Airflow does not read the others again.

    Args:
        workspace: the ``.mlpipe`` folder; default is the one named by ``MLPIPE_WORKSPACE``.
        **kwargs: of Airflow's base class: ``name``, ``version``, ``refresh_interval``, ``view_url_template``.
    """

    supports_versioning = True

    def __init__(self, *, workspace: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        named = named_workspace(workspace)
        if named is None:
            raise ConfigError(
                f"DAG bundle '{self.name}' has no workspace: give it workspace= in [dag_processor] "
                f"dag_bundle_config_list, or set {WORKSPACE_VARIABLE} to the path of its .mlpipe folder"
            )
        self._workspace = named
        self._shown: str | None = None
        self._changed: list[Path] = []

    @property
    def _registry(self) -> Registry:
        # Not when it is made: Airflow makes bundles also to ask for their names.
        return loader.registry_at(Path(self._workspace))

    @property
    def path(self) -> Path:
        """The folder with the files of this version."""
        return self.versions_dir / self.version if self.version else self.base_dir / "newest"

    def initialize(self) -> None:
        """See that the files of this version are there."""
        if not self.version:
            self.refresh()
        elif not self.path.exists():
            with self.lock():
                self._build()
        super().initialize()

    def refresh(self) -> None:
        """Bring the files of the newest version up to date; those of a fixed version never change."""
        if self.version:
            return
        # Airflow reads a file again if it was written after it was read last. A file that changes while it is being
        # read would be taken for read: written once more, it is read once more.
        for file in self._changed:
            if file.exists():
                os.utime(file)
        self._changed = []
        head = self._registry.head()
        if head == self._shown and self.path.exists():
            return
        with self.lock():
            self.path.mkdir(parents=True, exist_ok=True)
            wanted = self._files(head)
            for file in self.path.glob("*.py"):
                if file.name not in wanted:
                    file.unlink()
            for name, text in wanted.items():
                file = self.path / name
                if not file.exists() or file.read_text() != text:
                    draft = file.with_suffix(".draft")
                    draft.write_text(text)
                    draft.replace(file)
                    self._changed.append(file)
        self._shown = head

    def get_current_version(self) -> BundleVersion:
        """Return the version whose files are shown."""
        return BundleVersion(version=self.version or self._shown or self._registry.head())

    def _files(self, version: str) -> dict[str, str]:
        # Each says the version in which its part changed last: the same text as long as nothing in it changes.
        return {
            f"mlpipe_dags_{shard}.py": _FILE.format(workspace=placed(self._workspace), version=changed, shard=shard)
            for shard, changed in self._registry.shards(version).items()
        }

    def _build(self) -> None:
        if self.path.exists():
            return
        self.versions_dir.mkdir(parents=True, exist_ok=True)
        # Elsewhere first: who finds the folder finds all of it.
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.versions_dir))
        try:
            for name, text in self._files(self.path.name).items():
                (draft / name).write_text(text)
            draft.chmod(0o755)
            draft.rename(self.path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
