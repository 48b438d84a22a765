"""A stand-in for the Hugging Face Hub: the requests that huggingface_hub makes to read and write a model repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_standin"
LARGE = 10_000  # bytes; larger files are uploaded and downloaded by Git LFS
_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"


@dataclass
class Repository:
    """A model repository: its branches, and the files of every commit."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, changes: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; return its hash."""
        files = {**self.commits.get(self.branches.get(branch, ""), {}), **changes}
        content = json.dumps([[name, hashlib.sha256(data).hexdigest()] for name, data in sorted(files.items())])
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """Return the files of a branch."""
        return self.commits[self.branches[branch]]


class Hub(ThreadingHTTPServer):
    """The server, with its repositories; it listens on a port of its own.

    Attributes:
        repositories: OWNER/NAME -> repository.
        requests: method, path and headers of every request.
        broken: status code that every request is answered with; None: as the hub answers.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stored: dict[str, bytes] = {}
        self.broken: int | None = None
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes], private: bool = False, gated: bool = False) -> Repository:
        """Add a repository with one commit."""
        made = self.repositories[name] = Repository(private, gated)
        made.commit(files)
        return made


@contextmanager
def running() -> Iterator[Hub]:
    """Run a server in a thread."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class RefusedError(Exception):
    """An answer that is an error: status, the code that the hub sends in X-Error-Code, and the commit, if it is known."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, answer: object, status: int = 200, **headers: str) -> None:
        self._answer(status, json.dumps(answer).encode(), Content_Type="application/json", **headers)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append((self.command, path, dict(self.headers)))
        try:
            if self.server.broken is not None:
                raise RefusedError(self.server.broken, "")
            for method, pattern, act in _ROUTES:
                if self.command in method and (found := re.fullmatch(pattern, path)):
                    act(self, body, **found.groupdict())
                    return
            raise AssertionError(f"no answer for {self.command} {path}")
        except RefusedError as error:
            status, code, *commit = error.args
            self._json({"error": code}, status, X_Error_Code=code, **({"X_Repo_Commit": commit[0]} if commit else {}))

    do_HEAD = do_GET = do_POST = do_PUT = _handle  # noqa: N815

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self._authorised()):
            raise RefusedError(404 if self._authorised() else 401, "RepoNotFound")
        return found

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repository(name)
        oid = found.branches.get(revision, revision)
        if oid not in found.commits:
            raise RefusedError(404, "RevisionNotFound")
        return oid, found.commits[oid]

    def info(self, _: bytes, repository: str, revision: str | None = None) -> None:
        oid, files = self._files(repository, revision or "main")
        self._json({"id": repository, "modelId": repository, "sha": oid, "tags": [],
                    "private": self._repository(repository).private, "siblings": [{"rfilename": name} for name in files]})

    def resolve(self, _: bytes, repository: str, revision: str, file: str) -> None:
        if self._repository(repository).gated and not self._authorised():
            raise RefusedError(401, "GatedRepo")
        oid, files = self._files(repository, revision)
        if file not in files:
            raise RefusedError(404, "EntryNotFound", oid)
        data = files[file]
        sha256, sha1 = hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if len(data) <= LARGE:
            self._answer(200, data, ETag=f'"{sha1}"', X_Repo_Commit=oid)
            return
        self.server.stored[sha256] = data
        elsewhere = self.server.url.replace("127.0.0.1", "localhost")  # another host, as that of large files is
        self._answer(302, Location=f"{elsewhere}/stored/{sha256}", X_Linked_ETag=f'"{sha256}"',
                     X_Linked_Size=str(len(data)), X_Repo_Commit=oid)

    def get_stored(self, _: bytes, sha256: str) -> None:
        assert "Authorization" not in self.headers  # another host must not get the token
        self._answer(200, self.server.stored[sha256])

    def put_stored(self, body: bytes, sha256: str) -> None:
        assert hashlib.sha256(body).hexdigest() == sha256
        self.server.stored[sha256] = body
        self._answer(200)

    def create(self, body: bytes) -> None:
        if not self._authorised():
            raise RefusedError(401, "")
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "others":
            raise RefusedError(403, "")
        if name in self.server.repositories:
            self._json({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
            return
        made = self.server.repositories[name] = Repository(asked.get("visibility") == "private" or asked.get("private") is True)
        made.commit({".gitattributes": b"*.onnx filter=lfs diff=lfs merge=lfs -text\n"})
        self._json({"url": f"{self.server.url}/{name}"})

    def validate(self, body: bytes) -> None:
        text = json.loads(body)["content"]
        fields = dict(re.findall(r"^(license\w*): (.+)$", text, re.MULTILINE))
        datasets = re.search(r"^datasets:\n((?:- .+\n)+)", text, re.MULTILINE)
        wrong = []
        if not re.fullmatch(r"cc-by(-nc)?(-sa)?-4\.0|mit|apache-2\.0|other", fields.get("license", "")):
            wrong.append(f'"license" must not be {fields.get("license")}')
        elif fields["license"] == "other" and not ("license_name" in fields and fields.get("license_link") == "LICENSE"):
            wrong.append('"license_link" must be LICENSE, LICENSE.md or a URL')
        wrong += [f'"datasets" with value {line[2:]} is not valid' for line in (datasets[1].splitlines() if datasets else ())
                  if not re.fullmatch(r"- [\w.-]+(/[\w.-]+)?", line)]
        self._json({"errors": [{"message": each} for each in wrong], "warnings": []}, 400 if wrong else 200)

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        self._files(repository, revision)
        answers = [{"path": each["path"], "uploadMode": "lfs" if each["size"] > LARGE else "regular", "shouldIgnore": False}
                   for each in json.loads(body)["files"]]
        self._json({"files": answers})

    def batch(self, body: bytes, repository: str) -> None:
        self._repository(repository)
        self._json({"transfer": "basic", "objects": [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/stored/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]})

    def commit(self, body: bytes, repository: str, revision: str) -> None:
        if not self._authorised():
            raise RefusedError(401, "")
        _, changes = self._files(repository, revision)[0], {}
        for line in body.decode().splitlines():
            step = json.loads(line)
            value: dict[str, str] = step["value"]
            if step["key"] == "file":
                assert value["encoding"] == "base64"
                changes[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                changes[value["path"]] = self.server.stored[value["oid"]]
        oid = self._repository(repository).commit(changes, revision)
        self._json({"commitUrl": f"{self.server.url}/{repository}/commit/{oid}", "commitOid": oid})


_ROUTES: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (("GET",), rf"/api/models/{_REPOSITORY}", _Handler.info),
    (("GET",), rf"/api/models/{_REPOSITORY}/revision/(?P<revision>.+)", _Handler.info),
    (("GET", "HEAD"), rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve),
    (("GET", "HEAD"), r"/stored/(?P<sha256>\w+)", _Handler.get_stored),
    (("PUT",), r"/stored/(?P<sha256>\w+)", _Handler.put_stored),
    (("POST",), r"/api/repos/create", _Handler.create),
    (("POST",), r"/api/validate-yaml", _Handler.validate),
    (("POST",), rf"/api/models/{_REPOSITORY}/preupload/(?P<revision>.+)", _Handler.preupload),
    (("POST",), rf"/api/models/{_REPOSITORY}/commit/(?P<revision>.+)", _Handler.commit),
    (("POST",), rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler.batch),
)
