"""From a pipeline as it was written to its spec. What can be wrong is found here, before anything is stored."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow_mlpipe.errors import ConfigError, ParameterError, PipelineError, UsageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, OutputSpec, ParameterRef, StepOutputRef
from airflow_mlpipe.model.digest import Digest, digest_json
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.parameter import ParameterSpec
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk.binding import Binding, Produced
from airflow_mlpipe.sdk.distributed import distribution_of, slots_of
from airflow_mlpipe.sdk.graph import Draft, draft_of
from airflow_mlpipe.sdk.operator_step import OperatorStep
from airflow_mlpipe.sdk.parameter import PipelineParameter
from airflow_mlpipe.sdk.places import Places
from airflow_mlpipe.sdk.port_types import check_views
from airflow_mlpipe.sdk.ports import Ports
from airflow_mlpipe.sdk.steps import PipelineStep

if TYPE_CHECKING:
    from airflow_mlpipe.model.result import TreeManifest
    from airflow_mlpipe.sdk.pipeline import Pipeline
    from airflow_mlpipe.storage.snapshot import Snapshot, SourceScan

T = TypeVar("T")
R = TypeVar("R")

MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class CompiledPipeline:
    """A pipeline that is ready to be planned.

    Attributes:
        spec: its wire form.
        snapshots: what has to be stored before it can run, each distinct one once. The key is the snapshot's digest,
            or for a second one with the same files but other ``hash_paths`` a digest of both.
    """

    spec: PipelineSpec
    snapshots: dict[Digest, Snapshot]

    def code_files(self, digest: Digest) -> TreeManifest | None:
        """Return the files of the snapshot, or of its part that decides about reuse, with that digest; or None.

        Raises:
            StorageError: if the source directory cannot be read.
        """
        for snapshot in self.snapshots.values():
            if digest in (snapshot.digest, snapshot.code):
                return snapshot.files_of(digest)
        return None


class Problems(Exception):
    """Everything that is wrong with the steps of a pipeline."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        """Hold the errors, in the order of the steps."""
        self.errors = list(errors)
        super().__init__(errors)


def compile_pipeline(pipeline: Pipeline, *, beside_file: bool = False) -> CompiledPipeline:
    """Return the spec of `pipeline`. Equal pipelines give equal specs, wherever they lie. Stores nothing.

    Args:
        pipeline: the pipeline.
        beside_file: whether source directories are relative to the file that it is written in, whatever the working
            directory.

    Raises:
        UsageError: the first thing that is wrong.
    """
    try:
        return _compile(pipeline, beside_file=beside_file)
    except Problems as problems:
        raise problems.errors[0] from None


def problems_of(pipeline: Pipeline) -> list[str]:
    """Return what is wrong with `pipeline`, one line each; empty if nothing is."""
    try:
        _compile(pipeline)
    except Problems as problems:
        return [error.message for error in problems.errors]
    except UsageError as error:
        return [error.message]
    return []


def _compile(pipeline: Pipeline, *, beside_file: bool = False) -> CompiledPipeline:
    draft = draft_of(pipeline)
    parameters = parameters_of(draft)
    check_views(draft)
    places = Places(pipeline)
    code = _Code(pipeline, beside_file=beside_file)
    steps = _each(draft.order, lambda step: _step(draft, step, places, code))
    spec = PipelineSpec(
        name=pipeline_name(pipeline, [step.name for step in steps]),
        description=pipeline.description or "",
        steps=tuple(steps),
        parameters=parameters,
        schedule=pipeline.schedule,
    )
    # Text that cannot be written down is refused before the spec is planned; the spec keeps its digest for a submit.
    _ = spec.digest
    return CompiledPipeline(spec, code.snapshots)


def _each(items: Iterable[T], make: Callable[[T], R]) -> list[R]:
    """Return `make` of every item, or raise everything that went wrong."""
    made, errors = [], []
    for item in items:
        try:
            made.append(make(item))
        except UsageError as error:
            errors.append(error)
    if errors:
        raise Problems(errors)
    return made


def pipeline_name(pipeline: Pipeline, steps: Sequence[str]) -> str:
    """Return the name of the pipeline's DAG: the given one, that of file and variable, or one made of its steps."""
    name = pipeline.name or pipeline.written_as() or f"pipeline-{digest_json('names', list(steps))[3:15]}"
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:MAX_NAME].strip("_") or "pipeline"


