from __future__ import annotations

import pytest

from airflow_mlpipe import AmlCompute, ComputeTarget, ComputeTargetException, DockerCompute
from airflow_mlpipe.errors import ConfigError, NotSupportedError, ParameterError
from airflow_mlpipe.model.compute import Resources
from airflow_mlpipe.model.quantity import GIB


def configuration(**options):
    return AmlCompute.provisioning_configuration(
        **{"vm_size": "STANDARD_NC6", "min_nodes": 0, "max_nodes": 4, **options}
    )


def test_get_or_create(workspace):
    assert "cpu" not in workspace.compute_targets
    made = ComputeTarget.create(workspace, "cpu", configuration())
    assert "cpu" in workspace.compute_targets
    for found in (made, workspace.compute_targets["cpu"], ComputeTarget(workspace, "cpu"), AmlCompute(workspace, made)):
        assert type(found) is AmlCompute
        assert found == made
        assert (found.name, found.type, found.vm_size, found.provisioning_state) == (
            "cpu", "AmlCompute", "STANDARD_NC6", "Succeeded",
        )  # fmt: skip
    assert ComputeTarget.list(workspace) == [made]


def test_create_again_gives_the_new_configuration(workspace):
    ComputeTarget.create(workspace, "cpu", configuration())
    ComputeTarget.create(workspace, "cpu", configuration(max_nodes=2))
    assert ComputeTarget(workspace, "cpu").spec.max_nodes == 2


def test_waiting_and_status(workspace, capsys):
    target = ComputeTarget.create(workspace, "cpu", configuration())
    target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert capsys.readouterr().out.startswith("Succeeded\n")
    target.wait_for_completion()
    assert capsys.readouterr().out == ""
    status = target.status.serialize()
    assert status["vmSize"] == "STANDARD_NC6"
    assert status["allocationState"] == "Steady"
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT1800S"}
    assert target.get_status().serialize() == status
    assert target.serialize()["computeType"] == "AmlCompute"


def test_numbers_that_a_variable_gave_as_text(workspace):
    texts = configuration(min_nodes="0", max_nodes="4", idle_seconds_before_scaledown="300").spec
    assert (texts.min_nodes, texts.max_nodes, texts.idle_seconds_before_scaledown) == (0, 4, 300)


def test_update(workspace):
    ComputeTarget.create(workspace, "cpu", configuration()).update(max_nodes=8, idle_seconds_before_scaledown=60)
    spec = ComputeTarget(workspace, "cpu").spec
    assert (spec.max_nodes, spec.min_nodes, spec.idle_seconds_before_scaledown) == (8, 0, 60)


def test_delete(workspace):
    target = ComputeTarget.create(workspace, "cpu", configuration())
    target.delete()
    assert "cpu" not in workspace.compute_targets
    with pytest.raises(ComputeTargetException, match="no compute target 'cpu'"):
        target.delete()


def test_unknown_target_gives_the_line(workspace):
    ComputeTarget.create(workspace, "cpu", configuration())
    with pytest.raises(ComputeTargetException) as error:
        ComputeTarget(workspace, "gpu")
    assert "has no compute target 'gpu'; it has: 'cpu'" in error.value.message
    line = error.value.message.split("create it: ")[1]
    eval(line, {"ws": workspace, "ComputeTarget": ComputeTarget, "AmlCompute": AmlCompute})
    assert "gpu" in workspace.compute_targets


def test_unknown_target_named_like_a_machine(workspace):
    with pytest.raises(KeyError) as error:
        workspace.compute_targets["STANDARD_NC6"]
    assert isinstance(error.value, ConfigError)
    assert "'STANDARD_NC6' is the size of a machine" in str(error.value)
    line = str(error.value).split("create it: ")[1]
    eval(line, {"ws": workspace, "ComputeTarget": ComputeTarget, "AmlCompute": AmlCompute})
    assert workspace.compute_targets["STANDARD_NC6"].vm_size == "STANDARD_NC6"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"vm_priority": "cheap"}, "vm_priority 'cheap'"),
        ({"min_nodes": "-1"}, "min_nodes='-1' is not allowed; give a whole number from 0"),
        ({"min_nodes": -1}, "min_nodes=-1 is not allowed; give a whole number from 0"),
        ({"max_nodes": 0}, "max_nodes=0 is not allowed; give a whole number from 1"),
        ({"min_nodes": 3, "max_nodes": 2}, "max_nodes=2 is not allowed; give a whole number from 3"),
        ({"max_nodes": "four"}, "max_nodes='four'"),
        ({"max_nodes": True}, "max_nodes=True"),
        ({"idle_seconds_before_scaledown": -1}, "idle_seconds_before_scaledown=-1"),
    ],
)
def test_configuration_refusals(options, what):
    with pytest.raises(ParameterError, match=what):
        configuration(**options)


