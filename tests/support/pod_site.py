"""A workspace whose steps run in pods of the tests' cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster_site import Cluster
from engine_site import Site

from airflow_mlpipe.model.compute import ComputeSpec, KubernetesSettings, Resources

TARGET = "cluster"
NONE_ASKED = Resources()
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"


def connection(cluster: Cluster) -> str:
    """The cluster as an Airflow connection."""
    extra = {"kube_config": cluster.config, "namespace": cluster.namespace}
    return json.dumps({"conn_type": "kubernetes", "extra": extra})


def target(site: Site, cluster: Cluster, resources: Resources = NONE_ASKED, **settings: Any) -> None:
    """Make, or change, the compute target of a workspace whose folder is mounted into its pods."""
    given = {
        "image": cluster.image("busybox"),
        "helper_image": cluster.image("mlpipe"),
        "namespace": cluster.namespace,
        "workspace_volume": f"host:{Path(site.dir).absolute()}",
        "deferrable": False,
        **settings,
    }
    spec = ComputeSpec(
        name=TARGET,
        type="KubernetesCompute",
        kind="kubernetes",
        resources=resources,
        kubernetes=KubernetesSettings(**given),
    )
    site.catalog.put_compute(spec)


def pods(cluster: Cluster) -> list[Any]:
    """What is there of pods."""
    return list(cluster.api.list_namespaced_pod(cluster.namespace).items)
