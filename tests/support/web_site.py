"""A small web server on 127.0.0.1: serves a folder with ETags and ranges, as servers of data do."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Site:
    """What is served, how, and what was asked.

    Attributes:
        folder: its files are the site.
        url: its address.
        etags: whether answers have an ETag.
        lengths: whether answers tell their length.
        ranges: whether ranges are understood.
        requests: method, path and headers of all requests.
        answers: of special paths: a function that answers a request itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.etags = self.lengths = self.ranges = True
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Serve a folder until the body ends."""
    site = Site(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, site)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def redirect(handler: BaseHTTPRequestHandler, target: str) -> None:
    """Answer that it is elsewhere."""
    handler.send_response(302)
    handler.send_header("Location", target)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    site.requests.append((handler.command, handler.path, dict(handler.headers)))
    special = site.answers.get(handler.path)
    if special is not None:
        special(handler)
        return
    path = site.folder / unquote(urlsplit(handler.path).path).lstrip("/")
    if not path.is_file():
        handler.send_error(404)
        return
    data = path.read_bytes()
    etag = f'"{hashlib.sha1(data).hexdigest()}"'
    wanted = handler.headers.get("If-Match")
    if site.etags and wanted not in (None, etag):
        handler.send_error(412)
        return
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "")) if site.ranges else None
    part = data
    if asked is not None:
        start, end = int(asked[1]), int(asked[2] or len(data) - 1)
        if start >= len(data):
            handler.send_error(416)
            return
        part = data[start : end + 1]
    handler.send_response(200 if asked is None else 206)
    if asked is not None:
        handler.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
    if site.etags:
        handler.send_header("ETag", etag)
    handler.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
    if site.lengths:
        handler.send_header("Content-Length", str(len(part)))
    else:
        handler.send_header("Connection", "close")
        handler.close_connection = True
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(part)
