"""Run the stand-in until SIGTERM, or until the process that started it ends."""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import json
import secrets
import shutil
import signal
import ssl
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from . import admission, certificate
from .engine import Engine
from .faults import Faults
from .kubelet import Kubelet
from .nodes import Nodes
from .server import Server
from .store import Store
from .volumes import Volumes

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument("--name", required=True, help="marks this cluster's containers on the engine")
    parser.add_argument(
        "--folder",
        required=True,
        type=Path,
        help="a new folder of its own, removed at the end; kubeconfig.json is written there",
    )
    parser.add_argument("--engine", default="/var/run/docker.sock", help="the Docker engine's socket")
    parser.add_argument(
        "--network", choices=("host", "none"), default="host", help="of pods that do not ask for the host's"
    )
    parser.add_argument(
        "--sandbox-image", default="", help="an image with sleep, for pods that share processes or have no network"
    )
    parser.add_argument(
        "--backoff", type=float, default=0.5, help="the first pause before anything is tried again, in seconds"
    )
    # A cluster whose test session was killed would be there for ever.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    token, account_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    store, engine = Store(), Engine(options.engine)
    await engine.open()
    for namespace in ("default", "kube-system"):
        admission.admit(store, "namespaces", "", {"metadata": {"name": namespace}})
    node = Kubelet(
        cluster=options.name,
        engine=engine,
        store=store,
        nodes=Nodes(store),
        volumes=Volumes(store, options.folder, account_token),
        faults=Faults(),
        network=options.network,
        sandbox_image=options.sandbox_image,
        backoff_s=options.backoff,
    )
    runner = web.AppRunner(Server(node, token, account_token).app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    shown, key = certificate.write(options.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _write_kubeconfig(options.folder, f"https://127.0.0.1:{port}", shown, token)
    await stopped.wait()
    engine.patient = False
    with suppress(TimeoutError):
        await asyncio.wait_for(node.close(), 20)
    await runner.cleanup()
    await engine.close()
    # Whoever started it may have been killed.
    shutil.rmtree(options.folder, ignore_errors=True)


def _write_kubeconfig(folder: Path, url: str, shown: Path, token: str) -> None:
    """Written last and at once: it is the sign that the server answers."""
    authority = base64.b64encode(shown.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "standin",
        "contexts": [{"name": "standin", "context": {"cluster": "standin", "user": "tests", "namespace": "default"}}],
        "clusters": [{"name": "standin", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "tests", "user": {"token": token}}],
    }
    draft = folder / "kubeconfig.draft"
    draft.write_text(json.dumps(config), "utf-8")
    draft.rename(folder / "kubeconfig.json")


if __name__ == "__main__":
    main()
