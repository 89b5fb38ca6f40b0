"""What setup.cfg promises: declared dependencies, pinned versions, a wheel that holds all it needs."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]

# Where the distribution's name is not the name one imports.
IMPORTED_AS = {
    "apache-airflow": "airflow",
    "apache-airflow-providers-apache-livy": "airflow",
    "apache-airflow-providers-cncf-kubernetes": "airflow",
    "apache-airflow-providers-databricks": "airflow",
    "apache-airflow-providers-docker": "airflow",
    "apache-airflow-providers-microsoft-azure": "airflow",
    "apache-airflow-providers-ssh": "airflow",
    "azure-identity": "azure",
    "azure-storage-blob": "azure",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "sqlalchemy": "sqlalchemy",
}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def base() -> list[Requirement]:
    return requirements(setup_cfg()["options"]["install_requires"])


def extras() -> dict[str, list[Requirement]]:
    return {name: requirements(text) for name, text in setup_cfg()["options.extras_require"].items()}


def third_party_imports(folder: Path) -> set[str]:
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"airflow_mlpipe"}


def imported_as(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def test_every_import_is_declared() -> None:
    declared = {imported_as(r) for r in base()}
    for name in ("airflow", "pandas", "postgres", "remote", "s3", "azure", "gcs", "http", "mount"):
        declared |= {imported_as(r) for r in extras()[name]}
    # Airflow itself depends on these; only engine/ may import them, and the floors see to that.
    declared |= {"uvicorn", "fastapi", "pendulum", "docker", "kubernetes", "kubernetes_asyncio", "structlog", "numpy"}
    declared.add("greenback")  # what its triggerer uses for blocking calls
    declared |= {"requests", "urllib3"}  # for the errors that the clients of both raise
    declared.add("paramiko")  # what Airflow's provider for SSH is made of; for its types and errors
    declared.add("keyring")  # asked only where it is there already
    declared.add("pydantic_core")  # pydantic's other half: it pins the one version that fits
    declared.add("botocore")  # what aiobotocore is made of: it pins the range that fits
    assert third_party_imports(ROOT / "airflow_mlpipe") - declared == set()


def test_every_base_requirement_is_used() -> None:
    assert {imported_as(r) for r in base()} - third_party_imports(ROOT / "airflow_mlpipe") == set()


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, exact, version = line.partition("==")
            assert exact, f"constraints.txt holds exact versions only, not '{line}'"
            found[canonicalize_name(name)] = Version(version)
    return found


@pytest.mark.parametrize(
    "extra",
    ["", "airflow", "pandas", "demo", "postgres", "s3", "azure", "gcs", "http", "mount", "ssh", "batch", "databricks",
     "hdinsight", "synapse", "dev"],
)  # fmt: skip
def test_every_requirement_is_pinned_inside_its_range(extra: str) -> None:
    pinned = pins()
    for requirement in extras()[extra] if extra else base():
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt: run make constraints"
        assert pinned[name] in requirement.specifier, f"{name} {pinned[name]} is outside {requirement.specifier}"


def test_entry_points_lead_somewhere() -> None:
    for group in setup_cfg()["options.entry_points"].values():
        for line in group.strip().splitlines():
            module, _, attribute = line.partition("=")[2].strip().partition(":")
            source = ROOT.joinpath(*module.split("."))
            path = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
            assert re.search(rf"\b{attribute}\b", path.read_text("utf-8")), f"{line}: no {attribute} in {path}"


def test_the_wheel_holds_code_migrations_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools is not installed: make test installs it")
    for name in ("setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text("# airflow-mlpipe\n")
    for name in ("airflow_mlpipe", "tests", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".mlpipe"))
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = tmp_path / "airflow_mlpipe"
    code = {f"airflow_mlpipe/{path.relative_to(source).as_posix()}" for path in source.rglob("*.py")}
    assert code - names == set()
    assert "airflow_mlpipe/py.typed" in names
    assert {n.split("/")[0] for n in names} == {
        "airflow_mlpipe",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
