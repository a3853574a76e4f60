"""A proxy before an object store, which can be made to fail in the ways that networks do."""

import http.client
import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy(ThreadingHTTPServer):
    """Forwards requests until `fail` says otherwise."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.release = threading.Event()
        self.mend()

    def fail(self, mode, *, after=0, only=""):
        """Fail requests for paths with `only` in them, when `after` more were answered.

        The mode is "reset", "truncate" (half of a body), "silent", "down" (nobody listens), or the
        status and code of an answer.
        """
        if mode == "down":
            # Connections that are open are reset, others are refused.
            self.socket.close()
        self.left, self.only, self.mode = after, only, mode

    def mend(self):
        self.left, self.only, self.mode = 0, "", None
        self.release.set()
        self.release = threading.Event()
        if self.socket.fileno() == -1:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()

    def mode_for(self, path):
        if self.mode is None or self.only not in path:
            return None
        if self.left > 0:
            self.left -= 1
            return None
        return self.mode

    def handle_error(self, request, client_address):
        """Broken connections are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode = self.server.mode_for(self.path)
        if mode == "silent":
            self.server.release.wait(100)
        if mode in ("reset", "down", "silent"):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        if isinstance(mode, tuple):
            status, code = mode
            answer = f"<Error><Code>{code}</Code><Message>not now</Message></Error>".encode()
            self.reply(status, [], answer, len(answer))
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        content = response.read()
        length = response.getheader("Content-Length", len(content))
        skip = ("content-length", "transfer-encoding", "connection")
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in skip]
        upstream.close()
        if mode == "truncate":
            self.reply(response.status, headers, content[: len(content) // 2], length)
            self.close_connection = True
            return
        self.reply(response.status, headers, content, length)

    def reply(self, status, headers, content, length):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

    def log_message(self, *args):
        pass


@contextmanager
def proxy(upstream):
    with Proxy(upstream) as server:
        # A closed socket ends the wait for requests; it begins again with the next one.
        stop = threading.Event()

        def serve():
            while not stop.is_set():
                try:
                    server.handle_request()
                except (OSError, ValueError):
                    stop.wait(0.01)

        server.timeout = 0.1
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        server.release.set()
        stop.set()
        thread.join()
