"""A step with odd text in every field that a user may write, and what has to become of it."""

from __future__ import annotations

from pathlib import Path

from compute_site import ComputeSite

from airflow_mlpipe.engine.room import Room
from airflow_mlpipe.model.data import DatastorePath, InputSpec, OutputSpec, RegisterSpec
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.storage.snapshot import store_snapshot, take_snapshot

ODD = '{{ 7*7 }}{% x %} $(id) $HOME $$(x) `id` it\'s "so" \\n %s * ;&|<> #é .env'
NAMES = ["{{ 7*7 }}", "$(id)", "$HOME", 'it\'s "so".sh', "x.env", "-rf", "a b", "ü;&|", "`id`", "$$", "%s", "*", "[1]"]
"""Of files, in the step's input and in its source."""

PLACE = "kept {{ x }} $(id)"
"""Folder in the datastore for published copies."""

_SCRIPT = "run {{ x }} $(id) 'a'.sh"
_TELL = r"""
out=$1; in=$2; shift 2
tell() { for f in * .[!.]*; do [ -f "$f" ] && printf '%s: %s\n' "$f" "$(cat "./$f")"; done; }
mkdir -p "$out/copied"
printf '%s\n' "$@" "$ODD" "$AML_PARAMETER_p" "$AML_PARAMETER_own" "$AZUREML_EXPERIMENT" > "$out/said"
(cd "$in" && tell) > "$out/read"
tell > "$out/code"
cp -r "$in/." "$out/copied"
"""


def telling(place: ComputeSite) -> StepSpec:
    """Return a step that writes down what it is given; it has the parameter ``p`` of its pipeline."""
    source, inside = place.files / f"source {place.kind}", f"data {{{{ x }}}} $(id)/{NAMES[3]}"
    for folder in (source, place.dir / "stores" / "store" / inside):
        folder.mkdir(parents=True)
        for name in NAMES:
            (folder / name).write_text(f"of {name}")
    (source / _SCRIPT).write_text(_TELL)
    snapshot = take_snapshot(source, script=None, index=None)
    store_snapshot(snapshot, Room(place.dir).documents)
    read = InputSpec(
        name="in",
        source=DatastorePath(datastore="store", path=inside),
        path_on_compute="wanted {{ x }} $(id)/it's.sh",
    )
    kept = OutputSpec(
        name="out",
        datastore="store",
        destination=f"{PLACE}/{{run-id}}/it's.sh",
        register_as=RegisterSpec(name=ODD, description=ODD, tags={ODD: ODD}),
    )
    ports = [Argument(kind="output", value="out"), Argument(kind="input", value="in")]
    said = [Argument(kind="parameter", value="p"), Argument(value=ODD)]
    return place.step("true").model_copy(
        update={
            "name": ODD,
            "shell": False,
            "version": ODD,
            "arguments": (Argument(value="sh"), Argument(value=_SCRIPT), *ports, *said),
            "parameters": {"own": Argument(value=ODD)},
            "inputs": (read,),
            "outputs": (kept,),
            "snapshot": snapshot.digest,
            "code": snapshot.code,
            "environment": EnvironmentSpec(name=ODD, variables={"ODD": ODD}),
        }
    )


def assert_told(made: Path) -> None:
    """Check what that step has made."""
    assert (made / "said").read_text() == f"{ODD}\n" * 6
    files = [f"{name}: of {name}" for name in NAMES]
    assert _lines(made / "read") == sorted(files)
    assert _lines(made / "code") == sorted([*files, *f"{_SCRIPT}: {_TELL}".rstrip().splitlines()])
    assert sorted(path.name for path in (made / "copied").iterdir()) == sorted(NAMES)


def _lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())
