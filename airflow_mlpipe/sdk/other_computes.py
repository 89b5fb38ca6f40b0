"""v1's other kinds of compute, by name: importing them works, using them says what to use."""

from __future__ import annotations

from typing import Any, NoReturn

from airflow_mlpipe.errors import NotSupportedError

_INSTEAD = {
    "AdlaCompute": "Azure Data Lake Analytics was shut down in 2024",
    "AksCompute": "for pipelines attach the cluster: KubernetesCompute.attach_configuration(...)",
    "ComputeInstance": "a step without compute_target= runs on the worker's machine",
    "DataFactoryCompute": "a DataTransferStep needs no compute_target=",
    "DsvmCompute": "attach the machine's engine: DockerCompute.attach_configuration(engine_url=...)",
    "KustoCompute": "put an operator of Airflow's beside the pipeline: Pipeline.to_task_group()",
}


class _Unsupported(type):
    """A class that exists in v1 and is not supported: whatever is done with it says so."""

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        cls._refuse("")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> NoReturn:
            cls._refuse(f".{name}()")

        return refuse

    def _refuse(cls, what: str) -> NoReturn:
        raise NotSupportedError(
            f"{cls.__name__}{what} is not supported yet; supported are AmlCompute, KubernetesCompute and "
            f"DockerCompute; {_INSTEAD[cls.__name__]}"
        )


class AdlaCompute(metaclass=_Unsupported):
    """v1's Azure Data Lake Analytics; not supported."""


class AksCompute(metaclass=_Unsupported):
    """v1's cluster for web services; not supported."""


class ComputeInstance(metaclass=_Unsupported):
    """v1's development machine; not supported."""


class DataFactoryCompute(metaclass=_Unsupported):
    """v1's Azure Data Factory, for data transfers; not supported, and not needed."""


class DsvmCompute(metaclass=_Unsupported):
    """v1's data science virtual machine; not supported."""


class KustoCompute(metaclass=_Unsupported):
    """v1's Azure Data Explorer; not supported."""
