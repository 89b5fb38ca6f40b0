"""The packages an environment asks for: v1's CondaDependencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.errors import ParameterError

FILE = "conda_dependencies.yml"
DEFAULT_NAME = "project_environment"
"""What v1 calls an environment in such a file."""

HEADER = "# Conda environment specification: channels, and packages of conda and of pip.\n"

_NUMBERS = frozenset("0123456789.*")


class CondaDependencies:
    """Conda and pip requirements of an environment.

    A package is a name and a range of versions; options, URLs and paths are refused. The retired SDK's own packages
    (``azureml-*``) are recorded but never installed: this package takes their place.
    """

    def __init__(
        self,
        conda_dependencies_file_path: str | Path | None = None,
        _underlying_structure: Mapping[str, Any] | None = None,
    ) -> None:
        """Read dependencies from a file, or begin with none.

        Args:
            conda_dependencies_file_path: a conda specification in YAML: ``name``, ``channels``, ``dependencies``.
            _underlying_structure: such a specification that was read already.

        Raises:
            ParameterError: if there is no such file, or it is not such a specification.
        """
        self._conda: dict[str, None] = {}
        self._pip: dict[str, None] = {}
        self._channels: dict[str, None] = {}
        self._pip_options: dict[str, None] = {}
        self._python_version: str | None = None
        self._name = DEFAULT_NAME
        if conda_dependencies_file_path is not None:
            _underlying_structure = _read(Path(conda_dependencies_file_path))
        if _underlying_structure is not None:
            self._take(_underlying_structure, str(conda_dependencies_file_path or "the specification"))

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Return dependencies on these packages.

        Args:
            pip_indexurl: see :meth:`set_pip_index_url`.
            pip_packages: pip requirements, e.g. ``scikit-learn>=1.4``.
            conda_packages: conda requirements, e.g. ``scikit-learn=1.4``.
            python_version: e.g. ``3.11``; by default any.
            pin_sdk_version: accepted as in v1: there is no SDK to pin.

        Raises:
            ParameterError: if a requirement is not one.
        """
        made = CondaDependencies()
        if pip_indexurl:
            made.set_pip_index_url(pip_indexurl)
        for package in _texts(pip_packages, "pip_packages"):
            made.add_pip_package(package)
        for package in _texts(conda_packages, "conda_packages"):
            made.add_conda_package(package)
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    @staticmethod
    def merge_requirements(requirements: Iterable[str]) -> list[str]:
        """Return requirements without repetitions: of each name the last one, in v1's way."""
        from airflow_mlpipe.execution.requirements import pip_requirement

        merged = {pip_requirement(text, "merge_requirements").name.lower(): text for text in requirements}
        return list(merged.values())

    @property
    def conda_packages(self) -> tuple[str, ...]:
        """Conda requirements, in the order they were added."""
        return tuple(self._conda)

    @property
    def pip_packages(self) -> tuple[str, ...]:
        """Pip requirements, in the order they were added."""
        return tuple(self._pip)

    @property
    def conda_channels(self) -> tuple[str, ...]:
        """Conda channels, in the order they were added."""
        return tuple(self._channels)

    @property
    def pip_options(self) -> tuple[str, ...]:
        """Options of pip, in the order they were added."""
        return tuple(self._pip_options)

    @property
    def python_version(self) -> str | None:
        """The wanted Python, or None for any."""
        return self._python_version

    def get_python_version(self) -> str | None:
        """Return the wanted Python, or None for any."""
        return self._python_version

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda requirement; it takes the place of an earlier one of the same package.

        ``python=3.11`` asks for a Python version.

        Raises:
            ParameterError: if it is not one.
        """
        from airflow_mlpipe.execution.requirements import conda_name, python_minor

        text = _text(conda_package, "conda package")
        name = conda_name(text, "CondaDependencies")
        if name == "python" and python_minor(text[len(name) :]) is not None:
            self.set_python_version(text[len(name) :].lstrip("= "))
            return
        self._drop(self._conda, name, lambda known: conda_name(known, "CondaDependencies"))
        self._conda[text] = None

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip requirement; it takes the place of an earlier one of the same package.

        Raises:
            ParameterError: if it is not one.
        """
        text = _text(pip_package, "pip package")
        self._drop(self._pip, _pip_name(text), _pip_name)
        self._pip[text] = None

    def add_channel(self, channel: str) -> None:
        """Add a channel that conda looks in; without conda it has no effect."""
        text = _text(channel, "channel")
        if text.startswith("-") or not text.isprintable():
            raise ParameterError(f"channel {channel!r} is not allowed; give a name or URL such as 'conda-forge'")
        self._channels[text] = None

    def remove_channel(self, channel: str) -> None:
        """Remove a channel, if it is there."""
        self._channels.pop(channel, None)

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of pip: ``--index-url``, ``--extra-index-url`` or ``--find-links`` with a URL, or ``--pre``.

        It is recorded. Building uses an index only if the workspace's setting ``package_indexes`` lists its URL, for
        packages from there run on the workspace's machines; otherwise a step with this environment is refused.

        Raises:
            ParameterError: if it is another option, or the URL holds a password.
        """
        from airflow_mlpipe.execution.indexes import check_pip_option

        text = check_pip_option(_text(pip_option, "pip option"))
        self._drop(self._pip_options, _option_name(text), _option_name)
        self._pip_options[text] = None

    def remove_pip_option(self, pip_option: str) -> None:
        """Remove an option of pip, given whole or by its name, if it is there."""
        self._drop(self._pip_options, _option_name(pip_option), _option_name)

    def set_pip_index_url(self, index_url: str) -> None:
        """Take packages from another index; see :meth:`set_pip_option`."""
        self.set_pip_option(f"--index-url {_text(index_url, 'index URL')}")

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """Replace all pip requirements."""
        requirements = [_text(each, "pip package") for each in _texts(pip_requirements, "pip_requirements")]
        self._pip = {}
        for text in requirements:
            self.add_pip_package(text)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda requirement, given whole or by its name, if it is there."""
        from airflow_mlpipe.execution.requirements import conda_name

        wanted = conda_name(_text(conda_package, "conda package"), "CondaDependencies")
        if wanted == "python":
            self._python_version = None
        self._drop(self._conda, wanted, lambda known: conda_name(known, "CondaDependencies"))

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a pip requirement, given whole or by its name, if it is there."""
        self._drop(self._pip, _pip_name(_text(pip_package, "pip package")), _pip_name)

    def set_python_version(self, version: str) -> None:
        """Ask for a Python version, e.g. ``3.11``.

        Raises:
            ParameterError: if it is not a version.
        """
        from airflow_mlpipe.execution.requirements import python_minor

        text = _text(version, "python version")
        if python_minor(text) is None and set(text) - _NUMBERS:
            raise ParameterError(f"python version {version!r} is not allowed; give one such as '3.11'")
        self._python_version = text

    def as_dict(self) -> dict[str, Any]:
        """Return the conda specification of these dependencies."""
        listed: list[Any] = [f"python={self._python_version}"] if self._python_version else []
        listed += self._conda
        if self._pip or self._pip_options:
            listed.append({"pip": [*self._pip_options, *self._pip]})
        document: dict[str, Any] = {"name": self._name, "dependencies": listed}
        return {**document, "channels": list(self._channels)} if self._channels else document

    def serialize_to_string(self) -> str:
        """Return the conda specification of these dependencies, in YAML."""
        import yaml

        return HEADER + yaml.safe_dump(self.as_dict(), sort_keys=False)

    def save_to_file(self, base_directory: str | Path, conda_file_path: str | Path | None = None) -> str:
        """Write the conda specification of these dependencies.

        Args:
            base_directory: folder to write to; it is made if it does not exist.
            conda_file_path: path of the file in it; by default ``conda_dependencies.yml``.

        Returns:
            `conda_file_path`, as v1 does.

        Raises:
            ParameterError: if it cannot be written.
        """
        relative = str(conda_file_path or FILE)
        path = Path(base_directory, relative)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.serialize_to_string(), encoding="utf-8")
        except OSError as error:
            raise ParameterError(f"conda file '{path}' cannot be written: {error.strerror}") from error
        return relative

    save = save_to_file

    def _take(self, document: Mapping[str, Any], where: str) -> None:
        unknown = [entry for entry in document.get("dependencies") or [] if not isinstance(entry, (str, Mapping))]
        if unknown:
            raise ParameterError(f"{where}: dependency {unknown[0]!r} is not a package, nor a list of pip packages")
        self._name = str(document.get("name") or DEFAULT_NAME)
        for channel in document.get("channels") or []:
            self.add_channel(channel)
        for entry in document.get("dependencies") or []:
            if isinstance(entry, str):
                self.add_conda_package(entry)
                continue
            for line in entry.get("pip") or []:
                self._take_pip_line(_text(line, "pip package"))

    def _take_pip_line(self, line: str) -> None:
        if line.startswith("-"):
            self.set_pip_option(line)
        else:
            self.add_pip_package(line)

    @staticmethod
    def _drop(entries: dict[str, None], name: str, name_of: Any) -> None:
        for known in [each for each in entries if name_of(each) == name]:
            del entries[known]

    def __repr__(self) -> str:
        return f"CondaDependencies(conda_packages={list(self._conda)}, pip_packages={list(self._pip)})"


def requirement_lines(path: Path) -> CondaDependencies:
    """Return the packages and options in a requirements file of pip.

    Comments and continued lines are understood, and ``-r FILE``, relative to the file.

    Raises:
        ParameterError: if the file cannot be read, or a line is not allowed.
    """
    found = CondaDependencies()
    for line in _lines(path, ()):
        found._take_pip_line(line)
    return found


def _lines(path: Path, inside: tuple[Path, ...]) -> Iterable[str]:
    if path in inside:
        raise ParameterError(f"requirements file '{path}' includes itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ParameterError(f"requirements file '{path}' cannot be read: {error}") from error
    for raw in text.replace("\\\n", " ").splitlines():
        # A comment begins at a line's start or after a space.
        line = f" {raw}".split(" #")[0].strip()
        option, _, value = line.partition(" ")
        if option in ("-r", "--requirement"):
            yield from _lines(path.parent / value.strip(), (*inside, path))
        elif line:
            yield line


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ParameterError(f"conda file '{path}' cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"conda file '{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping) or not isinstance(document.get("dependencies") or [], list):
        raise ParameterError(f"conda file '{path}' is no conda specification; it has a list 'dependencies'")
    return document


def _pip_name(text: str) -> str:
    from packaging.utils import canonicalize_name

    from airflow_mlpipe.execution.requirements import pip_requirement

    return canonicalize_name(pip_requirement(text, "CondaDependencies").name)


def _option_name(text: str) -> str:
    # Further indexes add up.
    name = text.replace("=", " ").split(" ")[0]
    return text if name in ("--extra-index-url", "-f", "--find-links") else name


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ParameterError(f"{what} {value!r} is not allowed; give a text such as 'pandas>=2'")
    return value.strip()


def _texts(values: Iterable[str] | None, what: str) -> Iterable[str]:
    # A text is iterable too, by letters.
    if isinstance(values, str):
        raise ParameterError(f"{what}={values!r} is not allowed; give a list: {what}=[{values!r}]")
    return values or ()