def parameters_of(draft: Draft) -> tuple[ParameterSpec, ...]:
    """Return the parameters that the steps of a pipeline use.

    Raises:
        PipelineError: if two of one name have different defaults.
    """
    found: dict[str, ParameterSpec] = {}
    for step in draft.order:
        held: list[PipelineParameter] = [*draft.ports[step].parameters]
        held += [value for value in step.runconfig_pipeline_params.values() if isinstance(value, PipelineParameter)]
        if step.runconfig is not None:
            held += step.runconfig.parameters()
        for parameter in held:
            known = found.setdefault(parameter.name, parameter.spec)
            # The type counts: 1, 1.0 and True are equal in Python.
            if (known, known.type) != (parameter.spec, parameter.spec.type):
                raise PipelineError(
                    f"Pipeline parameters with same name {parameter.name} but different default values: "
                    f"{known.default!r} and {parameter.default_value!r}"
                )
    return tuple(found.values())


def _step(draft: Draft, step: PipelineStep, places: Places, code: _Code) -> StepSpec:
    ports = draft.ports[step]
    operator = step.operator_call(ports.arguments, ports.outputs) if isinstance(step, OperatorStep) else None
    # An operator needs no code of the user's.
    snapshot, script = (None, None) if operator is not None and step.source_directory is None else code.of(step)
    environment = _environment(step, places)
    compute = _compute(step, places)
    distribution = distribution_of(step, places)
    return StepSpec(
        id=draft.ids[step],
        name=step.name,
        kind=step.kind,
        script=script,
        arguments=() if operator else ports.arguments,
        shell=step.shell,
        operator=operator,
        parameters=ports.params,
        inputs=tuple(_input(draft, step, name, binding, places) for name, binding in ports.inputs.items()),
        outputs=_outputs(step, ports, places),
        snapshot=None if snapshot is None else snapshot.digest,
        code=None if snapshot is None else snapshot.code,
        environment=environment,
        compute=compute,
        distribution=distribution,
        resources=places.resources(step, environment, compute),
        allow_reuse=step.allow_reuse,
        version=step.version,
        after=tuple(draft.ids[other] for other in draft.after[step]),
        retries=step.retries,
        retry_delay_s=step.retry_delay_s,
        timeout_s=step.timeout_s,
        max_result_age_s=step.max_result_age_s,
        airflow={**slots_of(step, distribution, places), **step.airflow},
    )


def _compute(step: PipelineStep, places: Places) -> str | None:
    name = places.compute(step)
    if name is not None and "pool" in step.airflow and places.limit(name) is not None:
        raise PipelineError(
            f"step '{step.name}': airflow has the pool '{step.airflow['pool']}', and compute target '{name}' is a pool "
            f"of its own (max_nodes={places.limit(name)}): a task has one pool; leave one of them out"
        )
    return name


def _input(draft: Draft, step: PipelineStep, name: str, binding: Binding, places: Places) -> InputSpec:
    read = binding.source
    source: StepOutputRef | DatasetSpec | DatastorePath | ParameterRef
    if isinstance(read, Produced):
        producer = draft.producers[read]
        source = StepOutputRef(step=draft.ids[producer], output=draft.ports[producer].outputs[read])
    else:
        source = read
    for store in binding.stores:
        places.check(store, step)
    return InputSpec(
        name=name,
        source=source,
        mode=binding.mode,
        path_on_compute=binding.path_on_compute,
        as_dataset=binding.as_dataset,
        label=binding.label,
        dataset_id=binding.dataset_id,
        view=binding.view,
    )


