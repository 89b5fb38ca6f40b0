"""Choosing the packages of an environment, once: the choice is kept with the workspace, and every machine takes it.

What an environment says - ``pandas>=2`` - means something else after each release. The lock says what was chosen, and
is what a step's key has: a new release changes no key, and the same environment has the same key on every kind of
compute. Building it by name, or changing its definition, chooses anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from airflow_mlpipe.errors import EnvironmentBuildError, MissingDataError
from airflow_mlpipe.execution.conda import Conda, find_conda, python_pins
from airflow_mlpipe.execution.core import INSIDE, core_digest, core_requirements, own_minor
from airflow_mlpipe.execution.indexes import index_options
from airflow_mlpipe.execution.interpreters import find_interpreter, interpreter
from airflow_mlpipe.execution.requirements import Request, request_of
from airflow_mlpipe.execution.uv import Say, find_uv, never, run_tool, silent
from airflow_mlpipe.model.digest import hex_part
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec
from airflow_mlpipe.storage.documents import Documents

FOLDER = "manifests/environments"
"""Where locks are kept, relative to the default datastore."""


class Locks:
    """The locks of a workspace, each read once.

    Args:
        store: the datastore that keeps them.
        indexes: URLs of package indexes that environments may name (setting ``package_indexes``).
    """

    def __init__(self, store: Documents, indexes: Collection[str] = ()) -> None:
        self._store = store
        self._indexes = tuple(indexes)
        self._known: dict[str, EnvironmentLock | None] = {}

    def of(
        self,
        spec: EnvironmentSpec,
        *,
        renew: bool = False,
        say: Say = silent,
        stop: Callable[[], str | None] = never,
    ) -> EnvironmentLock | None:
        """Return what an environment was resolved to; it is resolved if it was not yet.

        Args:
            spec: the environment.
            renew: choose anew, even if it was resolved.
            say: given each line of progress.
            stop: asked now and then; an answer other than None is the reason to end.

        Returns:
            None if it asks for nothing: then it is the current interpreter.

        Raises:
            ParameterError: if a package or an option is not allowed.
            EnvironmentBuildError: if its packages cannot be resolved; the message is the resolver's.
        """
        if not spec.has_packages:
            return None
        definition = spec.software_digest
        if renew:
            self._known.pop(definition, None)
        if definition not in self._known:
            # Most are there already; what they ask for has not to be looked at then.
            lock = None if renew else self._read(definition)
            self._known[definition] = lock or self._chosen(spec, renew, say, stop)
        return self._known[definition]

    def _chosen(
        self, spec: EnvironmentSpec, renew: bool, say: Say, stop: Callable[[], str | None]
    ) -> EnvironmentLock | None:
        conda = find_conda() if spec.conda_packages else None
        request = request_of(spec, with_conda=conda is not None)
        if request.is_empty:
            return None
        return self._keep(resolve(spec, request, self._indexes, conda, say=say, stop=stop), renew)

    def _read(self, definition: str) -> EnvironmentLock | None:
        try:
            lock = EnvironmentLock.model_validate_json(self._store.read_bytes(_path(definition)))
        except (MissingDataError, ValidationError):
            # A damaged one, or one of another release, is chosen anew.
            return None
        return lock if lock.definition == definition else None

    def _keep(self, lock: EnvironmentLock, renew: bool) -> EnvironmentLock:
        """Store a lock; of two that were made at once the first one stored counts."""
        stored = None if renew else self._read(lock.definition)
        if stored is not None:
            return stored
        self._store.write_bytes(_path(lock.definition), lock.model_dump_json().encode())
        return lock


def resolve(
    spec: EnvironmentSpec,
    request: Request,
    indexes: Collection[str] = (),
    conda: Conda | None = None,
    *,
    say: Say = silent,
    stop: Callable[[], str | None] = never,
) -> EnvironmentLock:
    """Choose the packages of an environment.

    Raises:
        ParameterError: if an option is not allowed.
        EnvironmentBuildError: if there is no choice that fits.
    """
    where = f"environment '{spec.name}'"
    options = index_options(spec.pip_options, indexes, where)
    notes = list(request.notes)
    python = _python(request, conda if request.conda else None, notes)
    chosen: tuple[str, ...] = ()
    if request.conda and conda is not None:
        chosen = conda.resolve((*request.conda, f"python={python}"), spec.conda_channels, where, say=say, stop=stop)
    packages, core = _compile(request, python, options, chosen, where, say, stop)
    for note in notes:
        say(f"note: {where}: {note}")
    return EnvironmentLock(
        definition=spec.software_digest,
        python=python,
        packages=packages,
        core=core,
        core_of=core_digest(),
        conda=chosen,
        channels=spec.conda_channels if chosen else (),
        index_options=options,
        notes=tuple(notes),
    )


def _path(definition: str) -> str:
    return f"{FOLDER}/{hex_part(definition)}.json"


def _python(request: Request, conda: Conda | None, notes: list[str]) -> str:
    if request.python is None:
        return own_minor()
    wanted = f"{request.python[0]}.{request.python[1]}"
    # Conda brings any version.
    if conda is None and find_interpreter(wanted) is None:
        notes.append(f"Python {wanted} is asked for, {own_minor()} is taken: this machine has no other")
        return own_minor()
    return wanted


def _compile(
    request: Request,
    python: str,
    options: tuple[str, ...],
    conda: tuple[str, ...],
    where: str,
    say: Say,
    stop: Callable[[], str | None],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return ``name==version`` of all that the requirements bring, and of what this package needs beside them."""
    target = ("--python-version", python) if conda else ("--python", interpreter(python, where))
    limits = (*request.constraints, *python_pins(conda))
    core = core_requirements()
    options = (*target, *options)
    try:
        return _compiled(request.requirements, (*core, *INSIDE), limits, options, where, say, stop)
    except EnvironmentBuildError as error:
        failed = error
    try:
        _compiled(request.requirements, (), limits, options, where, silent, stop)
    except EnvironmentBuildError as error:
        # Its own trouble, without what it has nothing to do with.
        raise error from None
    raise EnvironmentBuildError(
        f"{where}: its packages do not go together with what airflow_mlpipe needs beside them ({', '.join(core)}): "
        f"{failed.message}"
    )


