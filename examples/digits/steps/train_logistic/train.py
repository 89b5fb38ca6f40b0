"""Fits a logistic regression: one straight border between each digit and the rest."""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from airflow_mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="folder made by prepare.py")
parser.add_argument("--model", type=Path, help="file to write the model to")
parser.add_argument("--regularization", type=float, help="above 0; smaller holds the weights closer to 0")
args = parser.parse_args()

train = np.load(args.data / "train.npz")
model = LogisticRegression(C=args.regularization, max_iter=2000).fit(train["x"], train["y"])
joblib.dump(model, args.model)

run = Run.get_context()
run.log("train_accuracy", round(float(model.score(train["x"], train["y"])), 4))
run.log("iterations", int(model.n_iter_.max()))
