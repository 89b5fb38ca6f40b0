"""What an interpreter has installed: the distributions that a step's code imports, by name and version.

This is the software of steps whose environment is an interpreter as it is. Reading what is installed costs a few
hundred milliseconds, so it is remembered in a file until a folder of packages changes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import EnvironmentBuildError
from airflow_mlpipe.model.digest import JsonValue

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_FORMAT = 1
_OWN = "airflow-mlpipe"
_METADATA = (".dist-info", ".egg-info", ".egg-link", ".pth")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra\b")


@dataclass(frozen=True, slots=True)
class Installed:
    """What an interpreter can import.

    Attributes:
        versions: by normalised name of the distribution.
        requires: names of the distributions each one needs, without its extras.
        modules: names of the distributions that provide each top-level module.
        sources: for a distribution that is installed in editable mode, the folder of its source.
    """

    versions: dict[str, str]
    requires: dict[str, list[str]]
    modules: dict[str, list[str]]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that steps run on.

    Attributes:
        executable: its path.
        prefix: where its environment lies.
        version: its whole version text.
        minor: major and minor version, e.g. ``3.11``.
        implementation: e.g. ``cpython``.
        path: where it looks for modules.
    """

    executable: str
    prefix: str
    version: str
    minor: str
    implementation: str
    path: tuple[str, ...]


def this_one() -> Interpreter:
    """Return the interpreter of this process."""
    return Interpreter(
        sys.executable,
        sys.prefix,
        sys.version,
        f"{sys.version_info.major}.{sys.version_info.minor}",
        sys.implementation.name,
        tuple(sys.path),
    )


def interpreter_at(path: str) -> Interpreter:
    """Return the interpreter at a path.

    Raises:
        EnvironmentBuildError: if it is none.
    """
    asked = (
        "import json, sys; v = sys.version_info; print(json.dumps([sys.executable, sys.prefix, sys.version, "
        "'%d.%d' % (v[0], v[1]), sys.implementation.name, sys.path[1:]]))"
    )
    try:
        answer = subprocess.run([path, "-c", asked], capture_output=True, check=True, env={}, cwd="/")
        executable, prefix, version, minor, implementation, found = json.loads(answer.stdout)
        return Interpreter(executable, prefix, version, minor, implementation, tuple(found))
    except (OSError, subprocess.CalledProcessError, ValueError, TypeError) as error:
        raise EnvironmentBuildError(f"interpreter '{path}' is not a Python of this machine: {error}") from error


def describe_environment(
    imports: frozenset[str], cache: Path | None = None, interpreter: Interpreter | None = None
) -> dict[str, JsonValue]:
    """Return the identity of the software that code importing `imports` runs on.

    Args:
        imports: top-level modules that the code imports. Those of the standard library, of the snapshot itself and
            of this package name no distribution and do not count.
        cache: file that remembers what is installed; it may be deleted at any time.
        interpreter: what it runs on; by default the interpreter of this process.

    Returns:
        ``python`` (major and minor version), ``implementation``, and the version of each distribution that provides
        one of `imports` or is needed by one that does. The version of an editable installation also names the
        state of its files.
    """
    interpreter = interpreter or this_one()
    installed = installed_packages(cache, interpreter)
    wanted = [name for module in imports for name in installed.modules.get(module, ())]
    names = _with_requirements(wanted, installed.requires)
    versions = {name: _identity(name, installed) for name in sorted(names) if name in installed.versions}
    return {"python": interpreter.minor, "implementation": interpreter.implementation, **versions}


def installed_packages(cache: Path | None = None, interpreter: Interpreter | None = None) -> Installed:
    """Return what an interpreter can import, from `cache` if no folder of packages has changed since."""
    interpreter = interpreter or this_one()
    signature = _signature(interpreter)
    known = None if cache is None else _read(cache, signature)
    if known is not None:
        return known
    installed = _scan(interpreter)
    if cache is not None:
        _write(cache, signature, installed)
    return installed


def _signature(interpreter: Interpreter) -> JsonValue:
    """Return what changes whenever a distribution is added, removed or replaced."""
    folders: list[JsonValue] = []
    for entry in dict.fromkeys(interpreter.path):
        try:
            with os.scandir(entry or ".") as listing:
                # Only what describes a distribution: the folder of a user's own modules changes all the time.
                found = sorted((e.name, e.stat().st_mtime_ns) for e in listing if e.name.endswith(_METADATA))
        except OSError:
            continue
        if found:
            folders.append([entry, len(found), _short_hash(found)])
    return [_FORMAT, interpreter.executable, interpreter.prefix, interpreter.version, folders]


