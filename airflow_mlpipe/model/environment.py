"""What software a step asks for."""

from __future__ import annotations

from airflow_mlpipe.model.base import Frozen


class EnvironmentSpec(Frozen):
    """The wire form of an ``Environment``.

    Attributes:
        name: name it is registered or curated under; not in the identity of a step.
        version: its version, or None if it was never registered.
        user_managed: True if the interpreter is taken as it is and nothing is installed.
        python_version: wanted Python, e.g. ``3.11``, or None for any.
        conda_packages: conda requirements, sorted.
        pip_packages: pip requirements, sorted.
        docker_image: image to run in, or None.
        variables: environment variables the user set.
    """

    name: str = "current"
    version: str | None = None
    user_managed: bool = False
    python_version: str | None = None
    conda_packages: tuple[str, ...] = ()
    pip_packages: tuple[str, ...] = ()
    docker_image: str | None = None
    variables: dict[str, str] = {}
