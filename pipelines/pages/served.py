"""Reports beside the UI, served over HTTP by `secateur ui`, because a browser follows no link from a page to a file.

For this machine only, and read-only: `/STUDY/report.html`, `/STUDY/findings.csv` and `/STUDY/audit.html` of the home's
studies, nothing else.
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
"""Environment variable with the address of the reports, which `secateur ui` sets."""
HOST = "127.0.0.1"
REPORT, FINDINGS, AUDIT = "report.html", "findings.csv", "audit.html"
FILE = re.compile(rf"/([a-z][a-z0-9_]{{0,99}})/({re.escape(REPORT)}|{re.escape(FINDINGS)}|{re.escape(AUDIT)})")
"""Permitted paths; a study's name must match the rule for names."""
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
    """URL of a file of a study's report; empty if no server runs."""
    base = os.environ.get(ADDRESS, "")
    return f"{base}/{study}/{file}" if base else ""


def start_beside(root: Path) -> str:
    """Serve the reports of a store in a process that ends with this one; returns the address and sets it in the
    environment, also for child processes.
    """
    with socket.create_server((HOST, 0)) as listening:
        command = [sys.executable, "-m", __name__, str(listening.fileno()), str(root), str(os.getpid())]
        subprocess.Popen(command, pass_fds=[listening.fileno()])
        os.environ[ADDRESS] = f"http://{HOST}:{listening.getsockname()[1]}"
    return os.environ[ADDRESS]


class Reports(ThreadingHTTPServer):
    """The server, on an open listening socket."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, root: Path) -> None:
        super().__init__((HOST, 0), Answer, bind_and_activate=False)
        self.socket.close()
        self.socket, self.store = listening, Store(root)
        port = listening.getsockname()[1]
        self.names = {f"{host}:{port}" for host in (HOST, "localhost")}

    def report(self, path: str) -> tuple[str, bytes] | None:
        """Name and content of the file at a path; None for every other path, and for a study without a report in the
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
        if asked[2] == REPORT:  # served, the audit's page is in the same folder; on disk, in the next one
            content = content.replace(f'href="{LINK}"'.encode(), f'href="{AUDIT}"'.encode())
        return file.name, content


class Answer(BaseHTTPRequestHandler):
    """One response. Refuses requests with another host name for this machine, which a page of another host may have
    made up to read the reports.
    """

    server: Reports
    server_version, sys_version = "secateur", ""
    timeout = 30

    def do_GET(self) -> None:
        """Send the file, or status 404."""
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
        """Log nothing: Dagster uses the terminal."""


def main(descriptor: int, root: Path, parent: int) -> None:
    """Serve until the parent process is gone, which may already be the case."""
    with Reports(socket.socket(fileno=descriptor), root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while os.getppid() == parent:
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(130)
