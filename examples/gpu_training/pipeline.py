"""Two moons: prepare on the worker's machine -> train where the GPUs are.

The training step asks for one GPU; ``GPUS=0`` asks for none. Where it runs is the business of the compute target
``gpu``: make it first, or look at ``demo.py`` beside this file.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow_mlpipe import Pipeline, PipelineData, PipelineParameter, PythonScriptStep, ResourceConfiguration, Workspace

SOURCE = Path(__file__).parent / "src"

ws = Workspace.from_config()

epochs = PipelineParameter("epochs", default_value=60)

moons = PipelineData("moons")
model = PipelineData("model")

prepare = PythonScriptStep(
    name="prepare",
    script_name="prepare.py",
    source_directory=SOURCE / "prepare",
    arguments=[moons, 7],
    outputs=[moons],
)

train = PythonScriptStep(
    name="train",
    script_name="train.py",
    source_directory=SOURCE / "train",
    arguments=[moons.as_input("moons"), model, epochs],
    outputs=[model],
    compute_target="gpu",
    # No part of the key: with another target, or without the GPU, the step is reused.
    resources=ResourceConfiguration(cpu=1, memory_in_gb=0.5, gpu=int(os.environ.get("GPUS", "1")), shm_size="64m"),
)

pipeline = Pipeline(ws, steps=[train], name="gpu-training", description="A step that asks for a GPU")
