"""What Postfix asks over its own protocols: a policy server that greylists, and an authentication server."""

from __future__ import annotations

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

USER, PASSWORD = "relay", "correct horse"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def _serving(handler: type[socketserver.StreamRequestHandler]) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def greylisting(seen: set[str]) -> Iterator[int]:
    """A policy server (Postfix's SMTPD_POLICY_README) that defers each recipient that is not in ``seen``; its port."""

    class Policy(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request: dict[str, str] = {}
            for raw in self.rfile:
                name, separator, value = raw.decode().rstrip("\n").partition("=")
                if separator:
                    request[name] = value
                    continue
                known = request["recipient"] in seen
                self.wfile.write(b"action=dunno\n\n" if known else b"action=defer_if_permit Greylisted, try later\n\n")
                request = {}

    with _serving(Policy) as server:
        yield server.server_address[1]


@contextmanager
def authentication() -> Iterator[int]:
    """An authentication server (Dovecot's client protocol) that knows USER with PASSWORD; its port."""
    expected = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()

    class Authentication(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")
            for raw in self.rfile:
                words = raw.decode().rstrip("\n").split("\t")
                if words[0] == "AUTH":
                    number, correct = words[1], f"resp={expected}" in words
                    verdict = "OK" if correct else "FAIL"
                    self.wfile.write(f"{verdict}\t{number}\tuser={USER}\n".encode())

    with _serving(Authentication) as server:
        yield server.server_address[1]
