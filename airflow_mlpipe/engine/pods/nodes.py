"""What the pods that are the nodes of one try leave, put together; and which of them it is that has failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_mlpipe.errors import MissingDataError, OutputMissingError
from airflow_mlpipe.execution.kept import Kept, keep_file
from airflow_mlpipe.execution.pod.order import PodAnswer
from airflow_mlpipe.model.result import FileRecord, OutputRecord, Written
from airflow_mlpipe.storage.datastore import check_files
from airflow_mlpipe.storage.documents import Documents
from airflow_mlpipe.storage.manifests import read_manifest
from airflow_mlpipe.storage.output_parts import joined, put_together, together

if TYPE_CHECKING:
    from airflow_mlpipe.engine.pods.follow import Followed
    from airflow_mlpipe.engine.pods.outcome import Tried


def to_blame(followed: Followed, answers: Sequence[PodAnswer]) -> int:
    """Return which node has failed first, as far as is known; 0 if none has.

    What happened to a pod, and is not its step's doing, comes first: the ranks of other nodes fail by it.
    """

    def order(node: int) -> tuple[int, float]:
        its, answer = followed.nodes[node], answers[node]
        view = its.view
        if its.error is not None:
            return 0, 0.0
        if its.vanished or view is None or view.lost is not None or view.base is None:
            return 1, 0.0
        ended = view.base.ended_at
        at_s = answer.failed_at_s or (float("inf") if ended is None else ended.timestamp())
        return (2 if view.base.reason == "OOMKilled" else 3), at_s

    failed = [node for node, its in enumerate(followed.nodes) if its.failed]
    return min(failed, key=order, default=0)


def kept_together(tried: Tried, answers: Sequence[PodAnswer]) -> Kept:
    """Return what all nodes have kept, with what each but the first has printed.

    A file of a name that an earlier node has as well is listed below a folder of its node.

    Raises:
        StorageError: if what they printed cannot be read or written.
    """
    first, *others = answers
    written, parent, files = [first.written], [first.parent_written], {each.name: each for each in first.written.files}
    for node, answer in enumerate(others, 1):
        files |= {each.name: each for each in (_renamed(each, node, files) for each in answer.written.files)}
        written.append(answer.written)
        parent.append(answer.parent_written)
    kept = Kept(
        written=_joined(written, files.values()),
        parent_written=_joined(parent, [each for part in parent for each in part.files]),
        observed=tuple(dict.fromkeys(each for answer in answers for each in answer.observed)),
        failure=next((answer.failure for answer in answers if answer.failure is not None), None),
        log="",
        warnings=tuple(dict.fromkeys(each for answer in answers for each in answer.warnings)),
        models=tuple(each for answer in answers for each in answer.models),
    )
    for each in tried.others:
        if each.job.stdout.stat().st_size:
            name = f"logs/node-{each.place.node}/stdout.txt"
            kept = keep_file(kept, name, each.job.stdout, tried.job, tried.site.default)
    return kept


def outputs_of(tried: Tried, answers: Sequence[PodAnswer]) -> tuple[OutputRecord, ...]:
    """Return the outputs of a step whose nodes have all succeeded.

    Raises:
        ExecutionError: if two nodes wrote different bytes to one path.
        OutputMissingError: if none has written an output.
        MlpipeError: whatever a node could not commit, or cannot be put together.
    """
    site, step = tried.site, tried.order.step
    if not tried.others:
        return answers[0].outputs
    stores = {port.name: check_files(site.store(port.datastore)) for port in step.outputs}
    parts = {
        port.name: {
            node: part for node, answer in enumerate(answers) for part in answer.outputs if part.name == port.name
        }
        for port in step.outputs
    }
    for port in step.outputs:
        if parts[port.name]:
            # First of all: an upload that another node has hindered says less.
            together(parts[port.name], stores[port.name], site.default)
    error = next((answer.error for answer in answers if answer.error is not None), None)
    if error is not None:
        raise error.error()
    for port in step.outputs:
        if not parts[port.name]:
            raise OutputMissingError(
                f"step '{step.name}' ended well but none of its {len(answers)} nodes wrote its output '{port.name}'"
            )
    run_id = tried.order.run.step_run_id
    return tuple(put_together(port, run_id, parts[port.name], stores[port.name], site.default) for port in step.outputs)


def check_references(answers: Sequence[PodAnswer], manifests: Documents) -> None:
    """Check that no node has written to a place of a datastore elsewhere to which another one has written differently.

    In a folder that all nodes mount they write at once, and the last one wins.

    Args:
        answers: of all nodes.
        manifests: the default datastore.

    Raises:
        ExecutionError: if two nodes wrote different bytes to one place.
        MissingDataError: if the list of what a node has written is gone.
    """
    for name in sorted({name for answer in answers for name in answer.places}):
        parts = {}
        for node, answer in enumerate(answers):
            if name in answer.places:
                manifest = read_manifest(answer.places[name], manifests)
                if manifest is None:
                    raise MissingDataError(
                        f"the list of what node {node} wrote to datastore '{name}' is gone; try again"
                    )
                parts[node] = manifest.entries
        joined(f"datastore '{name}', by a DataReference", parts)


def _renamed(file: FileRecord, node: int, there: Iterable[str]) -> FileRecord:
    if file.name not in there:
        return file
    top, _, rest = file.name.partition("/")
    return file.model_copy(update={"name": f"{top}/node-{node}/{rest}"})


def _joined(parts: Sequence[Written], files: Iterable[FileRecord]) -> Written:
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    for part in reversed(parts):
        # The first node says last what holds.
        tags |= part.tags
        properties |= part.properties
    return Written(
        metrics=tuple(metric for part in parts for metric in part.metrics),
        tags=tags,
        properties=properties,
        files=tuple(sorted(files, key=lambda file: file.name)),
    )
