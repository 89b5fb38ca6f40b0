"""Environments made by conda, mamba or micromamba, where one is on the PATH."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.execution.conda_names import index_name
from airflow_mlpipe.execution.uv import Say, never, run_tool, silent

TOOLS = ("micromamba", "mamba", "conda")
"""What is looked for, the fastest first."""

DEFAULT_CHANNELS = ("conda-forge",)


@dataclass(frozen=True, slots=True)
class Conda:
    """A tool of this machine.

    Attributes:
        path: its program.
    """

    path: str

    def resolve(
        self,
        packages: Sequence[str],
        channels: Sequence[str],
        where: str,
        *,
        say: Say = silent,
        stop: Callable[[], str | None] = never,
    ) -> tuple[str, ...]:
        """Return ``name=version=build`` of everything that the packages bring, sorted. Nothing is installed.

        Raises:
            EnvironmentBuildError: if there is no choice that fits.
        """
        failure = f"{where} cannot be resolved by {Path(self.path).name}"
        with tempfile.TemporaryDirectory(prefix="mlpipe-") as folder:
            argv = [self.path, "create", "--dry-run", "--json", "--yes", "--prefix", str(Path(folder, "env"))]
            printed = run_tool([*argv, *_channels(channels), *packages], failure, say=say, stop=stop)
        try:
            linked = json.loads(printed)["actions"]["LINK"]
            return tuple(sorted(f"{each['name']}={each['version']}={_build(each)}" for each in linked))
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentBuildError(f"{failure}: its answer is not understood ({error!r})") from error

    def install(
        self,
        packages: Sequence[str],
        channels: Sequence[str],
        folder: Path,
        where: str,
        *,
        say: Say = silent,
        stop: Callable[[], str | None] = never,
    ) -> None:
        """Make an environment of exactly these packages in a folder.

        Raises:
            EnvironmentBuildError: if it cannot be made.
        """
        argv = [self.path, "create", "--yes", "--prefix", str(folder), *_channels(channels), *packages]
        run_tool(argv, f"{where} cannot be built by {Path(self.path).name}", say=say, stop=stop)

    def export(self, name: str) -> Any:
        """Return the conda specification of an environment of this machine.

        Raises:
            EnvironmentBuildError: if there is none of that name.
        """
        import yaml

        failure = f"environment '{name}' cannot be read by {Path(self.path).name}"
        printed = run_tool([self.path, "env", "export", "--no-builds", "--name", name], failure)
        try:
            document = yaml.safe_load(printed)
        except yaml.YAMLError as error:
            raise EnvironmentBuildError(f"{failure}: its answer is not YAML") from error
        if not isinstance(document, dict):
            raise EnvironmentBuildError(f"{failure}: its answer is no conda specification")
        return document


def find_conda() -> Conda | None:
    """Return the tool of this machine, or None if there is none."""
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None:
            return Conda(found)
    return None


def python_pins(lock: Sequence[str]) -> tuple[str, ...]:
    """Return ``name==version`` of the Python packages in a lock of conda, as the package index calls them."""
    from packaging.version import InvalidVersion, Version

    pins = []
    for line in lock:
        name, version = line.split("=")[:2]
        found = index_name(name)
        try:
            if found is not None:
                pins.append(f"{found}=={Version(version)}")
        except InvalidVersion:
            # A program's, not a Python package's.
            continue
    return tuple(pins)


def _channels(channels: Sequence[str]) -> list[str]:
    return [word for channel in channels or DEFAULT_CHANNELS for word in ("--channel", channel)]


def _build(package: dict[str, Any]) -> str:
    return str(package.get("build_string") or package["build"])
