"""A reverse proxy of the tests, in a thread of its own: it passes requests on, changes them, or answers by itself."""

import ssl
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

_OWN = ("host", "content-length")


@contextmanager
def proxy(respond, *, tls=None):
    """The ``host:port`` of a proxy. ``respond(path, headers, body)`` returns status, headers and body.

    ``tls``: the files of a certificate and its key.
    """
    with Server(("127.0.0.1", 0), handler(respond)) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # of a client that refuses the certificate
        pass


def handler(respond):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            status, named, content = respond(self.path, headers, body)
            self.send_response(status)
            for name, value in {**named, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def version_string(self):
            return "a proxy"

        def log_message(self, *_):
            pass

    return Handler


def forward(address, path, headers, body):
    """The answer of the server at ``address``."""
    with httpx.Client(trust_env=False) as client:
        found = client.post(f"{address}{path}", headers=headers, content=body)
    return found.status_code, {"content-type": found.headers.get("content-type", "")}, found.content
