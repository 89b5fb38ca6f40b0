"""Loads what tasks need into a Celery worker, before it forks the processes that run them.

For Airflow's option ``[celery] extra_celery_config``: ``{"imports": ["airflow_mlpipe.engine.celery_worker"]}``.
Without it each task loads the same for itself, which takes seconds where many start at once.
"""

from __future__ import annotations

from airflow_mlpipe.engine.preload import preload

preload()
