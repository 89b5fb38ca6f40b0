from __future__ import annotations

import pytest

import airflow_mlpipe
from airflow_mlpipe import ComputeTarget, DockerCompute, KubernetesCompute
from airflow_mlpipe.errors import NotSupportedError, ParameterError
from airflow_mlpipe.model.compute import DockerSettings, KubernetesSettings, Resources
from airflow_mlpipe.model.quantity import GIB

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_a_docker_engine(workspace):
    made = DockerCompute.attach_configuration(
        "python:3.12", "none", 0.5, "2g", 1, "512m", "registry", max_nodes=2, engine_url="unix:///run/d.sock"
    )
    box = ComputeTarget.attach(workspace, "box", made)
    assert type(box) is type(ComputeTarget(workspace, "box")) is type(workspace.compute_targets["box"]) is DockerCompute
    assert (box.type, box.provisioning_state, box.spec.kind, box.spec.max_nodes) == (
        "DockerCompute", "Succeeded", "docker", 2,
    )  # fmt: skip
    assert box.spec.docker == DockerSettings(
        image="python:3.12", network_mode="none", registry_conn_id="registry", engine_url="unix:///run/d.sock"
    )
    assert box.spec.resources == Resources(cpus=0.5, memory_bytes=2 * GIB, gpus=1, shm_size_bytes=GIB // 2)
    assert box.serialize()["properties"]["image"] == "python:3.12"
    assert box.get_status().serialize()["resourcesEnforced"] is True
    box.wait_for_completion(show_output=True)
    box.detach()
    assert "box" not in workspace.compute_targets


def test_a_cluster(workspace):
    template = {"metadata": {"labels": {"team": "vision"}}, "spec": {"priorityClassName": "low"}}
    made = KubernetesCompute.attach_configuration(
        resource_id="/subscriptions/1/x", namespace="ml", conn_id="cluster", image="python:3.12",
        helper_image="mlpipe:1",
        node_selector={"pool": "gpu"}, tolerations=[TOLERATION], affinity={"nodeAffinity": {}},
        service_account="runner",
        image_pull_secrets=["pull"], cpus="500m", memory="8Gi", gpus=1, gpu_resource="amd.com/gpu", shm_size=1,
        pod_template=template, credentials_secret="lake", workspace_volume="pvc:work", startup_timeout_s=60,
        deferrable=False, keep_failed_pods=True, max_nodes=3,
    )  # fmt: skip
    aks = ComputeTarget.attach(workspace, "aks", made)
    assert type(aks) is type(ComputeTarget(workspace, "aks")) is KubernetesCompute
    # v1's name of the type.
    assert (aks.type, aks.namespace, aks.spec.max_nodes) == ("Kubernetes", "ml", 3)
    assert ComputeTarget(workspace, "aks").spec.kubernetes == KubernetesSettings(
        namespace="ml", conn_id="cluster", image="python:3.12", helper_image="mlpipe:1", node_selector={"pool": "gpu"},
        tolerations=(TOLERATION,), affinity={"nodeAffinity": {}},
        service_account="runner",
        image_pull_secrets=("pull",), gpu_resource="amd.com/gpu",
        pod_template=template, credentials_secret="lake", workspace_volume="pvc:work", startup_timeout_s=60.0,
        deferrable=False, keep_failed_pods=True,
    )  # fmt: skip
    assert aks.spec.resources == Resources(cpus=0.5, memory_bytes=8 * GIB, gpus=1, shm_size_bytes=GIB)


def test_instance_types_in_v1s_form(workspace):
    types = {
        "cpu": {"nodeSelector": None, "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
        "gpu": {
            "nodeSelector": {"pool": "gpu"},
            "resources": {
                "requests": {"cpu": 1, "memory": "4Gi"},
                "limits": {"cpu": 2, "memory": "4Gi", "nvidia.com/gpu": 1},
            },
        },
    }
    made = KubernetesCompute.attach_configuration("/id", default_instance_type="cpu", instance_types=types)
    aks = KubernetesCompute.attach(workspace, "aks", made)
    assert aks.default_instance_type == "cpu"
    assert aks.spec.kubernetes.instance_types["cpu"].resources == Resources(cpus=0.5, memory_bytes=GIB, gpus=0)
    assert aks.instance_types["gpu"] == {
        "node_selector": {"pool": "gpu"},
        "resources": Resources(cpus=2, memory_bytes=4 * GIB, gpus=1).model_dump(),
    }


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"memory": "8"}, "memory='8' is not allowed; give a text with a unit"),
        ({"cpus": 0}, "cpus=0 is not allowed"),
        ({"gpus": -1}, "gpus=-1 is not allowed: pods ask for a number"),
        ({"max_nodes": 0}, "max_nodes=0"),
        ({"namespace": "My_Space"}, "namespace='My_Space' is not allowed"),
        ({"conn_id": "a b"}, "conn_id='a b'"),
        ({"node_selector": {"a": 1}}, "node_selector="),
        ({"node_selector": {"pool": "{{ x }}"}}, r"node_selector: \{'pool': '\{\{ x \}\}'\} is no label of a node"),
        ({"node_selector": {"a b": "x"}}, "is no label of a node"),
        ({"instance_types": {"a": {"nodeSelector": {"pool": "$(id)"}}}}, "nodeSelector: .* is no label of a node"),
        ({"tolerations": [{"key": "a", "for": 1}]}, "tolerations: .* keys among effect, key"),
        ({"affinity": {"nodes": {}}}, "affinity: "),
        ({"image_pull_secrets": "one"}, "image_pull_secrets='one' is not allowed; give a list"),
        ({"startup_timeout_s": 0}, "startup_timeout_s=0"),
        ({"instance_types": {"a": {"cpu": 1}}}, "nodeSelector and resources"),
        ({"instance_types": {"a": {"resources": {"limits": {"disk": 1}}}}}, "asks for 'disk'; allowed are cpu"),
        ({"default_instance_type": "a"}, "default_instance_type='a' is not among instance_types: there are none"),
        ({"pod_template": "pod.yaml"}, "pod_template='pod.yaml' is not allowed; give a dict; of a file"),
        ({"workspace_volume": "nfs:/x"}, "give 'pvc:NAME' or 'host:/PATH'"),
        ({"workspace_volume": "host:/a/../etc"}, "give 'pvc:NAME' or 'host:/PATH'"),
        ({"workspace_volume": "host:/"}, "is refused: it is a folder of the node's system"),
        ({"workspace_volume": "host:/run/docker.sock"}, "is refused"),
    ],
)
def test_clusters_that_are_refused(options, what):
    with pytest.raises(ParameterError, match=what):
        KubernetesCompute.attach_configuration(**options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"network_mode": "container:other"}, "network_mode='container:other' is not allowed"),
        ({"network_mode": None}, "network_mode=None"),
        ({"image": ""}, "image=''"),
        ({"engine_url": "/var/run/docker.sock"}, "engine_url="),
        ({"shm_size": "2"}, "shm_size='2'"),
        ({"gpus": "two"}, "gpus='two'"),
        ({"max_nodes": 1.5}, "max_nodes=1.5"),
    ],
)
def test_engines_that_are_refused(options, what):
    with pytest.raises(ParameterError, match=what):
        DockerCompute.attach_configuration(**options)