def _short_hash(value: object) -> str:
    """Return a short stable text for `value`'s representation."""
    from blake3 import blake3

    return blake3(repr(value).encode("utf-8", "surrogateescape")).hexdigest(length=16)


def _read(cache: Path, signature: JsonValue) -> Installed | None:
    try:
        document = json.loads(cache.read_bytes())
        return Installed(**document["installed"]) if document["signature"] == signature else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(cache: Path, signature: JsonValue, installed: Installed) -> None:
    text = json.dumps({"signature": signature, "installed": asdict(installed)})
    draft = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(cache)
    except OSError:
        # Only slower next time; a read-only workspace still plans.
        draft.unlink(missing_ok=True)


def _scan(interpreter: Interpreter) -> Installed:
    from importlib.metadata import DistributionFinder, MetadataPathFinder

    installed = Installed({}, {}, {}, {})
    # Not `distributions()`: in a process that imported the backport importlib_metadata, as Airflow's do, that
    # asks the backport, which reads some packages differently; the same environment must have one identity.
    where = DistributionFinder.Context(path=list(interpreter.path))
    for distribution in MetadataPathFinder.find_distributions(where):
        metadata = distribution.metadata
        name = _normal(metadata["Name"] or "")
        # The first on sys.path is the one that is imported.
        if not name or name == _OWN or name in installed.versions:
            continue
        installed.versions[name] = metadata["Version"] or ""
        installed.requires[name] = _requirements(metadata.get_all("Requires-Dist") or ())
        source = _editable_source(distribution)
        if source is not None:
            installed.sources[name] = source
        for module in _modules(distribution, source):
            installed.modules.setdefault(module, []).append(name)
    return installed


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(lines: Iterable[str]) -> list[str]:
    """Return the names in requirement lines. Markers other than ``extra`` do not matter: what is absent is ignored."""
    names = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        match = _NAME.match(requirement.strip())
        if match and not _EXTRA.search(marker):
            names.append(_normal(match.group()))
    return sorted(set(names))


def _modules(distribution: Distribution, source: str | None) -> set[str]:
    declared = set((distribution.read_text("top_level.txt") or "").split())
    found = {
        path.parts[0] if len(path.parts) > 1 else path.name.partition(".")[0]
        for path in distribution.files or ()
        if path.suffix in (".py", ".so", ".pyd") and path.parts[0] != ".."
    }
    if source is not None:
        found |= {child.name for root in _source_roots(source) for child in _packages(root)}
    return {name for name in declared | found if name.isidentifier() and not name.startswith("__editable__")}


def _editable_source(distribution: Distribution) -> str | None:
    from urllib.parse import unquote, urlsplit

    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if not direct.get("dir_info", {}).get("editable"):
            return None
        return unquote(urlsplit(direct["url"]).path)
    except (ValueError, KeyError, AttributeError):
        return None


def _source_roots(source: str) -> Iterator[Path]:
    for root in (Path(source) / "src", Path(source)):
        if root.is_dir():
            yield root


def _packages(root: Path) -> Iterator[Path]:
    for child in root.iterdir():
        if (child / "__init__.py").is_file():
            yield child
        elif child.suffix == ".py":
            yield child.with_suffix("")


def _with_requirements(names: Iterable[str], requires: Mapping[str, list[str]]) -> set[str]:
    reached: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending.extend(requires.get(name, ()))
    return reached


def _identity(name: str, installed: Installed) -> str:
    version, source = installed.versions[name], installed.sources.get(name)
    if source is None:
        return version
    # The version of an editable installation stays the same while its code is edited.
    return f"{version}+{_short_hash(sorted(_file_states(source)))}"


def _file_states(source: str) -> Iterator[tuple[str, int, int]]:
    for root in _source_roots(source):
        for package in _packages(root):
            files = package.rglob("*.py") if package.is_dir() else [package.with_suffix(".py")]
            for file in files:
                status = file.stat()
                yield file.relative_to(source).as_posix(), status.st_size, status.st_mtime_ns
