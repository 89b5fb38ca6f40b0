"""Fits a model of who leaves."""

import json
import sys
from pathlib import Path

import pandas
from sklearn.linear_model import LogisticRegression

from airflow_mlpipe import Run

features, strength, out = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
table = pandas.read_csv(features).set_index("customer").sort_index()
known = table.drop(columns="churned")
model = LogisticRegression(C=strength).fit(known, table["churned"])
weights = dict(zip(known.columns, model.coef_[0].round(6).tolist(), strict=True))
(out / "model.json").write_text(json.dumps({"intercept": round(float(model.intercept_[0]), 6), "weights": weights}))
Run.get_context().log("accuracy", round(model.score(known, table["churned"]), 3))
