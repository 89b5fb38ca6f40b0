"""Whether to run: one decision for every step of a run, made for the whole graph at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.errors import ServiceError, StorageError
from airflow_mlpipe.model.data import DatasetSpec, DatastorePath, InputSpec, StepOutputRef
from airflow_mlpipe.model.digest import Digest, JsonValue
from airflow_mlpipe.model.graph import consumers, producers
from airflow_mlpipe.model.result import ObservedInput, OutputRecord, StepResult, TreeManifest
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.reuse.explain import age_text, changed_files, differences, duration_text, nearest
from airflow_mlpipe.reuse.fingerprint import Identity, derived, identify

NEAREST = 8
"""How many of a step's latest results are compared to find the one a reason is told against."""

UNRESOLVED = "?"
"""The version of a looked-up object that does not exist any more."""


class Facts(Protocol):
    """What the planner asks of the world. Each answer is taken as true for the whole plan.

    Attributes:
        home: name of the default datastore, without which nothing can be computed either.
    """

    home: str

    def environment(self, step: StepSpec) -> Mapping[str, JsonValue]:
        """Return the identity of the software `step` runs on, by name."""

    def content(self, source: DatasetSpec | DatastorePath) -> Digest:
        """Return the content digest of a leaf input.

        Raises:
            MissingDataError: if a dataset's source does not exist.
        """

    def problem(self, output: OutputRecord) -> str | None:
        """Return why the bytes of `output` cannot be taken, or None if they are as recorded.

        Raises:
            StorageError: if that cannot be told now.
            ServiceError: if its datastore cannot be reached or refuses.
        """

    def resolve(self, observed: ObservedInput, by: str) -> tuple[str, Digest | None]:
        """Return the version and digest that a name looked up inside a step has today; None if there is nothing.

        Args:
            observed: the lookup.
            by: the step run that made it. Versions that it has registered itself afterwards do not count: they are
                what it made of what it found.
        """

    def candidates(self, derivations: Sequence[Digest]) -> Mapping[Digest, Sequence[StepResult]]:
        """Return, in one query, results by derivation key, newest first."""

    def by_fingerprint(self, fingerprint: Digest) -> Sequence[StepResult]:
        """Return the results of a key, newest first."""

    def latest(self, pipeline: str, step: str, limit: int) -> Sequence[StepResult]:
        """Return the latest results of a step, newest first, whatever their key."""

    def doubt(self, result: StepResult, reason: str) -> None:
        """Note that `result` cannot be taken, so that it is not offered again."""

    def doubt_of(self, result: StepResult) -> str | None:
        """Return what :meth:`doubt` noted of `result`, or None."""

    def trees(self, digest: Digest) -> TreeManifest | None:
        """Return the manifest of a tree, or None if it is not kept."""


@dataclass(frozen=True, slots=True)
class StepDecision:
    """What the plan says of one step.

    Attributes:
        step: id of the step.
        decision: ``reuse``, ``run``, or ``later`` where an input is not known yet.
        reason: why, for people.
        details: for ``run``: every difference to the nearest earlier result, the reason's own included.
        fingerprint: the key, where all inputs are known.
        derivation: the key that fetches candidates.
        components: the named parts of the key, where all inputs are known.
        result: the result to take, for ``reuse``.
    """

    step: str
    decision: Literal["reuse", "run", "later"]
    reason: str
    details: tuple[str, ...] = ()
    fingerprint: Digest | None = None
    derivation: Digest | None = None
    components: Mapping[str, JsonValue] | None = None
    result: StepResult | None = None


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The decisions of one run, in the order of the spec's steps."""

    decisions: tuple[StepDecision, ...]

    @property
    def all_reused(self) -> bool:
        """Whether nothing has to be computed."""
        return all(decision.decision == "reuse" for decision in self.decisions)

    @property
    def saved_s(self) -> float:
        """Seconds the reused steps took when they were computed."""
        return sum(decision.result.duration_s for decision in self.decisions if decision.result is not None)


