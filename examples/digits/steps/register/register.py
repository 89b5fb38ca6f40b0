"""Gives the best model a name and a version, so that others can find it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from airflow_mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--best", type=Path, help="folder made by compare.py")
args = parser.parse_args()

run = Run.get_context()
report = json.loads((args.best / "report.json").read_text())

run.upload_file("outputs/model.joblib", args.best / "model.joblib")
model = run.register_model(
    "digits",
    model_path="outputs/model.joblib",
    tags={"kind": report["model"], "test_accuracy": str(report["test_accuracy"])},
)
run.parent.tag("model", f"{model.name}:{model.version}")
print(f"registered {model.name} version {model.version}: {report}")
