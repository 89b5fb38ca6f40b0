"""Before the step: its code and inputs are laid out at the places that were decided for them."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_mlpipe.errors import StorageError
from airflow_mlpipe.execution.contract import StepJob
from airflow_mlpipe.execution.lent import lend
from airflow_mlpipe.execution.pod.nodes import places_of_parts
from airflow_mlpipe.execution.pod.order import PodOrder
from airflow_mlpipe.execution.pod.places import wanted_elsewhere
from airflow_mlpipe.execution.pod.stores import PodStores
from airflow_mlpipe.execution.references import RemoteReference
from airflow_mlpipe.execution.software import IMAGE
from airflow_mlpipe.execution.stage import stage
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.storage.atomic import system_errors
from airflow_mlpipe.storage.datastore import check_files

_STAGED = "staged.json"


def stage_order(order: PodOrder, stores: PodStores, node: int = 0) -> None:
    """Lay out what a step needs, for a process of any user of the pod.

    Args:
        order: what the pod is to do.
        stores: opens datastores.
        node: which of the order's nodes the pod is.

    Raises:
        MissingDataError: if the snapshot or an input is not there.
        StorageError: if something cannot be read or written, or an input is not what it was when its place was decided.
        MlpipeError: see :func:`~airflow_mlpipe.execution.stage.stage`.
    """
    job = stage(
        _without_elsewhere(order.step),
        order.run.identity(),
        order.staged,
        store=stores,
        default=stores.documents,
        work=Path(order.work),
        software=IMAGE,
        streamed=False,
        linked=False,
        # Of several nodes none may remove what another one has laid.
        again=order.nodes > 1,
    )
    _check_places(order, job)
    if order.nodes > 1:
        for port in order.step.outputs:
            place = places_of_parts(order, stores, node)[port.name]
            with system_errors("write", place):
                (place if port.kind == "dataset" else place.parent).mkdir(parents=True, exist_ok=True)
    with system_errors("write", job.context_file):
        job.context_file.write_text(order.context.model_dump_json(), encoding="utf-8")
    lend(job, stores.credentials, order.lent)
    _open_up(job)
    references = [
        {
            "port": each.port,
            "path": str(each.path),
            "before": {name: list(state) for name, state in each.before.items()},
        }
        for each in job.references
    ]
    own = Path(order.own) / _STAGED
    with system_errors("write", own):
        own.write_text(json.dumps(references), encoding="utf-8")


def is_staged(own: Path) -> bool:
    """Whether staging has ended well, in a pod whose own folder is `own`."""
    return (own / _STAGED).exists()


def references_of(order: PodOrder, stores: PodStores) -> list[RemoteReference]:
    """Return the DataReferences that staging has laid out."""
    found = []
    for known in json.loads((Path(order.own) / _STAGED).read_bytes()):
        source = next(port.source for port in order.step.inputs if port.name == known["port"])
        store = check_files(stores(source.datastore))  # type: ignore[union-attr]
        before = {name: tuple(state) for name, state in known["before"].items()}
        found.append(RemoteReference(known["port"], source, store, Path(known["path"]), before))  # type: ignore[arg-type]
    return found


def _without_elsewhere(step: StepSpec) -> StepSpec:
    """Return the step without the places that only the pod's specification can make."""
    inputs = tuple(
        port if wanted_elsewhere(port) is None else port.model_copy(update={"path_on_compute": None})
        for port in step.inputs
    )
    return step.model_copy(update={"inputs": inputs})


def _check_places(order: PodOrder, job: StepJob) -> None:
    for port in order.step.inputs:
        decided, laid = order.context.inputs[port.name].path, job.context.inputs[port.name].path
        if decided != laid and wanted_elsewhere(port) is None:
            raise StorageError(
                f"input '{port.name}' has changed since its place was decided: it lies at '{laid}', not '{decided}'; "
                "try again"
            )


def _open_up(job: StepJob) -> None:
    """Let the step's container read and write the folder of the try, whichever user it runs as."""
    with system_errors("open up", job.work):
        for path in (job.work, *job.work.rglob("*")):
            if path.is_symlink():
                continue
            mode = path.stat().st_mode
            if path.is_dir():
                path.chmod(mode | 0o777)
            else:
                # A copy that stands for the data itself stays read-only.
                path.chmod(mode | (0o666 if mode & 0o200 else 0o444) | (0o111 if mode & 0o100 else 0))
