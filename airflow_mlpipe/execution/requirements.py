"""From the words of an environment to what a resolver is asked for. Whatever is not a plain requirement is refused.

A definition travels: whoever may register an environment decides what other people's machines install. So a package
is a name and a range of versions (PEP 508), never a URL, a path or an option, and where packages come from is the
business of the machine and of the workspace's settings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import ParameterError
from airflow_mlpipe.execution.conda_names import SAME_PROGRAM, index_name
from airflow_mlpipe.model.environment import EnvironmentSpec

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LOWEST = (3, 11)
"""The oldest Python that this package, and so ``Run.get_context()``, works with."""

_CONDA = re.compile(r"(?:[\w./-]+::)?([A-Za-z_][\w.-]*)(\[[\w,.-]+\])?\s*([\w=<>!~|,.*+ ]*)")
_CONDA_EXACT = re.compile(r"(={0,2})\s*([\w.*+!-]+)(?:=[\w.*]+)?")
_CONDA_CLAUSE = re.compile(r"(===|==|=|!=|~=|>=|<=|>|<)?\s*([\w.*+!-]+)")
_PYTHON = re.compile(r"[=><~!\s]*(\d+)(?:\.(\d+))?")

_ERAS = (
    ((3, 9), ("numpy<1.24", "pandas<2", "pyarrow<26", "scikit-learn<1.2")),
    # pyarrow 26 refuses to be imported beside NumPy 1, which its metadata does not say.
    ((3, 11), ("numpy<2", "pandas<3", "pyarrow<26")),
)
"""For a Python below the first one: what its code does not work with newer versions of."""

_V1_PYTHON = "3.8"
"""The Python of an environment of v1's that says none."""

_TABLES = ("pandas", "pyarrow")
_STAND_IN = dict.fromkeys(
    ("azureml-sdk", "azureml-dataprep", "azureml-dataset-runtime", "azureml-opendatasets", "azureml-interpret"), _TABLES
)
"""What packages of the retired SDK brought along that scripts use without naming it."""

_LEFT_OUT = {
    "azureml-mlflow": "a script that imports mlflow needs it among the packages, and a server in MLFLOW_TRACKING_URI; "
    "Run.get_context().log() needs neither"
}
"""Why a package of the retired SDK is left out that this one does not stand in for."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a resolver is asked for.

    Attributes:
        requirements: of the package index, sorted.
        conda: what conda is asked for, sorted; empty where packages come from the index alone.
        constraints: versions that are not asked for but limited.
        python: wanted version of the interpreter, e.g. ``(3, 12)``; None for the current one.
        notes: what was left out or taken instead of something, one line each.
    """

    requirements: tuple[str, ...]
    conda: tuple[str, ...]
    constraints: tuple[str, ...]
    python: tuple[int, int] | None
    notes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to be made: the current interpreter is what is asked for."""
        return not self.requirements and not self.conda and self.python is None


def request_of(spec: EnvironmentSpec, *, with_conda: bool = False) -> Request:
    """Return what the environment asks for.

    Args:
        spec: the environment.
        with_conda: whether conda is there for what it asks of conda.

    Raises:
        ParameterError: if a package is not a plain requirement.
    """
    if spec.user_managed:
        return Request((), (), (), None, ())
    where = f"environment '{spec.name}'"
    notes: list[str] = []
    asked = [pip_requirement(text, where) for text in spec.pip_packages]
    conda: list[str] = []
    for text in spec.conda_packages:
        if with_conda and conda_name(text, where) != "python":
            conda.append(text.strip())
        elif not with_conda:
            asked += _from_conda(text, where, notes)
    wanted = [each for requirement in asked for each in _without_own(requirement, notes)]
    wanted += _for_tables(wanted, [conda_name(text, where) for text in conda])
    python = _python(spec.python_version, where, notes)
    era = spec.python_version or _silent_era(asked)
    constraints = _era(era, wanted)
    if constraints and wanted:
        notes.append(f"packages are limited to those of Python {era}: {', '.join(constraints)}")
    return Request(
        tuple(sorted({str(each) for each in wanted})), tuple(sorted(conda)), constraints, python, tuple(notes)
    )


def pip_requirement(text: str, where: str) -> Requirement:
    """Return a requirement of the package index.

    Raises:
        ParameterError: if it is an option, a URL, a path, more than one line, or not a requirement at all.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    if text.strip().startswith("-"):
        raise ParameterError(
            f"{where}: {text!r} is an option, not a package; give a name and versions such as 'pandas>=2', and where "
            "packages come from with CondaDependencies.set_pip_option"
        )
    try:
        requirement = Requirement(text) if text.isprintable() else None
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.url is not None:
        raise ParameterError(
            f"{where}: package {text!r} is not allowed; give a name and versions such as 'pandas>=2' "
            "(no URL, path, option or line break)"
        )
    return requirement


