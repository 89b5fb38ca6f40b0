"""How often each kind of event happened to each customer."""

import sys
from pathlib import Path

import pandas

from airflow_mlpipe import Run

folder, out = Path(sys.argv[1]), sys.argv[2]
events = pandas.concat(pandas.read_csv(file) for file in sorted(folder.rglob("*.csv")))
counts = events.pivot_table(index="customer", columns="kind", values="at", aggfunc="count", fill_value=0)
counts.to_csv(out)
Run.get_context().log("events", len(events))
