"""``environments list``, ``build`` and ``gc``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.housekeeping import duration, size_text
from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.cli.records import here
from airflow_mlpipe.cli.tables import Column, table

if TYPE_CHECKING:
    from airflow_mlpipe.execution.venv_garbage import BuiltEnvironment

_COLUMNS = (
    *(Column("USED"), Column("SIZE", right=True), Column("PYTHON"), Column("PACKAGES", right=True)),
    *(Column("NAME", widest=20), Column("FOLDER")),
)


def show(curated: bool) -> int:
    """List registered environments, and what is built."""
    from airflow_mlpipe.sdk.curated import curated_names, curated_packages
    from airflow_mlpipe.sdk.environment import Environment
    from airflow_mlpipe.sdk.environment_build import built_environments

    workspace = here()
    rows = workspace.catalog.list_environments()
    registered = [(row.name, row.version, _asked(Environment.get(workspace, row.name))) for row in rows]
    kept = [(name, "", " ".join(curated_packages(name) or ())) for name in curated_names()] if curated else []
    if registered or kept:
        columns = (Column("NAME", widest=48), Column("VERSION"), Column("ASKS FOR", widest=60))
        OUT.say(table(columns, [*registered, *kept]))
    else:
        OUT.say("no environments are registered in this workspace; --curated lists those of v1's names")
    built = built_environments(workspace)
    if built:
        OUT.say(f"\nbuilt in {built[0].folder.parent}:")
        OUT.say(table(_COLUMNS, [_row(each) for each in built]))
    OUT.answer(
        {
            "registered": [{"name": n, "version": v, "asks_for": asked} for n, v, asked in registered],
            "built": [_json(each) for each in built],
        }
    )
    return 0


def build(name: str, version: str) -> int:
    """Choose the packages of a registered or curated environment anew, and build it."""
    from airflow_mlpipe.sdk.environment import Environment

    workspace = here()
    done = Environment.get(workspace, name, version or None).build(workspace).wait_for_completion(show_output=False)
    OUT.say(done.log.rstrip("\n"))
    lock = done.lock
    OUT.answer({"name": name, "lock": None if lock is None else lock.model_dump(mode="json")})
    return 0


def collect(delete: bool, unused_for: str) -> int:
    """Tell which built environments nobody uses any more, or remove them."""
    from airflow_mlpipe.sdk.environment_build import collect_environments

    found, kept = collect_environments(here(), duration(unused_for, "--unused-for"), delete=delete)
    if found:
        OUT.say(table(_COLUMNS, [_row(each) for each in found]))
    hint = "" if delete or not found else "; 'mlpipe environments gc --delete' does it"
    size = size_text(sum(each.size_bytes for each in found))
    OUT.say(f"{len(found)} built environments, {size}, {'removed' if delete else 'to be removed'}{hint}")
    if kept:
        running = sum(each.in_use for each in kept)
        OUT.say(
            f"kept: {len(kept)} used within {unused_for}" + (f", {running} of them by running steps" if running else "")
        )
    OUT.answer({"deleted": delete, "found": [_json(each) for each in found], "kept": [_json(each) for each in kept]})
    return 0


def _asked(environment: Any) -> str:
    spec = environment.to_spec()
    return " ".join(
        (*([f"python={spec.python_version}"] if spec.python_version else []), *spec.conda_packages, *spec.pip_packages)
    )


def _row(each: BuiltEnvironment) -> tuple[str, ...]:
    used = "now" if each.in_use else f"{each.used_at:%Y-%m-%d %H:%M}"
    name = each.name or "(an unfinished build)"
    return used, size_text(each.size_bytes), each.python, str(each.packages), name, each.folder.name


def _json(each: BuiltEnvironment) -> dict[str, Any]:
    return {**asdict(each), "folder": str(each.folder), "used_at": each.used_at.isoformat()}
