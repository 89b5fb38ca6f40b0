"""What conda calls packages that the Python package index has under another name, or does not have."""

from __future__ import annotations

RENAMED = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "torchvision-cpu": "torchvision",
    "tensorflow-base": "tensorflow",
    "tensorflow-eigen": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "keras-gpu": "keras",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "py-lightgbm": "lightgbm",
    "fbprophet": "prophet",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
    "dask-core": "dask",
    "pytables": "tables",
    "msgpack-python": "msgpack",
    "psycopg2": "psycopg2-binary",
    "python-graphviz": "graphviz",
    "yaml": "pyyaml",
    "ruamel_yaml": "ruamel.yaml",
    "faiss": "faiss-cpu",
    "pyarrow-core": "pyarrow",
    "jupyter_client": "jupyter-client",
}
"""Names of conda packages, lower case, and what the index calls them."""

SAME_PROGRAM = {"sklearn": "scikit-learn"}
"""Names that people write in pip lists as well, and that the index keeps only to say that they are wrong."""

CONDA_ONLY = frozenset(
    (
        *(
            "anaconda",
            "conda",
            "mamba",
            "pip",
            "python",
            "python_abi",
            "nomkl",
            "cpuonly",
            "blas",
            "libblas",
            "openblas",
        ),
        *("mkl", "mkl-service", "mkl_fft", "mkl_random", "intel-openmp", "tbb", "llvm-openmp"),
        *("cudatoolkit", "cudatoolkit-dev", "cudnn", "cuda", "nccl", "pytorch-cuda", "pytorch-mutex"),
        *("openmpi", "mpich", "mpi", "gcc", "gxx", "compilers", "c-compiler", "cxx-compiler", "make", "git", "nodejs"),
        *("openssl", "ca-certificates", "zlib", "bzip2", "xz", "sqlite", "readline", "ncurses", "tk", "ffmpeg"),
        *("pandoc", "graphviz", "openjdk", "java-jdk", "r-base", "r-essentials", "unixodbc", "freetds", "tesseract"),
    )
)
"""Names of conda packages, lower case, that are no Python packages."""

CONDA_ONLY_PREFIXES = ("_", "cuda-", "lib", "r-", "gcc_", "gxx_", "vs20")
"""How the names of further ones begin."""


def index_name(name: str) -> str | None:
    """Return what the package index calls a conda package, or None if it has no such package."""
    lower = name.lower()
    if lower in CONDA_ONLY or lower.startswith(CONDA_ONLY_PREFIXES):
        return None
    return RENAMED.get(lower, name)
