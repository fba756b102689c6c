"""A Hugging Face hub on loopback, which answers what `datasets` and `huggingface_hub` request from huggingface.co."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    """Serves the files of one dataset or model, `owner/name`, at one revision. `asked` lists the requests received."""

    id = "owner/name"

    def __init__(self, files: Mapping[str, bytes], kind: Literal["datasets", "models"] = "datasets") -> None:
        self.files, self.asked, self.kind = dict(files), list[str](), kind
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self)

            do_GET = do_POST = do_HEAD

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        posted = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append(f"{request.command} {path}")
        about, files = f"/api/{self.kind}/{self.id}", f"{'/datasets' if self.kind == 'datasets' else ''}/{self.id}"
        if path in (about, f"{about}/revision/{REVISION}", f"{about}/revision/main"):
            found: object = {"id": self.id, "sha": REVISION, "siblings": [{"rfilename": name} for name in self.files]}
        elif path.startswith(tree := f"{about}/tree/{REVISION}"):
            found = self._listing(path.removeprefix(tree).strip("/"))
        elif path == f"{about}/paths-info/{REVISION}":
            wanted = json.loads(posted)["paths"]
            found = [self._entry(name) for name in self.files if name in wanted]
        elif (name := re.sub(f"^{files}/resolve/(main|{REVISION})/", "", path)) in self.files:
            self._send(request, self.files[name], ETag=f'"{self._oid(name)}"', **{"X-Repo-Commit": REVISION})
            return
        else:
            missing = "EntryNotFound" if self.id in path else "RepoNotFound"
            self._send(request, b"", 404, **{"X-Error-Code": missing, "X-Request-Id": "Root=1"})
            return
        self._send(request, json.dumps(found).encode(), **{"Content-Type": "application/json"})

    def _entry(self, name: str) -> dict[str, object]:
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": self._oid(name)}

    def _oid(self, name: str) -> str:
        return hashlib.sha1(self.files[name]).hexdigest()

    def _listing(self, folder: str) -> list[dict[str, object]]:
        """Return the entries of the files and folders directly in `folder`; "" is the root."""
        inside = [name for name in self.files if folder in ("", name.rpartition("/")[0])]
        folders = {name.partition("/")[0] for name in self.files if "/" in name and not folder}
        known = [self._entry(name) for name in inside if "/" not in name.removeprefix(folder).lstrip("/")]
        return [*known, *({"type": "directory", "path": name, "oid": REVISION, "size": 0} for name in sorted(folders))]

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
        """Send the body, or the part of it in the requested range."""
        first, last = 0, len(body) - 1
        if asked := request.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        part = body[first : last + 1]
        request.send_response(206 if asked else status)
        for name, value in (headers | {"Content-Length": str(len(part)), "Accept-Ranges": "bytes"}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(part)
