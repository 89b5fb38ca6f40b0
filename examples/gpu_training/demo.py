"""Trains on this machine, in a container or in a pod, and shows that it makes no difference to what comes out.

``python examples/gpu_training/demo.py`` trains on this machine; ``--on docker --image IMAGE`` in a container, and
``--on kubernetes --image IMAGE --helper-image IMAGE`` in a pod of the cluster of KUBECONFIG. Everything is kept in a
temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

from airflow_mlpipe import (
    AmlCompute,
    ComputeTarget,
    DockerCompute,
    Experiment,
    KubernetesCompute,
    PipelineRun,
    Workspace,
)

HERE = Path(__file__).resolve().parent
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"


def main() -> int:
    """Runs the demo and returns the exit code: 0, or 1 if a run failed."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="mlpipe-gpu-training-") as folder:
        project = Path(folder).resolve() / "project"
        shutil.copytree(HERE, project)
        os.chdir(project)
        os.environ.pop("MLPIPE_WORKSPACE", None)
        os.environ["GPUS"] = str(options.gpus)
        workspace = Workspace.create("gpu-training", path=project)
        attach(workspace, options)
        print(f"compute target 'gpu': {json.dumps(workspace.compute_targets['gpu'].get_status().serialize())}")
        pipeline = runpy.run_path("pipeline.py")["pipeline"]
        for title in ("everything runs", "nothing has changed: everything is reused, on whatever it ran"):
            run = Experiment(workspace, "gpu-training").submit(pipeline, show_output=False)
            run.wait_for_completion(show_output=False, raise_on_error=False)
            print(f"\n{title}")
            tell(run)
            if run.status != "Completed":
                return 1
            # The second time the target is another one: no key knows it.
            attach(workspace, argparse.Namespace(on="local"))
        return 0


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=("local", "docker", "kubernetes"), default="local")
    parser.add_argument("--image", help="with Python 3; for docker and kubernetes")
    parser.add_argument("--helper-image", help="with airflow-mlpipe; for kubernetes")
    parser.add_argument("--gpus", type=int, help="that the step asks for; default is 1 in a cluster, else 0")
    parser.add_argument("--network", default="bridge", help="of the container")
    parser.add_argument("--engine-url", help="of Docker; default is DOCKER_HOST, else the usual socket")
    parser.add_argument("--namespace", help="of the pods; default is that of KUBECONFIG")
    options = parser.parse_args()
    if options.gpus is None:
        options.gpus = 1 if options.on == "kubernetes" else 0
    return options


def attach(workspace: Workspace, options: argparse.Namespace) -> None:
    """Makes the compute target ``gpu``."""
    if "gpu" in workspace.compute_targets:
        workspace.compute_targets["gpu"].delete()
    if options.on == "local":
        ComputeTarget.create(workspace, "gpu", AmlCompute.provisioning_configuration("STANDARD_NC6", max_nodes=1))
    elif options.on == "docker":
        engine = DockerCompute.attach_configuration(
            options.image, options.network, gpus=options.gpus, max_nodes=1, engine_url=options.engine_url
        )
        ComputeTarget.attach(workspace, "gpu", engine)
    else:
        os.environ.setdefault(CONNECTION, connection())
        cluster = KubernetesCompute.attach_configuration(
            namespace=options.namespace,
            image=options.image,
            helper_image=options.helper_image,
            node_selector={"accelerator": "nvidia"},
            tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            # The workspace is a folder of this machine: the cluster's node has to be this machine too.
            workspace_volume=f"host:{workspace.dir}",
            max_nodes=1,
            deferrable=False,
        )
        ComputeTarget.attach(workspace, "gpu", cluster)


def connection() -> str:
    """Returns the cluster of KUBECONFIG as an Airflow connection."""
    path = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": path}})


def tell(run: PipelineRun) -> None:
    """Prints what became of each step, its key and its output."""
    for step in run.get_steps():
        outputs = ", ".join(f"{name} {step.get_output_data(name).digest}" for name in step.get_outputs())
        print(f"  {step.name:<8} {step.record.status:<10} key {step.record.fingerprint}  {outputs or step.error}")


if __name__ == "__main__":
    sys.exit(main())
