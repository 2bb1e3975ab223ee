"""A web server on this machine, for what downloads itself."""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """The address of a folder, and the paths asked for so far."""

    url: str
    asked: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """The address of a Hugging Face hub on this machine, and what was asked of it."""

    url: str
    asked: list[str] = field(default_factory=list)
    cut: bool = False  # whether to hang up half-way through every file


def commit_of(repository: str) -> str:
    """The revision that every repository of the served hub is at."""
    return hashlib.sha1(repository.encode()).hexdigest()


@contextmanager
def serving_hub(repositories: Mapping[str, Mapping[str, bytes | Path]], *, token: str = "good") -> Iterator[Hub]:
    """Serves repositories as the hub does: `OWNER/NAME/resolve/main/FILE`, with its headers and error codes.

    A name tells how a repository behaves: `gated/...` and `private/...` want the token, `cut/...` hangs up half-way.
    Below `down/` lies a hub that is out of order.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            repository, _, file = self.path.strip("/").partition("/resolve/main/")
            bearer = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if not file:
                return self.say(503 if repository == "down" else 200, {})
            if bearer and bearer != token:
                return self.say(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            if repository.startswith("gated/") and not bearer:
                return self.say(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
            if repository not in repositories or (repository.startswith("private/") and not bearer):
                return self.say(401 if not bearer else 404, {"X-Error-Code": "RepoNotFound"})
            if file not in repositories[repository]:
                return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit_of(repository)})
            content = repositories[repository][file]
            data = content.read_bytes() if isinstance(content, Path) else content
            facts = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit_of(repository)}
            half, start = hub.cut or repository.startswith("cut/"), _start(self.headers.get("Range"))
            if not start:
                return self.say(200, facts, data, body=body, half=half)
            facts["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.say(206, facts, data[start:], body=body, half=half)

        def say(
            self, status: int, facts: Mapping[str, str], data: bytes = b"", *, body: bool = False, half: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in facts.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data[: len(data) // 2] if half else data)
            self.close_connection = half

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        hub = Hub(url.rstrip("/"))
        yield hub


def _start(asked: str | None) -> int:
    """The first byte of `bytes=START-`, as who goes on with a transfer asks for it; 0 for the whole."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
    return int(match[1]) if match else 0


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(folder: Path, *, cut_off: bool = False) -> Iterator[Site]:
    """Serves a folder; `cut_off` sends half of each file and hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            file = folder / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            data = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut_off else data)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        site = Site(url)
        yield site
