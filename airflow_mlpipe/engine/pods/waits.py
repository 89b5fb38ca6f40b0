"""How long a pod may take for what: each wait has its bound, and says which one it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from airflow_mlpipe.engine.pods.spec import BASE
from airflow_mlpipe.engine.pods.view import Blocked, PodView, is_pulling
from airflow_mlpipe.errors import ConfigError, ExecutionError, MlpipeError
from airflow_mlpipe.model.compute import KubernetesSettings

Stage = Literal["startup", "staging", "run", "collecting"]

PULLS = 3
"""How often the pull of an image may fail before the step does, if the image may exist."""


@dataclass(slots=True)
class Waits:
    """Measures what a pod takes, by the clock of whoever looks at it.

    Attributes:
        target: name of the compute target.
        step: name of the step.
        settings: the bounds.
        timeout_s: how long the step itself may run, or None.
        spent_s: what each part has taken so far.
        timed_out: whether the step's own time is over.
    """

    target: str
    step: str
    settings: KubernetesSettings
    timeout_s: float | None
    spent_s: dict[Stage, float]
    timed_out: bool = False
    _at_s: float = 0.0
    _stage: Stage | None = None
    _pulls: int = 0
    _pull: str | None = None

    @classmethod
    def of(cls, target: str, step: str, settings: KubernetesSettings, timeout_s: float | None) -> Waits:
        """Begin to measure."""
        return cls(target, step, settings, timeout_s, {"startup": 0.0, "staging": 0.0, "run": 0.0, "collecting": 0.0})

    def add(self, spent_s: Mapping[str, float]) -> None:
        """Count what was spent before, as somebody else has measured it."""
        for stage in self.spent_s:
            self.spent_s[stage] = max(self.spent_s[stage], spent_s.get(stage, 0.0))

    def note(self, view: PodView, now_s: float) -> None:
        """Count the time since the last look at the pod; `now_s` is in seconds by any steady clock."""
        if self._stage is not None:
            self.spent_s[self._stage] += max(0.0, now_s - self._at_s)
        self._stage, self._at_s = stage_of(view), now_s

    def check(self, view: PodView, now_s: float) -> None:
        """Take note of a look at the pod as :meth:`note` does, and see to the bounds.

        Raises:
            ConfigError: if an image does not exist, or a container cannot be made as it is specified.
            ExecutionError: if a wait has taken too long; not for the step's own time, see `timed_out`.
        """
        self.note(view, now_s)
        stage = stage_of(view)
        if stage == "run":
            self.timed_out = self.timeout_s is not None and self.spent_s["run"] >= self.timeout_s
            return
        if stage == "startup" and view.blocked is not None:
            self._check_blocked(view.blocked)
        else:
            self._pull = None
        bound_s = self._bound_s(stage)
        if self.spent_s[stage] >= bound_s:
            raise ExecutionError(self._late(stage, view, bound_s))

    def _bound_s(self, stage: Stage) -> float:
        settings = self.settings
        if stage == "startup":
            return settings.startup_timeout_s
        return settings.staging_timeout_s if stage == "staging" else settings.collect_timeout_s

    def _late(self, stage: Stage, view: PodView, bound_s: float) -> str:
        what = {
            "startup": "was not started: no node was found, or images were not pulled,",
            "staging": "did not get its inputs",
            "collecting": "ended, but its outputs were not collected",
        }[stage]
        names = {"startup": "startup", "staging": "staging", "collecting": "collect"}
        setting = f"{names[stage]}_timeout_s of compute target '{self.target}'"
        text = f"step '{self.step}' {what} within {bound_s:g} s; see {setting}"
        if view.blocked is not None:
            return f"{text}: image '{view.blocked.image}' ({view.blocked.reason}): {_line(view.blocked.message)}"
        return f"{text}: {view.unscheduled}" if view.unscheduled else text

    def _check_blocked(self, blocked: Blocked) -> None:
        if not blocked.is_final and is_pulling(blocked):
            # Each failed pull counts once, however often it is looked at; the pause after it may be all that is seen.
            self._pulls += self._pull is None or (blocked.reason == "ErrImagePull" and self._pull != blocked.reason)
            self._pull = blocked.reason
            if self._pulls < PULLS:
                return
        raise self._error(blocked)

    def _error(self, blocked: Blocked) -> MlpipeError:
        where = f"step '{self.step}' on compute target '{self.target}'"
        what = _line(blocked.message)
        if is_pulling(blocked) or blocked.reason in ("ErrImageNeverPull", "InvalidImageName"):
            whose = "image" if blocked.container == BASE else "helper_image"
            text = f"{where}: {whose} '{blocked.image}' cannot be pulled ({blocked.reason}): {what}"
            if not blocked.is_final:
                return ExecutionError(text)
            secrets = ", ".join(self.settings.image_pull_secrets) or "none"
            return ConfigError(f"{text}; correct its name, or the target's image_pull_secrets ({secrets})")
        return ConfigError(f"{where}: container '{blocked.container}' cannot be made ({blocked.reason}): {what}")


def stage_of(view: PodView) -> Stage:
    """Return which part of its way a pod is on."""
    if view.base is not None:
        return "collecting"
    if view.running:
        return "run"
    return "staging" if view.staging else "startup"


def _line(text: str) -> str:
    return " ".join(text.split())
