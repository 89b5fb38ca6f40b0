"""What looks after the catalog as a whole; no run needs it."""

from __future__ import annotations

from airflow_mlpipe.catalog.collecting import CollectPart
from airflow_mlpipe.catalog.restoring import RestorePart


class Keeper(RestorePart, CollectPart):
    """Reads all of the catalog, puts back what it has lost, and takes away what is collected."""
