from __future__ import annotations

import pytest

from airflow_mlpipe.errors import ConfigError, NotFoundError
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings, InstanceType, KubernetesSettings, Resources
from airflow_mlpipe.model.quantity import GIB
from airflow_mlpipe.model.target import effective, for_step, lacks_gpus
from airflow_mlpipe.model.vm_sizes import PUBLISHED, size_of, unknown_size


def spec_of(name, **options):
    return ComputeSpec(name=name, **options)


def docker(**resources):
    return spec_of(
        "box", type="DockerCompute", kind="docker", docker=DockerSettings(image="i"), resources=Resources(**resources)
    )


def cluster(**resources):
    types = {"gpu": InstanceType(resources=Resources(gpus=2), node_selector={"pool": "gpu"})}
    settings = KubernetesSettings(node_selector={"os": "linux"}, instance_types=types)
    return spec_of("aks", type="Kubernetes", kind="kubernetes", kubernetes=settings, resources=Resources(**resources))


def find_in(*specs):
    known = {spec.name: spec for spec in specs}

    def find(name):
        if name not in known:
            raise NotFoundError(f"there is no compute target '{name}'")
        return known[name]

    return find


def test_published_sizes():
    # As in Azure's own tables.
    for name, cpus, gib, gpus in [
        ("STANDARD_D2_V2", 2, 7, 0), ("Standard_DS3_v2", 4, 14, 0), ("STANDARD_DS14_V2", 16, 112, 0),
        ("Standard_D4s_v3", 4, 16, 0), ("STANDARD_F4S_V2", 4, 8, 0), ("STANDARD_E4S_V3", 4, 32, 0),
        ("STANDARD_NC6", 6, 56, 1), ("Standard_NC24rs_v3", 24, 448, 4), ("STANDARD_ND40RS_V2", 40, 672, 8),
        ("STANDARD_NV12S_V2", 12, 224, 2), ("STANDARD_A2M_V2", 2, 16, 0), ("standard_nc6s_v3", 6, 112, 1),
    ]:  # fmt: skip
        assert size_of(name, {}) == Resources(cpus=cpus, memory_bytes=gib * GIB, gpus=gpus), name
    assert len(PUBLISHED) > 150
    assert all("{" not in name for name in PUBLISHED)


def test_sizes_of_the_workspace():
    settings = {"vm_sizes": {"Standard_NC6": {"gpus": 0}, "mine": {"cpus": "500m", "memory": "1g"}}}
    assert size_of("STANDARD_NC6", settings) == Resources(gpus=0)
    assert size_of("MINE", settings) == Resources(cpus=0.5, memory_bytes=GIB, gpus=0)
    for wrong in ({"x": {}}, {"x": {"cores": 1}}, {"x": 3}, {"x": {"memory": "8"}}, ["x"]):
        with pytest.raises(ConfigError, match="setting 'vm_sizes'"):
            size_of("x", {"vm_sizes": wrong})


def test_an_unknown_size_names_those_that_are_near():
    text = unknown_size("STANDARD_NC6_V3", {})
    assert "vm_size 'STANDARD_NC6_V3' is not known; did you mean 'STANDARD_NC6" in text
    assert size_of("QUANTUM_9000", {}) is None


def test_where_an_amlcompute_runs():
    aml = spec_of("cpu", vm_size="STANDARD_NC6")
    assert effective(aml, find_in(), {}).kind == "local"
    assert effective(aml, find_in(), {}).resources.gpus == 1
    there = effective(aml, find_in(cluster(shm_size_bytes=5)), {"amlcompute": "aks"})
    assert (there.name, there.kind, there.kubernetes.node_selector) == ("cpu", "kubernetes", {"os": "linux"})
    assert there.resources == Resources(cpus=6, memory_bytes=56 * GIB, gpus=1, shm_size_bytes=5)
    # One target's own word goes over the workspace's.
    own = aml.model_copy(update={"runs_on": "local"})
    assert effective(own, find_in(cluster()), {"amlcompute": "aks"}).kind == "local"
    assert effective(cluster(), find_in(), {"amlcompute": "box"}) == cluster()


def test_a_host_that_is_not_there():
    aml = spec_of("cpu")
    with pytest.raises(ConfigError, match=r"runs on 'aks' \(setting 'amlcompute'\), which does not exist"):
        effective(aml, find_in(), {"amlcompute": "aks"})
    with pytest.raises(ConfigError, match="which is an AmlCompute itself"):
        effective(aml.model_copy(update={"runs_on": "b"}), find_in(spec_of("b")), {})


@pytest.mark.parametrize(
    ("size", "host", "gpus"),
    [
        ("STANDARD_NC12", docker(), None), ("STANDARD_NC12", docker(gpus=1), 1), ("STANDARD_NC12", docker(gpus=-1), 2),
        ("STANDARD_D2_V2", docker(gpus=1), 0), ("", docker(gpus=1), 1), ("STANDARD_NC12", cluster(), 2),
        ("STANDARD_NC12", cluster(gpus=0), 0), ("STANDARD_NC12", cluster(gpus=1), 2),
    ],
)  # fmt: skip
def test_gpus_of_a_size_on_a_host(size, host, gpus):
    aml = spec_of("c", vm_size=size, runs_on=host.name)
    found = effective(aml, find_in(host), {})
    assert found.resources.gpus == gpus
    assert lacks_gpus(found) == (not gpus)


def test_of_a_machine_and_a_cluster_it_is_not_known_whether_they_have_gpus():
    assert not lacks_gpus(spec_of("c"))
    assert not lacks_gpus(cluster())
    assert lacks_gpus(docker())


def test_what_a_step_asks_for_goes_over_its_target():
    target = cluster(cpus=1, memory_bytes=5)
    got = for_step(target, Resources(cpus=4, instance_type="gpu"))
    assert got.resources == Resources(cpus=4, memory_bytes=5, gpus=2, instance_type="gpu")
    assert got.kubernetes.node_selector == {"os": "linux", "pool": "gpu"}
    assert for_step(target, Resources()) == target
    with pytest.raises(ConfigError, match=r"compute target 'aks' has no instance type 'gpus'; it has: 'gpu'; did"):
        for_step(target, Resources(instance_type="gpus"))
    # Other kinds of compute have no instance types.
    assert for_step(docker(), Resources(instance_type="gpu")).kind == "docker"
