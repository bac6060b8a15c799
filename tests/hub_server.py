"""A Hub of one model, and of data sets, for tests: what huggingface_hub asks for, over HTTP on this machine.

with Hub(folder, "org/model") as hub:               # HF_ENDPOINT=hub.url
    ...
    hub.fetched                                     # names of files, in the order they were asked for
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of `folder` as the model `name`; bytes of what is in `damaged` are changed.

    Of what is in `stalled` one half comes. `sets` are folders of data sets by their names, `ranges` the first
    bytes of those files that were asked for from their middle on.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.sets: dict[str, Path] = {}
        self.damaged: set[str] = set()
        self.fetched: list[str] = []
        self.stalled: set[str] = set()
        self.ranges: list[int] = []
        self.ended = threading.Event()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def repository(self, path: str) -> tuple[str, Path, str] | None:
        """The name, folder and kind (models, datasets) of what a path of the API or of a file is about."""
        found = [(self.name, self.folder, "models"), *((n, f, "datasets") for n, f in self.sets.items())]
        for name, folder, kind in found:
            files = f"/{name}/resolve/" if kind == "models" else f"/datasets/{name}/resolve/"
            if path.startswith((f"/api/{kind}/{name}", files)):
                return name, folder, kind
        return None

    def info(self, name: str, folder: Path) -> dict[str, Any]:
        """What the API says of a model or data set, with the files' sizes."""
        files = []
        for path in sorted(folder.iterdir()):
            entry: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40}
            if path.suffix == ".safetensors":
                entry["lfs"] = {"sha256": digest(path), "size": entry["size"], "pointerSize": 134}
            files.append(entry)
        return {"_id": "0", "id": name, "modelId": name, "sha": COMMIT, "siblings": files}

    def tree(self, name: str, folder: Path) -> list[dict[str, Any]]:
        """The same files as entries of a folder."""
        return [
            {
                "type": "file",
                "path": file["rfilename"],
                "size": file["size"],
                "oid": file["blobId"],
                **({"lfs": {"oid": file["lfs"]["sha256"], **file["lfs"]}} if "lfs" in file else {}),
            }
            for file in self.info(name, folder)["siblings"]
        ]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def _answer(self, body: bool) -> None:
        hub, path = self.server_hub, urlsplit(self.path).path
        found = hub.repository(path)
        if found is None:
            self._not_found("RepoNotFound")
            return
        repository, folder, _ = found
        if path.startswith("/api/"):
            if "/tree/" in path and not path.endswith(COMMIT):  # a folder: there is none
                self._not_found("EntryNotFound")
                return
            said = hub.tree(repository, folder) if "/tree/" in path else hub.info(repository, folder)
            self._send(json.dumps(said).encode(), {"Content-Type": "application/json"}, body)
            return
        name = path.rpartition("/")[2]
        file = folder / name
        if not file.is_file():
            self._not_found("EntryNotFound")
            return
        content = file.read_bytes()
        if name in hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if body:
            hub.fetched.append(name)
        self._send(content, {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT}, body, name)

    def _not_found(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, headers: dict[str, str], body: bool, name: str = "") -> None:
        hub, size = self.server_hub, len(content)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if first else 200)
        if first:
            hub.ranges.append(first)
            content, headers = (
                content[first:],
                {**headers, "Content-Range": f"bytes {first}-{size - 1}/{size}"},
            )
        for header, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        with suppress(ConnectionError):  # of a client that was killed
            if body and name in hub.stalled:
                self.wfile.write(content[: len(content) // 2])
                hub.ended.wait()
            elif body:
                self.wfile.write(content)
