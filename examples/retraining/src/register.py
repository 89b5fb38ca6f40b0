"""Compares the model with the last registered one on the customers of today, and registers it if it is better."""

import json
import math
import sys
from pathlib import Path

import pandas

from airflow_mlpipe import Model, Run
from airflow_mlpipe.errors import NotFoundError


def loss_of(model: dict, table: pandas.DataFrame) -> float:
    """Returns the mean of the log loss; a kind of event that the model has not seen counts nothing."""
    total = 0.0
    for row in table.to_dict("records"):
        score = model["intercept"] + sum(weight * row.get(kind, 0.0) for kind, weight in model["weights"].items())
        total += math.log1p(math.exp(-score if row["churned"] else score))
    return round(total / len(table), 4)


candidate, features = Path(sys.argv[1], "model.json"), pandas.read_csv(sys.argv[2])
run = Run.get_context()
loss = loss_of(json.loads(candidate.read_text()), features)
run.log("loss", loss)
try:
    last = Model(run.experiment.workspace, "churn")
except NotFoundError:
    last = None
else:
    last_loss = loss_of(json.loads(Path(last.download("last")).read_text()), features)
    run.log("loss_of_last", last_loss)
if last is None or loss < last_loss:
    model = run.register_model("churn", model_path=str(candidate), tags={"loss": str(loss)})
    print(f"registered {model.name} version {model.version}")
else:
    print(f"kept {last.name} version {last.version}: its loss is {last_loss}, that of the new one {loss}")
