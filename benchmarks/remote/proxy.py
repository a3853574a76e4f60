"""A proxy before an object store that waits, counts and remembers.

It needs the standard library alone. Three addresses are its own and answered without waiting:
`/-/mark/NAME` writes a name between the requests, `/-/settle` answers when nothing was asked for a
while, `/-/take` gives what was remembered and forgets it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

OWN = "/-/"
# A library that asked for nothing for so long has ended what it does in the background.
SETTLED = 0.3
SETTLE_LIMIT = 120.0
PIECE = 1 << 20


class Request(NamedTuple):
    """One request, as the proxy saw it."""

    #: GET, HEAD, LIST, PUT, POST or DELETE.
    kind: str
    key: str
    #: First and last byte, as asked for; empty for a whole object.
    range: str
    status: int
    #: Of the body: what was sent to the client, or by it (PUT and POST).
    bytes: int
    #: Seconds of one clock.
    began: float
    ended: float


def own(endpoint: str, what: str) -> bytes:
    """Asks the proxy itself."""
    with urllib.request.urlopen(f"{endpoint}{OWN}{what}", timeout=SETTLE_LIMIT + 30) as answer:
        content: bytes = answer.read()
        return content


def run_proxy(port: int, target: int, latency: float) -> None:
    """Serves for ever."""
    asyncio.run(Proxy(target, latency).serve(port))


class Head(NamedTuple):
    """The first line and the fields of a message."""

    first: str
    fields: dict[str, str]
    raw: bytes


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Reads up to the body; None where the other side has closed."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return Head(first, {name.strip().lower(): value.strip() for name, _, value in pairs}, raw)


async def pass_body(
    head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool
) -> int:
    """Passes a body on, and gives its length."""
    passed = 0
    if head.fields.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = await reader.readline()
            n = int(line.split(b";")[0], 16)
            writer.write(line + await reader.readexactly(n + 2))
            await writer.drain()
            passed += n
            if n == 0:
                return passed
    # An answer of unknown length ends with the connection.
    unknown = answer and "content-length" not in head.fields
    left = sys.maxsize if unknown else int(head.fields.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            if unknown:
                return passed
            raise ConnectionResetError("the body ended early")
        writer.write(piece)
        await writer.drain()
        passed += len(piece)
        left -= len(piece)
    return passed


def kind_and_key(method: str, target: str) -> tuple[str, str]:
    """What a request is, and of which object or prefix."""
    parts = urlsplit(target)
    _, _, key = unquote(parts.path).removeprefix("/").partition("/")
    if method == "GET" and not key:
        return "LIST", parse_qs(parts.query).get("prefix", [""])[0]
    return method, key


class Proxy:
    """Passes requests on one by one, each after the latency."""

    def __init__(self, target: int, latency: float) -> None:
        self.target = target
        self.latency = latency
        self.entries: list[str | Request] = []
        self.asked = 0.0
        self.in_flight = 0

    async def serve(self, port: int) -> None:
        """Listens for ever."""
        server = await asyncio.start_server(self.connect, "127.0.0.1", port, limit=PIECE)
        await server.serve_forever()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, which has one of its own to the server."""
        above: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while head := await read_head(reader):
                method, target, _ = head.first.split(" ", 2)
                if target.startswith(OWN):
                    await self.answer(target.removeprefix(OWN), writer)
                    continue
                # The server closes connections that are idle.
                if above is None or above[0].at_eof() or above[1].is_closing():
                    above = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
                self.in_flight += 1
                try:
                    goes_on = await self.request(method, target, head, (reader, writer), above)
                finally:
                    self.in_flight -= 1
                    self.asked = time.monotonic()
                if not goes_on:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if above:
                above[1].close()

    async def request(
        self,
        method: str,
        target: str,
        head: Head,
        below: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        above: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Passes one request and its answer on; whether the connection goes on."""
        began = time.monotonic()
        raw = head.raw
        if head.fields.get("expect", "").lower() == "100-continue":
            below[1].write(b"HTTP/1.1 100 Continue\r\n\r\n")
            lines = raw.split(b"\r\n")
            raw = b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))
        await asyncio.sleep(self.latency)
        above[1].write(raw)
        n_bytes = await pass_body(head, below[0], above[1], answer=False)
        await above[1].drain()
        answer = await read_head(above[0])
        if answer is None:
            raise ConnectionResetError("no answer")
        status = int(answer.first.split(" ", 2)[1])
        below[1].write(answer.raw)
        if method != "HEAD" and status not in (204, 304):
            received = await pass_body(answer, above[0], below[1], answer=True)
            n_bytes = received if method == "GET" else n_bytes
        await below[1].drain()
        kind, key = kind_and_key(method, target)
        asked = head.fields.get("range", "").removeprefix("bytes=")
        ended = time.monotonic()
        self.entries.append(Request(kind, key, asked, status, n_bytes, began, ended))
        ends = {"content-length", "transfer-encoding"} & set(answer.fields)
        bounded = bool(ends) or method == "HEAD" or status in (204, 304)
        return bounded and "close" not in answer.fields.get("connection", "").lower()

    async def answer(self, what: str, writer: asyncio.StreamWriter) -> None:
        """Answers what is asked of the proxy itself."""
        body = b""
        if what.startswith("mark/"):
            self.entries.append(what.removeprefix("mark/"))
        elif what == "settle":
            limit = time.monotonic() + SETTLE_LIMIT
            while self.in_flight or time.monotonic() - self.asked < SETTLED:
                if time.monotonic() > limit:
                    break
                await asyncio.sleep(SETTLED / 10)
        elif what == "take":
            body = json.dumps(self.entries).encode()
            self.entries.clear()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()


def depth(requests: list[Request]) -> int:
    """How many of the requests had to wait for each other: the longest chain in time."""
    chains: list[tuple[float, int]] = []
    for request in sorted(requests, key=lambda r: r.began):
        before = max((n for ended, n in chains if ended <= request.began), default=0)
        chains.append((request.ended, before + 1))
    return max((n for _, n in chains), default=0)
