"""A hub of data sets on this machine, which huggingface_hub and `datasets` ask in place of the real one."""

import json
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "5ec47e0" + 33 * "a"


@contextmanager
def local_hub(
    name: str,
    folder: Path,
    *,
    gated: Collection[str] = (),
    cards: Mapping[str, str] | None = None,
    commit: str = COMMIT,
) -> Iterator[tuple[str, list[str]]]:
    """A hub of one data set, `owner/name`: the files train.parquet and test.parquet of a folder, at a commit.

    Under the names `gated` and those of `cards` are the same files; the hub gives nobody those of the former, and the
    latter have a README.md each. Yields its address, for HF_ENDPOINT, and the paths that were asked of it.
    """
    cards = cards or {}
    data = {f"{split}.parquet": (folder / f"{split}.parquet").read_bytes() for split in ("train", "test")}
    sets = {name: data, **dict.fromkeys(gated, data)}
    sets |= {one: data | {"README.md": card.encode()} for one, card in cards.items()}
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            name = "/".join(path.split("/datasets/")[-1].split("/")[:2])
            files = sets.get(name, {})
            if not files:
                return self.send(b"", 404, "RepoNotFound")
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": "0" * 40} for file, content in files.items()
            ]
            if path == f"/api/datasets/{name}/tree/{commit}":
                return self.send(json.dumps(entries).encode())
            if path.startswith(f"/api/datasets/{name}/paths-info/"):
                size = int(self.headers.get("Content-Length") or 0)
                wanted = self.rfile.read(size).decode()
                return self.send(json.dumps([e for e in entries if str(e["path"]) in wanted]).encode())
            if path in (f"/api/datasets/{name}", *(f"/api/datasets/{name}/revision/{r}" for r in ("main", commit))):
                siblings = [{"rfilename": file} for file in files]
                return self.send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())
            file = path.removeprefix(f"/datasets/{name}/resolve/{commit}/")
            if name in gated:
                return self.send(b"", 403, "GatedRepo")
            if file in files:
                return self.send(files[file])
            return self.send(b"", 404, "RevisionNotFound" if "/revision/" in path else "EntryNotFound")

        do_HEAD = do_POST = do_GET

        def send(self, body: bytes, status: int = 200, error: str = "") -> None:
            self.send_response(status)
            for header, value in {
                "Content-Length": str(len(body)),
                "Content-Type": "application/json",
                "ETag": f'"{len(body)}"',
                "X-Repo-Commit": commit,
                "X-Error-Code": error,
            }.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def settings_of(address: str, cache: Path, *, offline: bool = False) -> dict[str, str]:
    """Environment variables by which a process asks the hub at this address."""
    return {
        "HF_HOME": str(cache),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": str(int(offline)),
    }
