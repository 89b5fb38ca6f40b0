"""Images of environments: built once for each content by the engine that runs the steps, pushed to a registry."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from airflow_mlpipe.engine.docker_engine import LABEL, DockerEngine, refusals, url_of
from airflow_mlpipe.engine.image_registry import repository_of
from airflow_mlpipe.engine.image_transfer import followed, is_missing, is_refusal, moved
from airflow_mlpipe.engine.images import Images
from airflow_mlpipe.errors import ConfigError, EnvironmentBuildError, MlpipeError, StepStoppedError, UnreachableError
from airflow_mlpipe.execution.image_arguments import plain_arguments, recipe_arguments
from airflow_mlpipe.execution.image_recipe import DOCKERFILE, ImageRecipe, image_recipe
from airflow_mlpipe.execution.turn import take_turn
from airflow_mlpipe.execution.uv import Say, never
from airflow_mlpipe.model.compute import ComputeSpec, DockerSettings
from airflow_mlpipe.model.digest import digest_bytes, hex_part
from airflow_mlpipe.model.environment import EnvironmentLock, EnvironmentSpec
from airflow_mlpipe.storage.home import home

BUILT_LABEL = f"{LABEL}.environment"
"""Label of every image that is built here: the environment's name when it was built first."""

RECIPE_LABEL = f"{BUILT_LABEL}.recipe"
"""Label of every image that is built here: the digest of what it was built of."""

