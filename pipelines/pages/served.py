"""Reports beside the UI: a browser follows no link from a page of http to a file, so `secateur ui` serves them itself.

On this machine alone, to be read alone: `/STUDY/report.html`, `/STUDY/findings.csv` and `/STUDY/audit.html` of the
home's studies and nothing else.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from secateur.pipelines.pages.inlined import POLICY
from secateur.pipelines.runs.audit_told import LINK
from secateur.pipelines.storage.store import Store

ADDRESS = "SECATEUR_REPORTS"
"""Variable of the environment in which `secateur ui` says where reports are served."""
HOST = "127.0.0.1"
REPORT, FINDINGS, AUDIT = "report.html", "findings.csv", "audit.html"
FILE = re.compile(rf"/([a-z][a-z0-9_]{{0,99}})/({re.escape(REPORT)}|{re.escape(FINDINGS)}|{re.escape(AUDIT)})")
"""Of a study's name nothing but what a name may be is taken."""
TYPES = {file: {"Content-Type": "text/html; charset=utf-8"} for file in (REPORT, AUDIT)}
TYPES[FINDINGS] = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Disposition": f'attachment; filename="{FINDINGS}"',
}
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def link_to(study: str, file: str = REPORT) -> str:
    """Where a file of a study's report is served; empty where it is not."""
    base = os.environ.get(ADDRESS, "")
    return f"{base}/{study}/{file}" if base else ""


def start_beside(root: Path) -> str:
    """Serve the reports of a store in a process that ends when this one does; where they are, also for processes that
    this one starts or becomes.
    """
    with socket.create_server((HOST, 0)) as listening:
        command = [sys.executable, "-m", __name__, str(listening.fileno()), str(root), str(os.getpid())]
        subprocess.Popen(command, pass_fds=[listening.fileno()])
        os.environ[ADDRESS] = f"http://{HOST}:{listening.getsockname()[1]}"
    return os.environ[ADDRESS]


class Reports(ThreadingHTTPServer):
    """The server; it listens on the socket that it is given."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, root: Path) -> None:
        super().__init__((HOST, 0), Answer, bind_and_activate=False)
        self.socket.close()
        self.socket, self.store = listening, Store(root)
        port = listening.getsockname()[1]
        self.names = {f"{host}:{port}" for host in (HOST, "localhost")}

    def report(self, path: str) -> tuple[str, bytes] | None:
        """Name and content of the file at a path; None for every other path, and where a study has no report below the
        store.
        """
        asked = FILE.fullmatch(path)
        folder = self.store.find((asked[1], "audit" if asked[2] == AUDIT else "report")) if asked else None
        if asked is None or folder is None:
            return None
        file = (folder / asked[2]).resolve()
        if not file.is_file() or not file.is_relative_to(self.store.root.resolve()):
            return None
        content = file.read_bytes()
        if asked[2] == REPORT:  # here the audit's page stands beside it, and on disk in the next folder
            content = content.replace(f'href="{LINK}"'.encode(), f'href="{AUDIT}"'.encode())
        return file.name, content


class Answer(BaseHTTPRequestHandler):
    """One answer. Requests by other names of this machine are refused: a page of another host may have made one up to
    read what is served here.
    """

    server: Reports
    server_version, sys_version = "secateur", ""
    timeout = 30

    def do_GET(self) -> None:
        """The file, or that there is none."""
        if self.headers.get("Host") not in self.server.names:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        found = self.server.report(urlsplit(self.path).path)
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND, "No report of this name")
            return
        file, content = found
        self.send_response(HTTPStatus.OK)
        for name, value in {**TYPES[file], **HEADERS}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal is Dagster's."""


def main(descriptor: int, root: Path, parent: int) -> None:
    """Serve until the process that started this one is gone, which it may be already."""
    with Reports(socket.socket(fileno=descriptor), root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while os.getppid() == parent:
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(130)
