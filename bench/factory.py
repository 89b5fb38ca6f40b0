"""Build the same graph of 100 tasks by the DAG factory and by hand from plain operators, in one process."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from airflow_mlpipe.engine.dag_factory import build_dag
from airflow_mlpipe.model.data import InputSpec, OutputSpec, StepOutputRef
from airflow_mlpipe.model.spec import PipelineSpec
from airflow_mlpipe.model.step import StepSpec

LENGTH = 100


def spec_json() -> str:
    steps = tuple(
        StepSpec(
            id=f"s{i}", name=f"s{i}", script="main.py", snapshot="b3:" + "0" * 64, code="b3:" + "0" * 64,
            inputs=(InputSpec(name="previous", source=StepOutputRef(step=f"s{i - 1}", output="out")),) if i else (),
            outputs=(OutputSpec(name="out", datastore="workspaceblobstore"),),
        )
        for i in range(LENGTH)
    )  # fmt: skip
    return PipelineSpec(name="chain", steps=steps).to_json()


def ours(text: str) -> DAG:
    return build_dag(PipelineSpec.from_json(text))


def plain(_text: str) -> DAG:
    """The same graph: one task above all others, and the chain."""
    with DAG("plain", schedule=None) as dag:
        above = previous = BashOperator(task_id="check", bash_command="true")
        for i in range(LENGTH):
            task = BashOperator(task_id=f"s{i}", bash_command="true", trigger_rule="none_failed_min_one_success")
            task.set_upstream([above] if previous is above else [above, previous])
            previous = task
    return dag


def microseconds_a_task(build: Callable[[str], DAG], text: str) -> float:
    started = time.perf_counter()
    build(text)
    return (time.perf_counter() - started) / (LENGTH + 1) * 1e6


def main() -> None:
    text = spec_json()
    ours(text), plain(text)
    pairs = [(microseconds_a_task(ours, text), microseconds_a_task(plain, text)) for _ in range(30)]
    mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    print(json.dumps({
        "DAG factory, 100-step chain, spec read and DAG built": f"{mine:.0f} us a task",
        "the same graph of plain BashOperators": f"{theirs:.0f} us a task; ratio {mine / theirs:.2f}",
    }))  # fmt: skip


if __name__ == "__main__":
    main()
