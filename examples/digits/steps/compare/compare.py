"""Chooses the model that reads the validation images best, and tests it once on images no one has used."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import joblib
import numpy as np
from sklearn.metrics import confusion_matrix

from airflow_mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="folder made by prepare.py")
parser.add_argument("--models", type=Path, nargs="+", help="model files")
parser.add_argument("--best", type=Path, help="folder to write the best model and its report to")
args = parser.parse_args()

run = Run.get_context()
validation, test = np.load(args.data / "validation.npz"), np.load(args.data / "test.npz")

models = {path.name: joblib.load(path) for path in args.models}
accuracy = {name: round(float(m.score(validation["x"], validation["y"])), 4) for name, m in models.items()}
for name, value in accuracy.items():
    run.log(f"{name}_accuracy", value)
    print(f"{name}: {value:.2%} of {len(validation['y'])} validation images are read correctly")

winner = max(accuracy, key=lambda name: accuracy[name])
read = models[winner].predict(test["x"])
test_accuracy = round(float((read == test["y"]).mean()), 4)
print(f"{winner} wins, and reads {test_accuracy:.2%} of {len(test['y'])} test images correctly")

matrix = confusion_matrix(test["y"], read)
run.log_table("confusion", {f"read_as_{digit}": matrix[:, digit].tolist() for digit in range(10)})

args.best.mkdir(parents=True)
shutil.copyfile(next(path for path in args.models if path.name == winner), args.best / "model.joblib")
(args.best / "report.json").write_text(json.dumps({"model": winner, "test_accuracy": test_accuracy}))

# What a step writes to its parent belongs to the whole run. It is written again when the step is reused.
run.parent.log("test_accuracy", test_accuracy)
run.parent.tag("winner", winner)