class Planner:
    """Decides for one run of one pipeline; keeps what it learned for later questions of the same run."""

    def __init__(
        self,
        spec: PipelineSpec,
        parameters: Mapping[str, JsonValue],
        facts: Facts,
        *,
        regenerate: bool = False,
        derivations: Mapping[str, Digest] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Prepare to plan.

        Args:
            spec: the pipeline.
            parameters: bound values of all its parameters; datasets among them are looked up.
            facts: what is true of the world.
            regenerate: v1's ``regenerate_outputs``: nothing is reused.
            derivations: by step id, what an earlier plan of the same run found; spares deriving them again.
            now: the clock that ages of results are taken by, aware UTC.
        """
        self._spec = spec.with_data(parameters)
        self._parameters = parameters
        self._facts = facts
        self._regenerate = regenerate
        self._now = now
        self._identities: dict[str, Identity] = {}
        self._derivations: dict[str, Digest] = dict(derivations or {})
        self._leaves: dict[DatastorePath | str, Digest] = {}
        # Why outputs there cannot be looked at, by datastore: each question may take its whole patience.
        self._away: dict[str, str] = {}
        self._prefetched: Mapping[Digest, Sequence[StepResult]] = {}
        self._consumers: dict[str, list[str]] | None = None

    def plan(self) -> RunPlan:
        """Decide for every step. An unchanged graph of any depth costs one query.

        Raises:
            MissingDataError: if a dataset that a step reads does not exist.
        """
        self._look_anew()
        steps = self._spec.steps
        wanted = [self._derivation(step) for step in steps if step.allow_reuse and not self._regenerate]
        self._prefetched = self._facts.candidates(wanted) if wanted else {}
        results: dict[str, StepResult] = {}
        decisions = []
        for step in steps:
            decision = self._decide(step, results)
            if decision.result is not None:
                results[step.id] = decision.result
            decisions.append(decision)
        return RunPlan(tuple(decisions))

    def advance(self, done: str, results: Mapping[str, StepResult], open_steps: Iterable[str]) -> list[StepDecision]:
        """Decide again behind a step that has just ended: which steps need not run after all.

        Args:
            done: the step that ended with a result.
            results: the results of this run so far, `done`'s included.
            open_steps: ids of the steps that have not started.

        Returns:
            The new decisions, hits and misses, of the steps whose inputs are all known now.
        """
        if self._consumers is None:
            self._consumers = consumers(self._spec.steps)
        self._look_anew()
        known, waiting = dict(results), set(open_steps)
        decisions: list[StepDecision] = []
        queue = deque([done])
        while queue:
            for step_id in self._consumers[queue.popleft()]:
                step = self._spec.step_by_id[step_id]
                if step_id not in waiting or any(parent not in known for parent in producers(step)):
                    continue
                waiting.discard(step_id)
                decision = self._decide(step, known)
                decisions.append(decision)
                if decision.result is not None:
                    known[step_id] = decision.result
                    queue.append(step_id)
        return decisions

    def decide(self, step: StepSpec, results: Mapping[str, StepResult]) -> StepDecision:
        """Decide for one step that is about to start, given the results of the steps above it.

        Data is looked at anew: hours may have passed since the plan.
        """
        self._look_anew()
        return self._decide(step, results)

    def _look_anew(self) -> None:
        self._leaves.clear()
        self._away.clear()

    def forget_results(self) -> None:
        """Ask anew for results: one that was found is not offered any more."""
        self._prefetched = {}

    def _decide(self, step: StepSpec, results: Mapping[str, StepResult]) -> StepDecision:
        open_producers = [parent for parent in producers(step) if parent not in results]
        derivation = self._derivation(step)
        if open_producers:
            names = ", ".join(f"'{self._spec.step_by_id[parent].name}'" for parent in open_producers)
            verb = "has" if len(open_producers) == 1 else "have"
            return StepDecision(step.id, "later", f"decided when {names} {verb} ended", derivation=derivation)
        inputs = {port.name: self._content(port, results) for port in step.inputs}
        identity = self._identity(step)
        key = identity.key(inputs)
        components = identity.with_inputs(step, inputs)

        def run(reason: str, details: Sequence[str] = ()) -> StepDecision:
            return StepDecision(step.id, "run", reason, tuple(details), key, derivation, components)

        if self._regenerate:
            return run("regenerate_outputs is on")
        if not step.allow_reuse:
            return run("allow_reuse is off")
        result, refusal = self._hit(step, key, derivation)
        if result is not None:
            reason = f"reused from {result.run_id}, saved {duration_text(result.duration_s)}"
            return StepDecision(step.id, "reuse", reason, (), key, derivation, components, result)
        if refusal is not None:
            return run(refusal)
        return run(*self._difference(step, components))

    def _hit(self, step: StepSpec, key: Digest, derivation: Digest) -> tuple[StepResult | None, str | None]:
        """Return the newest result of `key` that can be taken, or else why the ones there are cannot."""
        refusal: str | None = None
        prefetched = [result for result in self._prefetched.get(derivation, ()) if result.fingerprint == key]
        for result in prefetched:
            refusal = self._refusal(step, result)
            if refusal is None:
                return result, None
        # Only now: a hit among the prefetched ones, the usual case, costs no query of its own.
        for result in self._facts.by_fingerprint(key):
            problem = self._refusal(step, result)
            if problem is None:
                return result, None
            refusal = refusal or problem
        return None, refusal

    def _refusal(self, step: StepSpec, result: StepResult) -> str | None:
        too_old = self._too_old(step, result)
        if too_old is not None:
            return too_old
        for output in result.outputs:
            if output.datastore in self._away:
                return self._away[output.datastore]
            try:
                problem = self._facts.problem(output)
            except (StorageError, ServiceError) as error:
                if output.datastore == self._facts.home:
                    raise
                # It may be whole: this run computes anew, and the next one asks again.
                self._away[output.datastore] = f"its output '{output.name}' cannot be looked at: {error.message}"
                return self._away[output.datastore]
            if problem is not None:
                self._facts.doubt(result, problem)
                return problem
        for seen in result.observed:
            version, digest = self._facts.resolve(seen, result.step_run_id)
            if digest != seen.digest:
                return f"{seen.kind} {seen.name}{self._change(seen, version, digest)}, read inside the step"
        return None

    def _too_old(self, step: StepSpec, result: StepResult) -> str | None:
        # Without a limit the clock is not asked. A result from the future, of a clock that is wrong, is not old.
        if step.max_result_age_s is None:
            return None
        age_s = (self._now() - result.ended_at).total_seconds()
        if age_s <= step.max_result_age_s:
            return None
        age, allowed = age_text(age_s), age_text(step.max_result_age_s)
        over = "more than " if age == allowed else ""
        return f"result of {result.run_id} is {over}{age} old, at most {allowed} is allowed"

    def _change(self, seen: ObservedInput, version: str, digest: Digest | None) -> str:
        if version == UNRESOLVED:
            return f": v{seen.resolved} is gone"
        if seen.digest is None:
            return f": none -> v{version}"
        if version != seen.resolved:
            return f": v{seen.resolved} -> v{version}"
        return f" v{version}: {changed_files(digest, seen.digest, self._facts.trees) or 'its content changed'}"

    def _difference(self, step: StepSpec, components: Mapping[str, JsonValue]) -> tuple[str, list[str]]:
        closest = nearest(components, self._facts.latest(self._spec.name, step.name, NEAREST))
        if closest is None:
            return "no earlier result of this step", []
        lines = differences(components, closest.components, self._facts.trees)
        if not lines:
            # An earlier plan of this run, or another run, has found out.
            return self._facts.doubt_of(closest) or "its earlier result is not usable any more", []
        return lines[0], lines

    def _identity(self, step: StepSpec) -> Identity:
        if step.id not in self._identities:
            self._identities[step.id] = identify(step, self._parameters, self._facts.environment(step))
        return self._identities[step.id]

    def _derivation(self, step: StepSpec) -> Digest:
        if step.id not in self._derivations:
            # Producers come first in the spec, so theirs is there when a consumer's turn comes.
            for each in self._spec.steps:
                inputs = {port.name: self._origin(port) for port in each.inputs}
                self._derivations[each.id] = self._identity(each).derivation(inputs)
        return self._derivations[step.id]

    def _origin(self, port: InputSpec) -> Digest:
        source = port.bound
        if isinstance(source, StepOutputRef):
            return derived(self._derivations[source.step], source.output)
        return self._leaf(source)

    def _content(self, port: InputSpec, results: Mapping[str, StepResult]) -> Digest:
        source = port.bound
        if isinstance(source, StepOutputRef):
            return output_of(results[source.step], source.output).digest
        return self._leaf(source)

    def _leaf(self, source: DatasetSpec | DatastorePath) -> Digest:
        memo = source if isinstance(source, DatastorePath) else source.model_dump_json()
        if memo not in self._leaves:
            self._leaves[memo] = self._facts.content(source)
        return self._leaves[memo]


def output_of(result: StepResult, name: str) -> OutputRecord:
    """Return the output `name` of `result`.

    Raises:
        KeyError: if it has none of that name; a result without a declared output is never committed.
    """
    for output in result.outputs:
        if output.name == name:
            return output
    raise KeyError(name)