def container(**more):
    return {"spec": {"containers": [{"name": "main", **more}]}}


@pytest.mark.parametrize(
    ("template", "entry"),
    [
        (container(securityContext={"privileged": True}), "spec.containers.securityContext.privileged"),
        (container(securityContext={"allowPrivilegeEscalation": True}), "allowPrivilegeEscalation"),
        (container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "capabilities.add"),
        (container(securityContext={"procMount": "Unmasked"}), "procMount"),
        ({"spec": {"hostNetwork": True}}, "spec.hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "spec.volumes.hostPath"),
        (container(volumeMounts=[{"mountPath": "/var/run/docker.sock"}]), "volumeMounts.mountPath"),
    ],
)
def test_pod_templates_that_reach_the_node_are_refused(template, entry):
    with pytest.raises(ParameterError, match=rf"pod_template: \S*{entry} is refused"):
        KubernetesCompute.attach_configuration(pod_template=template)


def test_pod_templates_that_are_harmless():
    template = container(securityContext={"privileged": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 1000})
    assert KubernetesCompute.attach_configuration(pod_template=template).spec.kubernetes.pod_template == template


@pytest.mark.parametrize(
    "name",
    ["AdlaCompute", "AksCompute", "ComputeInstance", "DataFactoryCompute", "DsvmCompute",
     "KustoCompute"],
)  # fmt: skip
def test_v1s_other_computes_say_by_name_that_they_are_not_supported(workspace, name):
    kind = getattr(airflow_mlpipe, name)
    for use in (
        lambda: kind(workspace, "x"),
        lambda: kind.attach_configuration(resource_group="a"),
        lambda: kind.provisioning_configuration(),
    ):
        with pytest.raises(NotSupportedError, match=rf"{name}(\.\w+\(\))? is not supported yet; supported are Aml"):
            use()
