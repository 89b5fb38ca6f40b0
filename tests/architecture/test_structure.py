"""The shape of the package: sizes, names, cycles and what an import costs."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_mlpipe"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
PUBLIC_NAMES = Path(__file__).with_name("public_names.txt")

# Public classes that mirror the retired SDK keep its long signatures.
MIRRORS = PACKAGE / "sdk"

HEAVY = (
    "airflow",
    "alembic",
    "docker",
    "fastapi",
    "fsspec",
    "httpx",
    "kubernetes",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "typer",
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """Yields every function with its length in lines, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield node, length


def test_modules_stay_small() -> None:
    sizes = {relative(path): lines_of(path) for path in MODULES if lines_of(path) > 3}
    assert {name: size for name, size in sizes.items() if size > 500} == {}
    assert statistics.median(sizes.values()) <= 150


def test_functions_stay_short() -> None:
    long = {
        f"{relative(path)}:{node.lineno} {node.name}": length
        for path in MODULES
        for node, length in functions(path)
        if length > 60
    }
    assert long == {}


def test_internal_constructors_take_few_arguments() -> None:
    wide = {}
    for path in MODULES:
        if MIRRORS in path.parents:
            continue
        for node, _ in functions(path):
            if node.name == "__init__":
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                if count > 8:
                    wide[f"{relative(path)}:{node.lineno}"] = count
    assert wide == {}


def test_no_module_is_called_after_nothing() -> None:
    vague = re.compile(r"(^|_)(utils?|common|helpers?|misc|shared)($|_)")
    assert [relative(path) for path in PACKAGE.rglob("*") if vague.search(path.stem)] == []


def test_no_folder_shadows_airflow() -> None:
    assert [relative(path) for path in PACKAGE.rglob("airflow") if path.is_dir()] == []


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class RuntimeImports(ast.NodeVisitor):
    """Collects what a module imports of its own package, but not for type checkers only."""

    def __init__(self, known: set[str], in_functions: bool) -> None:
        self.known = known
        self.in_functions = in_functions
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if self.in_functions:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names} & self.known

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self.found |= {name if name in self.known else str(node.module)} & self.known


def import_graph() -> dict[str, set[str]]:
    known = {module_name(path) for path in MODULES}
    graph = {}
    for path in MODULES:
        # The retired SDK's objects lead to each other - a run to its experiment, that to its runs - so within sdk/ a
        # function may import what imports its module. Nowhere else.
        visitor = RuntimeImports(known, in_functions=MIRRORS not in path.parents)
        visitor.visit(ast.parse(path.read_text("utf-8")))
        graph[module_name(path)] = visitor.found - {module_name(path)}
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if cycle := visit(target, [*trail, module]):
                return cycle
        done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


def test_no_import_cycles() -> None:
    assert find_cycle(import_graph()) == []


def test_a_cycle_would_be_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def loaded_after(code: str) -> set[str]:
    """Runs `code` in a fresh interpreter and returns which of the heavy libraries it loaded."""
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import airflow_mlpipe") == set()


def test_using_every_public_name_loads_nothing_heavy() -> None:
    code = "import airflow_mlpipe\nfor name in airflow_mlpipe.__all__: getattr(airflow_mlpipe, name)"
    assert loaded_after(code) == set()


def test_public_names_are_sorted_and_pinned() -> None:
    import airflow_mlpipe

    names = list(airflow_mlpipe.__all__)
    assert names == sorted(set(names))
    assert names == PUBLIC_NAMES.read_text("utf-8").split(), (
        f"the public API changed: if that is meant, write the new names into {relative(PUBLIC_NAMES)}"
    )


def test_type_checkers_see_the_public_names() -> None:
    """The lazy table and its TYPE_CHECKING twin must not drift apart."""
    import airflow_mlpipe

    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    twin = {
        alias.asname or alias.name
        for block in tree.body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert set(airflow_mlpipe.__all__) - {"__version__"} <= twin


def project_texts() -> list[Path]:
    """Every file that git would carry: text only, nothing generated."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout: the list of the project's files is unknown")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
    found = [
        f"{relative(path)}:{number}"
        for path in project_texts()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


def test_no_file_names_a_package_index() -> None:
    """Where packages come from is the machine's setting: a host in a file would override it."""
    host = re.compile(r"https?://[^\s/]*(pypi|pythonhosted|npmjs|debian)", re.I)
    option = re.compile(r"--(extra-)?index-url|--find-links")
    found = [
        f"{relative(path)}:{number}"
        for path in project_texts()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if host.search(line) or (path.suffix != ".py" and option.search(line))
    ]
    assert found == []