def test_unlimited_nodes(workspace):
    target = ComputeTarget.create(workspace, "c", AmlCompute.provisioning_configuration("", "lowpriority"))
    assert (target.spec.max_nodes, target.spec.vm_size, target.vm_priority) == (None, "", "lowpriority")


def test_an_unknown_machine_is_recorded_with_a_warning_that_names_those_that_are_near(workspace):
    with pytest.warns(UserWarning, match=r"compute target 'c': vm_size 'STANDARD_NC6_V3' is not known; did you mean"):
        target = ComputeTarget.create(workspace, "c", AmlCompute.provisioning_configuration("STANDARD_NC6_V3"))
    assert target.vm_size == "STANDARD_NC6_V3"
    assert target.get_status().resources == Resources()
    workspace.settings["vm_sizes"] = {"STANDARD_NC6_V3": {"cpus": 6, "gpus": 1}}
    ComputeTarget.create(workspace, "c", AmlCompute.provisioning_configuration("STANDARD_NC6_V3"))
    assert target.get_status().resources == Resources(cpus=6, gpus=1)


def test_where_an_amlcompute_runs_and_what_is_told_of_it(workspace):
    ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration(image="python:3.12", gpus=1, shm_size=2))
    cpu = ComputeTarget.create(workspace, "cpu", configuration())
    here = cpu.get_status()
    assert (here.runs_on, here.kind, here.resources.gpus) == ("local", "local", 1)
    assert here.serialize()["resourcesEnforced"] is False
    assert [note.split(":")[0] for note in here.notes] == [
        "resources are recorded and not enforced",
        "min_nodes and idle_seconds_before_scaledown are recorded",
    ]
    workspace.settings["amlcompute"] = "box"
    there = cpu.get_status()
    assert (there.runs_on, there.kind, there.serialize()["resourcesEnforced"]) == ("box", "docker", True)
    assert there.resources == Resources(cpus=6, memory_bytes=56 * GIB, gpus=1, shm_size_bytes=2 * GIB)
    own = ComputeTarget.create(workspace, "own", configuration(runs_on="local"))
    assert own.get_status().runs_on == "local"
    other = ComputeTarget.create(workspace, "other", configuration(runs_on=ComputeTarget(workspace, "box")))
    other.update(max_nodes=7)
    assert (ComputeTarget(workspace, "other").spec.runs_on, other.spec.max_nodes) == ("box", 7)
    with pytest.raises(ConfigError, match="compute target 'lost' runs on 'nowhere'"):
        ComputeTarget.create(workspace, "lost", configuration(runs_on="nowhere"))


def test_a_name_keeps_its_type(workspace):
    ComputeTarget.create(workspace, "cpu", configuration())
    with pytest.raises(ComputeTargetException, match="'cpu' is there already, as AmlCompute, not DockerCompute"):
        ComputeTarget.attach(workspace, "cpu", DockerCompute.attach_configuration())
    ComputeTarget(workspace, "cpu").delete()
    assert type(ComputeTarget.attach(workspace, "cpu", DockerCompute.attach_configuration())) is DockerCompute


def test_management_is_refused_inside_of_a_step(workspace, monkeypatch):
    cpu = ComputeTarget.create(workspace, "cpu", configuration())
    monkeypatch.setenv("MLPIPE_CONTEXT", "/somewhere")
    calls = {
        "create": lambda: ComputeTarget.create(workspace, "cpu", configuration()),
        "attach": lambda: ComputeTarget.attach(workspace, "box", DockerCompute.attach_configuration()),
        "update": lambda: cpu.update(max_nodes=1),
        "delete": cpu.delete,
        "detach": cpu.detach,
    }
    for operation, call in calls.items():
        with pytest.raises(NotSupportedError, match=f"{operation} is refused inside of a step, as in v1"):
            call()
    # Reading is allowed, as in v1.
    assert [target.name for target in ComputeTarget.list(workspace)] == ["cpu"]
    assert workspace.compute_targets["cpu"].spec.max_nodes == 4


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "local", 3])
def test_name_refusals(workspace, name):
    with pytest.raises(ParameterError, match="compute target name"):
        ComputeTarget.create(workspace, name, configuration())


def test_configuration_of_another_kind(workspace):
    with pytest.raises(ParameterError, match="is not a configuration"):
        ComputeTarget.create(workspace, "cpu", {"vm_size": "x"})
    with pytest.raises(ParameterError, match="make one with KubernetesCompute.attach_configuration"):
        ComputeTarget.attach(workspace, "cpu", configuration())
    with pytest.raises(ParameterError, match="is a int"):
        ComputeTarget(workspace, 3)
