"""A world for the planner: everything it may ask, held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from airflow_mlpipe.model.data import DatastorePath, InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.result import ObservedInput, OutputRecord, StepResult
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.reuse.plan import Planner, RunPlan, StepDecision

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def chain(length: int) -> PipelineSpec:
    """s0 reads data/in.txt; each next step reads the output of the one before."""
    steps = []
    for i in range(length):
        source = StepOutputRef(step=f"s{i - 1}", output="out") if i else DatastorePath(datastore="d", path="in.txt")
        steps.append(
            StepSpec(
                id=f"s{i}",
                name=f"s{i}",
                script="main.py",
                inputs=(InputSpec(name="in", source=source),),
                outputs=(OutputSpec(name="out", datastore="d"),),
                code=digest_bytes(b"code %d" % i),
            )
        )
    return PipelineSpec(name="chain", steps=tuple(steps))


def with_step(spec: PipelineSpec, step_id: str, **changes) -> PipelineSpec:
    """The pipeline with one step changed."""
    steps = tuple(step.model_copy(update=changes) if step.id == step_id else step for step in spec.steps)
    # Not a copy, which would take along what the spec has worked out.
    return PipelineSpec(**{name: getattr(spec, name) for name in PipelineSpec.model_fields} | {"steps": steps})


@dataclass
class World:
    """Facts for the planner, and a record of what it asked."""

    data: bytes = b"hello"
    results: list[StepResult] = field(default_factory=list)
    broken: dict[str, str | Exception] = field(default_factory=dict)
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)
    doubted: dict[str, str] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=lambda: {"python": "3.11"})
    clock: datetime = NOON
    home: str = "home"

    def environment(self, step):
        return self.packages

    def content(self, source):
        return digest_bytes(self.data)

    def problem(self, output: OutputRecord):
        self.looked.append(output.path)
        problem = self.broken.get(output.path)
        if isinstance(problem, Exception):
            raise problem
        return problem

    def resolve(self, observed: ObservedInput, by: str):
        return self.versions.get(observed.name, ("?", None))

    def candidates(self, derivations: Sequence[str]):
        self.queries.append("candidates")
        return {d: [r for r in self.newest_first() if r.derivation == d] for d in derivations}

    def by_fingerprint(self, fingerprint: str):
        self.queries.append("by_fingerprint")
        return [r for r in self.newest_first() if r.fingerprint == fingerprint]

    def latest(self, pipeline: str, step: str, limit: int):
        self.queries.append("latest")
        return [r for r in reversed(self.results) if (r.pipeline, r.step) == (pipeline, step)][:limit]

    def doubt(self, result: StepResult, reason: str):
        self.doubted[result.id] = reason

    def doubt_of(self, result: StepResult):
        return self.doubted.get(result.id)

    def trees(self, digest: str):
        return None

    def newest_first(self):
        return [r for r in reversed(self.results) if r.id not in self.doubted]

    def commit(
        self, spec: PipelineSpec, decision: StepDecision, content: bytes | None = None, run: str = "run", **fields
    ):
        """Store the result of running what `decision` describes; by default each step writes its own name."""
        step = spec.step_by_id[decision.step]
        number = len(self.results)
        outputs = tuple(
            OutputRecord(
                name=o.name, datastore="d", path=f"{step.id}-{number}", digest=digest_bytes(content or step.id.encode())
            )
            for o in step.outputs
        )
        self.clock += timedelta(seconds=41)
        result = StepResult(
            id=f"r{number}",
            fingerprint=decision.fingerprint, derivation=decision.derivation, components=decision.components,
            run_id=run, step_run_id=f"{run}-{step.id}", pipeline=spec.name, step=step.name, outputs=outputs,
            started_at=self.clock - timedelta(seconds=41), ended_at=self.clock, **fields,
        )  # fmt: skip
        self.results.append(result)
        return result

    def run(self, spec: PipelineSpec, run: str = "run", parameters: Mapping = {}, **planner) -> dict[str, str]:  # noqa: B006
        """Plan and execute a whole run as an engine does; return what happened to each step."""
        planner = Planner(spec, parameters, self, **planner)
        plan = planner.plan()
        results = {d.step: d.result for d in plan.decisions if d.result}
        happened = {d.step: d.decision for d in plan.decisions}
        for step in spec.steps:
            if step.id not in results:
                decision = planner.decide(step, results)
                results[step.id] = decision.result or self.commit(spec, decision, run=run)
                happened[step.id] = "late reuse" if decision.result else "run"
        return happened


def plan(world: World, spec: PipelineSpec, **options) -> RunPlan:
    """The plan of a run without parameters."""
    return Planner(spec, {}, world, **options).plan()
