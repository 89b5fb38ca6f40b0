"""One row a customer: how often each kind of event happened, and whether the customer has left."""

import sys
from pathlib import Path

import pandas

from airflow_mlpipe import Run

folder, out = Path(sys.argv[1]), sys.argv[2]
run = Run.get_context()

events = pandas.concat(pandas.read_csv(file) for file in sorted(folder.rglob("*.csv")))
counts = events.pivot_table(index="customer", columns="kind", values="at", aggfunc="count", fill_value=0)
customers = run.input_datasets["customers"].to_pandas_dataframe().set_index("id")
table = customers.join(counts, how="inner").fillna(0)
table.to_csv(out, index_label="customer")
run.log("customers", len(table))
