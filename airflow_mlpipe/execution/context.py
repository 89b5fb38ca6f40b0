"""What the process it runs in has been told about the step it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from airflow_mlpipe.errors import UsageError
from airflow_mlpipe.execution.contract import PROTOCOL_VERSION, StepContext

VARIABLE = "MLPIPE_CONTEXT"
"""Environment variable with the path of the context document."""


def current_context(environ: Mapping[str, str] = os.environ) -> StepContext | None:
    """Return the context of the step this process belongs to, or None if it belongs to none.

    Raises:
        UsageError: if the document is missing, damaged or of a newer protocol.
    """
    name = environ.get(VARIABLE)
    if not name:
        return None
    try:
        document = json.loads(Path(name).read_bytes())
        version = int(document["protocol_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{VARIABLE}={name} is not a readable step context ({type(error).__name__}: {error}); "
            f"it is set by the engine for a step's process, unset it to run the script on its own"
        ) from error
    if version > PROTOCOL_VERSION:
        raise UsageError(
            f"{VARIABLE}={name} has protocol version {version}, this airflow-mlpipe knows versions up to "
            f"{PROTOCOL_VERSION}; install in the step's environment the release that runs the pipeline"
        )
    return StepContext.model_validate(document)