def conda_name(text: str, where: str) -> str:
    """Return the name in a conda requirement, lower case.

    Raises:
        ParameterError: if it is not one.
    """
    return _conda_parts(text, where)[0].lower()


def python_minor(text: str | None) -> tuple[int, int] | None:
    """Return major and minor version in e.g. ``3.6.2`` or ``>=3.8``; None if there are none."""
    match = _PYTHON.match(text or "")
    return (int(match[1]), int(match[2])) if match and match[2] else None


def _conda_parts(text: str, where: str) -> tuple[str, str, str]:
    match = _CONDA.fullmatch(text.strip()) if text.isprintable() else None
    if match is None:
        raise ParameterError(
            f"{where}: conda package {text!r} is not allowed; give a name and versions such as 'pandas=2.2'"
        )
    return match[1], match[2] or "", match[3].strip()


def _from_conda(text: str, where: str, notes: list[str]) -> list[Requirement]:
    """Return what the package index has for a conda requirement: one requirement, or none."""
    name, extras, version = _conda_parts(text, where)
    found = index_name(name)
    if found is None:
        # These two are there in any case.
        if name.lower() not in ("pip", "python"):
            notes.append(f"conda package '{text}' is left out: the Python package index has none of that name")
        return []
    if found.lower() != name.lower():
        notes.append(f"conda package '{name}' is taken from the Python package index as '{found}'")
    return [pip_requirement(f"{found}{extras}{_specifier(version, text, where)}", where)]


def _specifier(version: str, text: str, where: str) -> str:
    """Return a version in conda's language in that of PEP 440."""
    if not version:
        return ""
    exact = _CONDA_EXACT.fullmatch(version)
    if exact is not None:
        fuzzy = exact[1] == "=" and not exact[2].endswith("*")
        return f"=={exact[2]}{'.*' if fuzzy else ''}"
    clauses = []
    for clause in version.split(","):
        match = _CONDA_CLAUSE.fullmatch(clause.strip())
        if match is None:
            raise ParameterError(
                f"{where}: conda package {text!r} has versions that the Python package index does not know; "
                "write them as in 'pandas>=2,<3'"
            )
        clauses.append(f"=={match[2]}.*" if match[1] == "=" else f"{match[1] or '=='}{match[2]}")
    return ",".join(clauses)


def _without_own(requirement: Requirement, notes: list[str]) -> Iterable[Requirement]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    name = canonicalize_name(requirement.name)
    if name == "azureml" or name.startswith("azureml-") or name == "airflow-mlpipe":
        instead = _LEFT_OUT.get(name, "airflow_mlpipe takes its place")
        notes.append(f"package '{requirement}' is left out: {instead}")
        brings = _STAND_IN.get(name, _TABLES if "pandas" in requirement.extras else ())
        return [Requirement(each) for each in brings]
    if name in SAME_PROGRAM:
        notes.append(f"package '{requirement.name}' is taken from the Python package index as '{SAME_PROGRAM[name]}'")
        requirement.name = SAME_PROGRAM[name]
    return [requirement]


def _for_tables(asked: Iterable[Requirement], conda: Iterable[str]) -> list[Requirement]:
    """Return what tables are read with, besides pandas, where pandas is asked for.

    v1 put ``azureml-defaults``, which brought it, into every environment whose packages were given by name.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    names = {canonicalize_name(each.name) for each in asked}.union(conda)
    return [Requirement("pyarrow")] if "pandas" in names and "pyarrow" not in names else []


def _python(text: str | None, where: str, notes: list[str]) -> tuple[int, int] | None:
    """Return the Python to look for, or None for the current one."""
    own = sys.version_info[:2]
    asked = python_minor(text)
    if text is None or asked == own:
        return None
    if asked is None or asked < LOWEST:
        if not re.fullmatch(r"[=><~!\s]*3", text):
            notes.append(f"Python {text} is asked for, {own[0]}.{own[1]} is taken: this package needs 3.11 or newer")
        return None
    return asked


def _silent_era(asked: Iterable[Requirement]) -> str | None:
    """Return the Python that v1 gave to an environment without one, if this is one of v1's; else None.

    The packages of that time have no wheels for Python 3.12 and newer.
    """
    of_v1 = any(each.name.lower().startswith("azureml") for each in asked)
    return _V1_PYTHON if of_v1 and sys.version_info < (3, 12) else None


def _era(text: str | None, wanted: Iterable[Requirement]) -> tuple[str, ...]:
    """Return the constraints of an old Python's time, but for packages whose versions the user chose."""
    from packaging.utils import canonicalize_name

    asked = python_minor(text)
    if asked is None:
        return ()
    chosen = {canonicalize_name(each.name) for each in wanted if each.specifier}
    for below, constraints in _ERAS:
        if asked < below:
            return tuple(each for each in constraints if each.partition("<")[0] not in chosen)
    return ()
