"""Airflow's DAG file for the pipelines that ran in the workspace whose .mlpipe folder MLPIPE_WORKSPACE names."""

from airflow_mlpipe.engine.loader import load_dags

globals().update(load_dags(__file__))
