"""Images of a Docker engine: brought there when a step needs one, and known by what is in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_mlpipe.engine.docker_engine import DockerEngine, refusals
from airflow_mlpipe.engine.image_registry import TargetRegistry, full_name, registry_of, repository_of
from airflow_mlpipe.engine.image_transfer import followed, is_missing, is_refusal, moved
from airflow_mlpipe.errors import ConfigError, MlpipeError, ServiceError, UnreachableError
from airflow_mlpipe.model.compute import ComputeSpec

_DIGEST = "sha256:"

_log = logging.getLogger(__name__)


class Images:
    """The images of one engine, for the steps of one compute target.

    Attributes:
        registry: the target's own.
    """

    def __init__(self, engine: DockerEngine, compute: ComputeSpec, workspace: Path) -> None:
        """Look at `engine` for steps on `compute`; `workspace` is the folder of the workspace, for its connections."""
        self._engine = engine
        self._compute = compute
        self.registry = TargetRegistry(compute, workspace)

    def present(self, image: str) -> Mapping[str, Any] | None:
        """Return what the engine says of an image that it has, or None.

        Raises:
            ServiceError: if the engine does not answer, or `image` is no name of one.
        """
        from docker.errors import NotFound

        try:
            with refusals(self._engine.url):
                found: Mapping[str, Any] = self._engine.client.inspect_image(image)
                return found
        except ServiceError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise

    def bring(self, image: str, stop: Callable[[], str | None], content: str | None = None) -> str:
        """Return what an image is called on the engine; it is pulled if it is not there.

        Args:
            image: its name.
            stop: asked now and then; an answer other than None is the reason to end.
            content: what :meth:`identity` has told of it: that and nothing newer is brought. By default, what its tag
                means now in the target's own registry, and whatever the engine has of any other.

        Raises:
            ConfigError: if there is no such image, or this user may not have it.
            UnreachableError: if it cannot be pulled now.
            StepStoppedError: if it was ended on request.
        """
        if content is None and self.registry.holds(image):
            content = self.identity(image)
        if content is None or not content.startswith(_DIGEST) or "@" in image:
            self._pull_missing(image, stop)
            return image
        # A tag may move on at any moment; these names stay.
        exact = f"{repository_of(image)}@{content}"
        if self.present(exact) is not None:
            return exact
        if (found := self.present(content)) is not None:
            return image if image in (found.get("RepoTags") or ()) else content
        self._pull_missing(exact, stop, image)
        # As a pull by the tag leaves it: else nobody knows what the image is there for.
        repository = repository_of(image)
        with refusals(self._engine.url):
            self._engine.client.tag(exact, repository, image.removeprefix(repository).lstrip(":") or "latest")
        return exact

    def _pull_missing(self, name: str, stop: Callable[[], str | None], image: str | None = None) -> None:
        """Pull `name` if the engine has it not; people know it as `image`."""
        if self.present(name) is not None:
            return
        image = image or name
        _log.info("pulling image '%s'", image)
        reason = moved(f"the pull of image '{image}'", lambda: self.pull(name, stop), stop)
        if reason is None and self.present(name) is None:
            reason = "it has vanished"
        if reason is not None:
            raise self._not_pulled(image, reason)

    def _not_pulled(self, image: str, reason: str) -> MlpipeError:
        text = (
            f"compute target '{self._compute.name}': image '{image}' is not on the Docker engine at "
            f"{self._engine.url} and cannot be pulled from {self.asked(image)}: {reason}"
        )
        missing, refused = is_missing(reason), is_refusal(reason)
        if not missing and not refused:
            return UnreachableError(
                f"{text}; correct its name, load or build it there, or see that the engine reaches it"
            )
        # Some registries do not tell the one from the other.
        ways = ["correct its name", "push it to that registry"] if missing else []
        if refused and self.login(image) is None:
            ways.append("let the target name a connection with user and password for that registry (registry_conn_id)")
        elif refused:
            ways.append("correct that connection's user and password, or what this user may read")
        return ConfigError(f"{text}; {', or '.join([*ways, 'load or build it there'])}")

    def asked(self, image: str) -> str:
        """Return which registry is asked for an image, and by which connection, for people."""
        host = registry_of(image)
        if self.registry.place is None or registry_of(f"{self.registry.place}/x") != host:
            return f"{host} with no connection"
        return f"{host} with connection '{self.registry.conn_id}'{'' if self.login(image) else ', which has no user'}"

    def pull(self, image: str, stop: Callable[[], str | None]) -> str | None:
        """Pull an image once; return why it could not be, or None.

        Raises:
            UnreachableError: if the engine does not answer.
            StepStoppedError: if it was ended on request.
        """
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        try:
            with refusals(self._engine.url):
                said = self._engine.client.pull(
                    repository, tag=tag or "latest", stream=True, decode=True, auth_config=self.login(image)
                )
                return followed(f"the pull of image '{image}'", said, stop)
        except UnreachableError:
            raise
        except ServiceError as error:
            return error.message.partition("refuses: ")[2] or error.message

    def login(self, image: str) -> dict[str, str] | None:
        """Return user and password for the registry of an image, if the target names a connection of that registry.

        Raises:
            ConfigError: if there is no such connection.
        """
        return self.registry.login(image)

    def login_refused(self, image: str) -> str | None:
        """Return why the registry of an image does not know the target's user, or None: it does, or has not said."""
        auth = self.login(image)
        if auth is None:
            return "authentication required"
        try:
            with refusals(self._engine.url):
                self._engine.client.login(**auth, registry=registry_of(image), reauth=True)
        except ServiceError as error:
            reason = error.message.partition("refuses: ")[2]
            return reason if is_refusal(reason) else None
        return None

    def identity(self, image: str) -> str | None:
        """Return what an image's content is called for good, or None where neither engine nor registry can tell.

        The digest in its registry if it has one - the same for every engine - else the id of what is built here. What a
        tag means in the target's own registry is asked each time; of any other, what the engine has counts.

        Raises:
            ServiceError: if the engine does not answer.
        """
        if f"@{_DIGEST}" in image:
            return image.partition("@")[2]
        found = self.present(image)
        own = self._is_own(image)
        digest = self._of_registry(image, warn=own and found is not None) if own or found is None else None
        if digest is not None or found is None:
            return digest
        for each in found.get("RepoDigests") or ():
            name, _, digest = each.partition("@")
            if full_name(name) == full_name(repository_of(image)):
                return str(digest)
        return str(found["Id"])

    def _is_own(self, image: str) -> bool:
        try:
            return self.registry.holds(image)
        except MlpipeError:
            # A machine that only submits need not have the connection; a step says what is wrong with it.
            return False

    def _of_registry(self, image: str, warn: bool) -> str | None:
        try:
            with refusals(self._engine.url):
                about = self._engine.client.inspect_distribution(image, auth_config=self.login(image))
                return str(about["Descriptor"]["digest"])
        except (MlpipeError, KeyError) as error:
            reason = str(error).partition("refuses: ")[2] or str(error)
            if warn and not is_missing(reason):
                _log.warning(
                    "compute target '%s': what image '%s' is now cannot be asked of %s, and what the engine has of it "
                    "counts: %s",
                    self._compute.name,
                    image,
                    self.asked(image),
                    reason,
                )
            return None