def _compiled(
    wanted: Sequence[str],
    core: Sequence[str],
    limits: Sequence[str],
    options: tuple[str, ...],
    where: str,
    say: Say,
    stop: Callable[[], str | None],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with tempfile.TemporaryDirectory(prefix="mlpipe-") as name:
        files = {kind: Path(name, f"{kind}.txt") for kind in ("wanted", "core", "limits")}
        for kind, lines in (("wanted", wanted), ("core", core), ("limits", limits)):
            files[kind].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        argv = [find_uv(), "pip", "compile", "--no-header", "--annotation-style", "line", *options]
        argv += ["--constraint", str(files["limits"]), str(files["wanted"]), str(files["core"])]
        printed = run_tool(argv, f"{where} cannot be resolved", say=say, stop=stop)
    return _split(printed, str(files["wanted"]))


def _split(printed: str, wanted: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines of a resolution that one file of requirements brings, and the others.

    Args:
        printed: lines such as ``numpy==2.4.6  # via -r FILE, scikit-learn``.
        wanted: path of that file.
    """
    lines: dict[str, str] = {}
    brought: dict[str, list[str]] = {}
    for line in printed.splitlines():
        requirement, _, via = line.partition("#")
        requirement = requirement.partition(";")[0].strip()
        name, equals, _ = requirement.partition("==")
        if equals and not name.startswith("-"):
            lines[name] = requirement
            for parent in via.strip().removeprefix("via ").split(", "):
                brought.setdefault(parent.removeprefix("-r ").strip(), []).append(name)
    reached: set[str] = set()
    pending = list(brought.get(wanted, ()))
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += brought.get(name, ())
    packages = sorted(lines[name] for name in reached)
    return tuple(packages), tuple(sorted(line for name, line in lines.items() if name not in reached))
