"""One row a customer: the counted events, and whether the customer has left."""

import sys

import pandas

from airflow_mlpipe import Run

counts, out = pandas.read_csv(sys.argv[1], index_col="customer"), sys.argv[2]
run = Run.get_context()
customers = run.input_datasets["customers"].to_pandas_dataframe().set_index("id")
table = customers.join(counts, how="inner").fillna(0)
table.to_csv(out, index_label="customer")
run.log("customers", len(table))
run.log("left", int(table["churned"].sum()))
