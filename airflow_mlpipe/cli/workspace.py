"""``init`` and ``demo``."""

from __future__ import annotations

from pathlib import Path

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.errors import NotSupportedError

DEMO = Path("examples", "digits", "demo.py")


def init(name: str, path: Path) -> int:
    """Make an embedded workspace, or say which one is there."""
    from airflow_mlpipe.sdk.workspace import Workspace

    config = path.resolve() / ".mlpipe" / "config.json"
    existed = config.is_file()
    if existed and not name:
        workspace = Workspace.from_config(config)
    else:
        workspace = Workspace.create(name or path.resolve().name or "workspace", path=path, exist_ok=existed)
    OUT.say(f"workspace '{workspace.name}' {'is already' if existed else 'made'} in {workspace.dir}")
    if not existed:
        OUT.say("next: write a pipeline and run it with 'mlpipe run FILE'")
    OUT.answer({"workspace": workspace.name, "path": str(workspace.dir), "created": not existed})
    return 0


def demo() -> int:
    """Run the example that lies beside the package in a source checkout."""
    import subprocess
    import sys

    script = Path(__file__).resolve().parents[2] / DEMO
    if not script.is_file():
        raise NotSupportedError(
            f"the demo is part of the source checkout ({DEMO}), not of the installed package; "
            "get the sources and run 'make demo' there"
        )
    done = subprocess.run([sys.executable, str(script)], stdout=sys.stderr if OUT.json else None, check=False)
    OUT.answer({"script": str(script), "exit_code": done.returncode})
    return min(abs(done.returncode), 1)