def _outputs(step: PipelineStep, ports: Ports, places: Places) -> tuple[OutputSpec, ...]:
    for data, name in ports.outputs.items():
        if data.destination is not None:
            _check_destination(step, name, data.destination, places.datastore(data, step))
    return tuple(
        OutputSpec(
            name=name,
            kind="dataset" if data.kind == "dataset" else "data",
            datastore=places.datastore(data, step),
            destination=data.destination,
            register_as=places.registration(data, step),
            pipeline_output_name=data.pipeline_output_name,
        )
        for data, name in ports.outputs.items()
    )


def _check_destination(step: PipelineStep, output: str, destination: str, datastore: str) -> None:
    from airflow_mlpipe.storage.published import check_destination

    try:
        check_destination(output, destination, datastore)
    except ParameterError as error:
        raise PipelineError(f"step '{step.name}': {error.message}") from None


def _environment(step: PipelineStep, places: Places) -> EnvironmentSpec:
    if step.runconfig is None:
        return EnvironmentSpec()
    environment = step.runconfig.environment
    held = [*step.runconfig.parameters(), *step.runconfig_pipeline_params.values()]
    if environment.by_reference and any(isinstance(value, PipelineParameter) for value in held):
        raise PipelineError(
            f"step '{step.name}': environment '{environment.name}' is given by name and version, which does not go "
            "together with a PipelineParameter in the run configuration; assign the object: "
            f"runconfig.environment = Environment.get(ws, '{environment.name}', '{environment.version}')"
        )
    try:
        return step.runconfig.with_docker(places.environment(environment))
    except (ConfigError, ParameterError) as error:
        raise type(error)(f"step '{step.name}': {error.message}") from None


class _Code:
    """Takes the snapshots of a pipeline's steps: each folder is read once."""

    def __init__(self, pipeline: Pipeline, *, beside_file: bool) -> None:
        from airflow_mlpipe.storage.snapshot import SnapshotLimits

        self._pipeline = pipeline
        self._beside_file = beside_file
        self._limits = SnapshotLimits.of(pipeline.workspace.settings, os.environ)
        self._scans: dict[Path, SourceScan] = {}
        self._taken: dict[tuple[str | None, str | None, tuple[str, ...]], tuple[Snapshot, str | None]] = {}
        self.snapshots: dict[Digest, Snapshot] = {}

    def of(self, step: PipelineStep) -> tuple[Snapshot, str | None]:
        """Return the snapshot of a step, and its script as a path inside of it.

        Raises:
            PipelineError: if folder or script is missing or hidden, or the folder is too large.
        """
        key = (step.source_directory, step.script, step.hash_paths)
        if key not in self._taken:
            try:
                self._taken[key] = self._take(step)
            except PipelineError as error:
                raise PipelineError(f"step '{step.name}': {error.message}") from None
        return self._taken[key]

    def _take(self, step: PipelineStep) -> tuple[Snapshot, str | None]:
        from airflow_mlpipe.storage.snapshot import relative_path, take_snapshot

        source = self._source(step)
        script = None if step.script is None else relative_path(source, step.script, "script")
        snapshot = take_snapshot(
            source,
            script=script,
            hash_paths=step.hash_paths,
            index=self._pipeline.workspace.index,
            limits=self._limits,
            scans=self._scans,
        )
        known = self.snapshots.setdefault(snapshot.digest, snapshot)
        if known.code != snapshot.code:
            self.snapshots[digest_json("snapshot", [snapshot.digest, snapshot.code])] = snapshot
        return snapshot, script

    def _source(self, step: PipelineStep) -> Path:
        # Texts, not paths: a pipeline may have a thousand folders, and each path costs as much as looking for it.
        folder = posixpath.expanduser(step.source_directory or self._pipeline.default_source_directory or ".")
        beside = self._pipeline.source_file
        # v1 means the working directory; a file that is run from elsewhere mostly means its own folder.
        if beside and not posixpath.isabs(folder) and (self._beside_file or not posixpath.exists(folder)):
            near = posixpath.join(posixpath.dirname(beside), folder)
            folder = near if self._beside_file or posixpath.exists(near) else folder
        return Path(posixpath.abspath(folder))