_REPOSITORY = "mlpipe-env"
_SHORT = 24
_LINES = 20
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ImageBuilder:
    """Builds the images of environments on one engine, for one compute target."""

    def __init__(self, engine: DockerEngine, compute: ComputeSpec, images: Images) -> None:
        """Build on `engine` for steps on `compute`, whose `images` are there already."""
        self._engine = engine
        self._compute = compute
        self._settings = compute.docker or DockerSettings()
        self._images = images

    def provide(
        self,
        spec: EnvironmentSpec,
        lock: EnvironmentLock | None,
        *,
        say: Say,
        stop: Callable[[], str | None],
        content: str | None = None,
    ) -> str:
        """Return the name of the image that steps of an environment run in, once the engine has it.

        Args:
            spec: the environment.
            lock: its packages; None for an image as it is.
            say: given each line of progress.
            stop: asked now and then; an answer other than None is the reason to end.
            content: of the image that the environment names, where it was planned for; see :meth:`Images.bring`.

        Raises:
            ConfigError: if there is no image, or none of its name, or its registry refuses.
            EnvironmentBuildError: if it cannot be built.
            UnreachableError: if the engine does not answer, or a registry does not.
            StepStoppedError: if it was ended on request.
        """
        base = self._base(spec, lock, say, stop, content)
        if lock is None:
            return base
        # What a tag means may change; what is built on must not.
        image = self._images.present(base)
        pinned = base if image is None else self._pinned(str(image["Id"]))
        taken = [each.partition("=")[0] for each in ((image or {}).get("Config") or {}).get("Env") or ()]
        arguments = partial(recipe_arguments, taken, base)
        return self._provided(image_recipe(lock, pinned), spec.name, _REPOSITORY, arguments, say, stop)

    def _base(
        self,
        spec: EnvironmentSpec,
        lock: EnvironmentLock | None,
        say: Say,
        stop: Callable[[], str | None],
        content: str | None,
    ) -> str:
        if spec.dockerfile:
            recipe = ImageRecipe(spec.dockerfile, {}, digest_bytes(spec.dockerfile.encode()))
            return self._provided(recipe, spec.name, f"{_REPOSITORY}-base", plain_arguments, say, stop)
        base = spec.image or self._settings.image
        if not base:
            what = "an image to run in" if lock is None else "an image to install its packages on"
            raise ConfigError(
                f"environment '{spec.name}' names no image, and compute target '{self._compute.name}' has no default; "
                f"name {what}: docker.base_image of the environment, or "
                "DockerCompute.attach_configuration(image='python:3.11-slim')"
            )
        return self._images.bring(base, stop, content if spec.image else None)

    def _pinned(self, image_id: str) -> str:
        """Return a name of an image that always means this one; it is the same on every engine that has it."""
        name = f"{_REPOSITORY}-base:{image_id.rpartition(':')[2][:_SHORT]}"
        with refusals(self._engine.url):
            self._engine.client.tag(image_id, *name.rsplit(":", 1))
        return name

    def _provided(
        self,
        recipe: ImageRecipe,
        environment: str,
        repository: str,
        arguments: Callable[[], dict[str, str]],
        say: Say,
        stop: Callable[[], str | None],
    ) -> str:
        registry = self._images.registry.place
        key = hex_part(recipe.digest)[:_SHORT]
        name = f"{registry}/{repository}:{key}" if registry else f"{repository}:{key}"
        if self._is_done(name):
            return name
        with ExitStack() as stack:
            turn = home() / "images" / f"{key}.lock"
            take_turn(stack, turn, environment, what="the image of ", say=say, stop=stop)
            if self._is_done(name) or (registry and self._pulled(name, environment, stop)):
                return name
            if self._images.present(name) is None:
                say(f"building image {name} of environment '{environment}'")
                self._build(recipe, name, environment, arguments(), say, stop)
            if registry:
                say(f"pushing image {name}")
                self._push(name, environment, stop)
        return name

    def _is_done(self, name: str) -> bool:
        """Whether the engine has an image, and its registry too: one that was pulled or pushed has a digest there."""
        found = self._images.present(name)
        if found is None or self._images.registry.place is None:
            return found is not None
        return any(each.startswith(f"{repository_of(name)}@") for each in found.get("RepoDigests") or ())

    def _pulled(self, name: str, environment: str, stop: Callable[[], str | None]) -> bool:
        """Pull what another engine may have built and pushed; returns whether it was there.

        Raises:
            ConfigError: if the registry does not know the target's user: what is built could not be pushed.
            UnreachableError: if it cannot be asked.
        """
        reason = moved(f"the pull of image '{name}'", lambda: self._images.pull(name, stop), stop)
        if reason is None:
            return self._images.present(name) is not None
        if is_missing(reason):
            return False
        if is_refusal(reason):
            # Many registries refuse to tell a user that they know of what is not there yet.
            reason = self._images.login_refused(name)
            if reason is None:
                return False
        raise self._not_shared(f"image {name} of environment '{environment}' is not built", reason, name)

    def _build(
        self,
        recipe: ImageRecipe,
        name: str,
        environment: str,
        arguments: dict[str, str],
        say: Say,
        stop: Callable[[], str | None],
    ) -> None:
        # A step that runs without a network still has packages that come over one.
        network = self._settings.network_mode
        lines: list[str] = []
        with refusals(self._engine.url):
            said = self._engine.client.build(
                fileobj=_context(recipe),
                custom_context=True,
                tag=name,
                rm=True,
                forcerm=True,
                decode=True,
                buildargs=arguments,
                network_mode=None if network == "none" else network,
                # So no two recipes make one image, and what the engine knows of one is not taken for the other's.
                labels={BUILT_LABEL: environment, RECIPE_LABEL: recipe.digest},
            )
            for entry in said:
                if (reason := stop()) is not None:
                    said.close()
                    raise StepStoppedError(f"environment '{environment}' is not built: {reason}")
                for line in _ESCAPE.sub("", str(entry.get("stream") or entry.get("status") or "")).splitlines():
                    if line.strip():
                        lines.append(line.rstrip())
                        say(lines[-1])
                if "error" in entry:
                    raise _failed(environment, str(entry["error"]), lines)

    def _push(self, name: str, environment: str, stop: Callable[[], str | None]) -> None:
        repository, tag = name.rsplit(":", 1)
        what = f"the push of image '{name}'"

        def push() -> str | None:
            with refusals(self._engine.url):
                said = self._engine.client.push(
                    repository, tag=tag, stream=True, decode=True, auth_config=self._images.login(name)
                )
                return followed(what, said, stop)

        reason = moved(what, push, stop)
        if reason is not None:
            done = f"image {name} of environment '{environment}' is built and cannot be pushed"
            raise self._not_shared(done, reason, name)

    def _not_shared(self, what: str, reason: str, name: str) -> MlpipeError:
        """Return the error for an image that its registry does not take."""
        text = f"compute target '{self._compute.name}': {what}: {self._images.asked(name)} says: {reason}"
        if is_refusal(reason) or is_missing(reason):
            return ConfigError(
                f"{text}; correct that connection's host, user and password, or what this user may write"
            )
        return UnreachableError(f"{text}; see whether that registry is reached from the engine")


def _context(recipe: ImageRecipe) -> io.BytesIO:
    """Return the build context as a tar. It has no times: the same recipe is the same context."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in sorted({DOCKERFILE: recipe.dockerfile.encode(), **recipe.files}.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


def _failed(environment: str, error: str, lines: list[str]) -> EnvironmentBuildError:
    head = f"environment '{environment}': its image cannot be built: {' '.join(error.split())}"
    return EnvironmentBuildError("\n".join([head, *(f"    {line}" for line in lines[-_LINES:])]))


def build_at(
    workspace: Path, compute: ComputeSpec, spec: EnvironmentSpec, lock: EnvironmentLock | None, say: Say
) -> str:
    """Return the name of an environment's image, built by the engine of a compute target if need be.

    Args:
        workspace: the workspace's own folder.
        compute: a target of kind docker, as it really runs.
        spec: the environment.
        lock: its packages; None for an image as it is.
        say: given each line of progress.

    Raises:
        ConfigError, EnvironmentBuildError, ServiceError: as :meth:`ImageBuilder.provide`.
    """
    with closing(DockerEngine.at(url_of(compute))) as engine:
        builder = ImageBuilder(engine, compute, Images(engine, compute, workspace))
        return builder.provide(spec, lock, say=say, stop=never)
