"""Getting a pipeline out of the user's file."""

from __future__ import annotations

import importlib.util
import linecache
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

from airflow_mlpipe.cli.output import OUT
from airflow_mlpipe.errors import MlpipeError, ParameterError, PipelineError, UsageError

if TYPE_CHECKING:
    from airflow_mlpipe.sdk.pipeline import Pipeline

DEFAULT_NAME = "pipeline"


def load_pipeline(target: str) -> tuple[Pipeline, Path]:
    """Import a file and return one of its pipelines, and the file.

    Args:
        target: ``FILE`` or ``FILE:NAME``.

    Raises:
        UsageError: if the file does not exist, fails, or has no such pipeline.
    """
    path, name = _split(target)
    module = _imported(path)
    found = _pipelines(module)
    if not found:
        raise PipelineError(
            f"'{path}' has no Pipeline at module level; assign one: pipeline = Pipeline(workspace, steps=[...])"
        )
    if name is None:
        name = DEFAULT_NAME if DEFAULT_NAME in found else next(iter(found))
        if name != DEFAULT_NAME and len({id(pipeline) for pipeline in found.values()}) > 1:
            raise PipelineError(f"'{path}' has several pipelines; say which: {', '.join(f'{path}:{n}' for n in found)}")
    if name not in found:
        raise PipelineError(f"'{path}' has no Pipeline named '{name}'; it has: {', '.join(found)}")
    return found[name], path


def _split(target: str) -> tuple[Path, str | None]:
    if Path(target).is_file():
        return Path(target), None
    file, colon, name = target.rpartition(":")
    path = Path(file if colon else target)
    if path.is_dir():
        raise ParameterError(f"'{path}' is a folder; give the Python file that has the pipeline")
    if not path.is_file():
        raise ParameterError(f"there is no file '{path}' in {Path.cwd()}; give a Python file, or FILE:NAME")
    return path, name if colon else None


def _imported(path: Path) -> ModuleType:
    """Run the file as a module of a name of its own, so that it replaces no module that it imports."""
    absolute = path.resolve()
    name = f"mlpipe_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    # As Python does for a script: modules beside it can be imported.
    sys.path.insert(0, str(absolute.parent))
    spec = importlib.util.spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise ParameterError(f"'{path}' is not a Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with OUT.user_code():
            spec.loader.exec_module(module)
    except UsageError as error:
        line = _line_in(error.__traceback__, absolute)
        error.args = (f"{error.message} ({path}:{line})" if line else error.message,)
        raise
    except MlpipeError:
        raise
    except SystemExit as error:
        if error.code in (None, 0):
            raise PipelineError(
                f"'{path}' ended the program when it was imported; guard it: if __name__ == '__main__':"
            ) from None
        raise PipelineError(f"'{path}' ended with code {error.code} when it was imported") from None
    except Exception as error:
        raise PipelineError(f"'{path}' cannot be imported:\n{_own_traceback(error, absolute)}") from None
    return module


def _pipelines(module: ModuleType) -> dict[str, Pipeline]:
    from airflow_mlpipe.sdk.pipeline import Pipeline

    return {name: value for name, value in vars(module).items() if isinstance(value, Pipeline)}


def _line_in(trace: TracebackType | None, path: Path) -> int | None:
    """Return the last line of the user's file that the error passed through."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _own_traceback(error: Exception, path: Path) -> str:
    """Return the traceback from the user's file on: what is above it is ours."""
    linecache.checkcache()
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    # A syntax error has no frame in the file; its text names the line.
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
