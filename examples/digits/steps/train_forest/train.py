"""Fits a random forest: many small decision trees that vote."""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from airflow_mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="folder made by prepare.py")
parser.add_argument("--model", type=Path, help="file to write the model to")
parser.add_argument("--trees", type=int, help="how many trees vote")
args = parser.parse_args()

train = np.load(args.data / "train.npz")
model = RandomForestClassifier(n_estimators=args.trees, oob_score=True, random_state=7).fit(train["x"], train["y"])
joblib.dump(model, args.model)

run = Run.get_context()
run.log("train_accuracy", round(float(model.score(train["x"], train["y"])), 4))
run.log("out_of_bag_accuracy", round(float(model.oob_score_), 4))
