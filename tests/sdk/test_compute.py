from __future__ import annotations

import pytest

from airflow_mlpipe import AmlCompute, ComputeTarget, ComputeTargetException
from airflow_mlpipe.errors import ConfigError, ParameterError


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
        ({"min_nodes": -1}, "min_nodes=-1 is not allowed; give a whole number from 0"),
        ({"max_nodes": 0}, "max_nodes=0 is not allowed; give a whole number from 1"),
        ({"min_nodes": 3, "max_nodes": 2}, "max_nodes=2 is not allowed; give a whole number from 3"),
        ({"max_nodes": "4"}, "max_nodes='4'"),
        ({"max_nodes": True}, "max_nodes=True"),
        ({"idle_seconds_before_scaledown": -1}, "idle_seconds_before_scaledown=-1"),
    ],
)
def test_configuration_refusals(options, what):
    with pytest.raises(ParameterError, match=what):
        configuration(**options)


def test_unlimited_nodes_and_unknown_machines(workspace):
    target = ComputeTarget.create(workspace, "c", AmlCompute.provisioning_configuration("QUANTUM_9000", "lowpriority"))
    assert (target.spec.max_nodes, target.spec.vm_size, target.spec.vm_priority) == (
        None,
        "QUANTUM_9000",
        "lowpriority",
    )


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "local", 3])
def test_name_refusals(workspace, name):
    with pytest.raises(ParameterError, match="compute target name"):
        ComputeTarget.create(workspace, name, configuration())


def test_configuration_of_another_kind(workspace):
    with pytest.raises(ParameterError, match="is not a configuration"):
        ComputeTarget.create(workspace, "cpu", {"vm_size": "x"})
    with pytest.raises(ParameterError, match="is a int"):
        ComputeTarget(workspace, 3)
