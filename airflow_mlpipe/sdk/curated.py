"""The environments that Azure kept for everybody, by v1's names, with contents that can be installed today.

v1's images held packages for Python 3.6 to 3.8 that nobody can install any more. What stands here under their names are
the packages that scripts of that kind import, pinned, for the Pythons this package runs on.
"""

from __future__ import annotations

import re

PREFIX = "AzureML-"
"""How the names of these environments begin."""

VERSION = "1"
"""Their version here. Changed pins are a new one."""

_BASE = ("numpy==2.4.6", "pandas==3.1.1", "pyarrow==26.0.1")
_TABLES = (*_BASE, "scipy==1.17.1", "scikit-learn==1.9.1", "joblib==1.6.0")
_PLOTS = ("matplotlib==3.11.2",)

_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"minimal.*", ()),
    (r"tutorial|azureml-tutorial", (*_TABLES, *_PLOTS)),
    (r"(scikit-learn|sklearn).*", _TABLES),
    (r"(acpt-)?pytorch.*|acpt.*", (*_TABLES, "torch==2.15.0", "torchvision==0.29.2")),
    (r"tensorflow.*", (*_TABLES, "tensorflow==2.21.0")),
    (r"xgboost.*", (*_TABLES, "xgboost==3.2.0")),
    (r"lightgbm.*", (*_TABLES, "lightgbm==4.7.0")),
    (r"onnxruntime.*", (*_BASE, "onnxruntime==1.32.0")),
    (r"mlflow.*", (*_TABLES, "mlflow-skinny==3.17.2")),
    (r"dask-.*", (*_TABLES, "dask==2026.8.0", "distributed==2026.8.0")),
    (r"(automl|sidecar|responsibleai|designer).*", (*_TABLES, *_PLOTS)),
)
"""By the words after the prefix, in lower case: which packages."""

_NAMES = (
    "ACPT-pytorch-1.13-py38-cuda11.7-gpu",
    "AutoML",
    "Dask-CPU",
    "Dask-GPU",
    "Designer",
    "Minimal",
    "PyTorch-1.0-CPU",
    "PyTorch-1.0-GPU",
    "PyTorch-1.1-CPU",
    "PyTorch-1.1-GPU",
    "PyTorch-1.2-CPU",
    "PyTorch-1.2-GPU",
    "PyTorch-1.3-CPU",
    "PyTorch-1.3-GPU",
    "PyTorch-1.4-CPU",
    "PyTorch-1.4-GPU",
    "PyTorch-1.5-CPU",
    "PyTorch-1.5-GPU",
    "PyTorch-1.6-CPU",
    "PyTorch-1.6-GPU",
    "Scikit-learn-0.20.3",
    "TensorFlow-1.10-CPU",
    "TensorFlow-1.10-GPU",
    "TensorFlow-1.12-CPU",
    "TensorFlow-1.12-GPU",
    "TensorFlow-1.13-CPU",
    "TensorFlow-1.13-GPU",
    "TensorFlow-2.0-CPU",
    "TensorFlow-2.0-GPU",
    "TensorFlow-2.1-CPU",
    "TensorFlow-2.1-GPU",
    "TensorFlow-2.2-CPU",
    "TensorFlow-2.2-GPU",
    "TensorFlow-2.3-CPU",
    "TensorFlow-2.3-GPU",
    "Tutorial",
    "lightgbm-3.2-ubuntu18.04-py37-cpu",
    "minimal-ubuntu18.04-py37-cpu-inference",
    "mlflow-ubuntu18.04-py37-cpu-inference",
    "onnxruntime-1.6-ubuntu18.04-py37-cpu-inference",
    "pytorch-1.7-ubuntu18.04-py37-cuda11-gpu",
    "pytorch-1.8-ubuntu18.04-py37-cuda11-gpu",
    "pytorch-1.9-ubuntu18.04-py37-cuda11-gpu",
    "pytorch-1.10-ubuntu18.04-py38-cuda11-gpu",
    "responsibleai-0.20-ubuntu20.04-py38-cpu",
    "sklearn-0.24-ubuntu18.04-py37-cpu",
    "sklearn-0.24.1-ubuntu18.04-py37-cpu-inference",
    "sklearn-1.0-ubuntu20.04-py38-cpu",
    "tensorflow-1.15-ubuntu18.04-py37-cpu-inference",
    "tensorflow-2.4-ubuntu18.04-py37-cuda11-gpu",
    "tensorflow-2.5-ubuntu20.04-py38-cuda11-gpu",
    "tensorflow-2.6-ubuntu20.04-py38-cuda11-gpu",
    "tensorflow-2.7-ubuntu20.04-py38-cuda11-gpu",
    "xgboost-0.9-ubuntu18.04-py37-cpu-inference",
)


def curated_names() -> tuple[str, ...]:
    """Return the names that ``Environment.list`` shows; others of the same kinds are known too."""
    return tuple(f"{PREFIX}{name}" for name in _NAMES)


def curated_packages(name: str) -> tuple[str, ...] | None:
    """Return the pip requirements of an environment, whatever versions are in its name; None if it is not known."""
    if not name.lower().startswith(PREFIX.lower()):
        return None
    words = name[len(PREFIX) :].lower()
    return next((packages for pattern, packages in _FAMILIES if re.fullmatch(pattern, words)), None)


def curated_kinds() -> dict[tuple[str, ...], str]:
    """Return the different contents, each with one name that has it."""
    return {curated_packages(name) or (): name for name in curated_names()}
