"""The key: equal for equal executions, different for each component alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.model.data import DatastorePath, InputSpec, OutputSpec
from airflow_mlpipe.model.digest import digest_bytes
from airflow_mlpipe.model.distribution import Distribution
from airflow_mlpipe.model.environment import EnvironmentSpec
from airflow_mlpipe.model.step import Argument, StepSpec
from airflow_mlpipe.reuse.fingerprint import identify

GOLDEN = Path(__file__).with_name("golden_fingerprints.json")
DATA = DatastorePath(datastore="d", path="in")


def step(**changes) -> StepSpec:
    values = {
        "id": "train", "name": "train", "script": "train.py", "code": digest_bytes(b"code"),
        "arguments": (
            Argument(value="--lr"), Argument(kind="parameter", value="lr"), Argument(kind="input", value="data"),
        ),
        "inputs": (InputSpec(name="data", source=DATA),), "outputs": (OutputSpec(name="model", datastore="d"),),
    }  # fmt: skip
    return StepSpec(**{**values, **changes})


def key(changed: StepSpec | None = None, *, lr=0.1, data: bytes = b"data", environment=None, **changes) -> str:
    step_spec = changed or step(**changes)
    inputs = {port.name: digest_bytes(data) for port in step_spec.inputs}
    return identify(step_spec, {"lr": lr, "unused": 1}, environment or {"python": "3.11"}).key(inputs)


IN_THE_KEY = {
    "version": key(version="2"),
    "kind": key(kind="command"),
    "shell": key(shell=True),
    "script": key(script="other.py"),
    "argument": key(arguments=(Argument(value="--rate"), Argument(kind="parameter", value="lr"))),
    "argument order": key(arguments=tuple(reversed(step().arguments))),
    "literal that names a parameter": key(
        arguments=(Argument(value="--lr"), Argument(value="lr"), Argument(kind="input", value="data"))
    ),
    "parameter value": key(lr=0.2),
    "parameter type int": key(lr=1),
    "parameter type float": key(lr=1.0),
    "parameter type bool": key(lr=True),
    "parameter type text": key(lr="1"),
    "v1 params": key(parameters={"x": Argument(value="1")}),
    "input content": key(data=b"other"),
    "input port": key(inputs=(InputSpec(name="other", source=DATA),), arguments=()),
    "input mode": key(inputs=(InputSpec(name="data", source=DATA, mode="download"),)),
    "code": key(code=digest_bytes(b"other")),
    "environment": key(environment={"python": "3.12"}),
    "variables": key(step(environment=EnvironmentSpec(variables={"A": "1"}))),
    "output port": key(outputs=(OutputSpec(name="other", datastore="d"),)),
    "ranks": key(distribution=Distribution(kind="mpi", processes_per_node=2)),
    "more ranks": key(distribution=Distribution(kind="mpi", processes_per_node=4)),
    "ranks of another kind": key(distribution=Distribution(kind="pytorch", processes_per_node=2)),
    "ranks on more nodes": key(distribution=Distribution(kind="mpi", nodes=2)),
    "output destination": key(outputs=(OutputSpec(name="model", datastore="d", destination="x"),)),
}


def test_each_component_alone_changes_the_key():
    keys = [key(), *IN_THE_KEY.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "other", "name": "Other name"},
        {"compute": "gpu"},
        {"allow_reuse": False},
        {"retries": 3, "retry_delay_s": 60.0, "timeout_s": 5.0},
        {"after": ("setup",)},
        {"snapshot": digest_bytes(b"a file that hash_paths leaves out")},
        {"environment": EnvironmentSpec(name="renamed", version="7")},
        {
            "inputs": (
                InputSpec(name="data", source=DatastorePath(datastore="renamed", path="moved"), label="dataset x v1"),
            )
        },
        {"outputs": (OutputSpec(name="model", datastore="elsewhere"),)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_does_not_change_the_outcome_is_not_in_the_key(changes):
    assert key(step(**changes)) == key()


def test_a_parameter_the_step_does_not_use_is_not_in_its_key():
    inputs = {"data": digest_bytes(b"data")}
    few = identify(step(), {"lr": 0.1}, {"python": "3.11"}).key(inputs)
    many = identify(step(), {"lr": 0.1, "epochs": 9}, {"python": "3.11"}).key(inputs)
    assert few == many


def test_a_number_of_ranks_counts_whether_a_parameter_holds_it_or_not():
    said, held = (Distribution(kind="mpi", processes_per_node=count) for count in (2, "ranks"))
    one, other = (identify(step(distribution=each), {"lr": 0.1, "ranks": 2}, {}) for each in (said, held))
    assert one == other


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=2))
def test_the_order_in_which_packages_were_found_does_not_matter(packages):
    assert key(environment=packages) == key(environment=dict(reversed(packages.items())))


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()), st.randoms())
def test_the_order_of_mappings_does_not_matter(variables, parameters, random):
    def shuffled(mapping):
        return dict(random.sample(list(mapping.items()), len(mapping)))

    def made(given):
        words = {name: Argument(value=value) for name, value in given(parameters).items()}
        return key(step(environment=EnvironmentSpec(variables=given(variables)), parameters=words))

    assert made(dict) == made(shuffled)


@given(st.text(st.characters(exclude_categories=("Cs",))), st.text(st.characters(exclude_categories=("Cs",))))
def test_names_of_any_script_are_told_apart_and_survive_the_wire(one, other):
    def made(name):
        words = (Argument(value=name), Argument(kind="parameter", value="lr"))
        return step(script=f"{name}.py", arguments=words, inputs=(InputSpec(name=name, source=DATA),))

    assert (key(made(one)) == key(made(other))) == (one == other)
    assert key(StepSpec.model_validate_json(made(one).model_dump_json())) == key(made(one))


@given(
    st.lists(
        st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        min_size=2,
        max_size=2,
    )
)
def test_values_are_told_apart_by_type(values):
    one, other = values
    # JSON's own text tells 0.0 from -0.0 and from 0, which Python takes for equal.
    assert (key(lr=one) == key(lr=other)) == (json.dumps(one) == json.dumps(other))


def test_equal_in_another_process_and_place(tmp_path: Path):
    """Another hash seed, working directory, time zone, locale and home."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_fingerprint as t; print(t.key())"
    )
    for seed in ("0", "4711"):
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONHASHSEED": seed,
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C",
            "HOME": str(tmp_path),
        }
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == key()


def test_a_derivation_never_equals_a_key():
    identity = identify(step(), {"lr": 0.1}, {})
    inputs = {"data": digest_bytes(b"data")}
    assert identity.key(inputs) != identity.derivation(inputs)


def test_golden_values():
    """A change here makes every stored result unreachable: raise FORMAT and review it as a decision."""
    assert {"base": key(), **IN_THE_KEY} == json.loads(GOLDEN.read_text())
