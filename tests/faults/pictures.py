"""A picture server that counts requests, and that can be switched to slow, reset, dripping or failing answers while it runs."""

import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CHUNK = 64  # bytes of each piece of a dripping answer
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing the socket sends RST


@dataclass(frozen=True)
class Answer:
    """How the server answers a request."""

    delay: float = 0.0  # seconds before the first byte
    status: int = 200
    reset: bool = False  # reset the connection instead
    pause: float = 0.0  # seconds between two chunks of the body


NORMAL = Answer()
REFUSED = Answer(reset=True)


def slow(seconds: float) -> Answer:
    return Answer(delay=seconds)


def dripping(pause: float) -> Answer:
    return Answer(pause=pause)


def failing(status: int) -> Answer:
    return Answer(status=status)


class PictureServer:
    """Serves the files of a folder over HTTP on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[str] = Counter()  # requests by file name
        self._folder = folder
        self._everything = NORMAL
        self._one: dict[str, Answer] = {}
        self._changed = threading.Event()  # ends the delays of current answers
        handler = type("Handler", (_Handler,), {"pictures": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._changed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def tell(self, answer: Answer, *names: str) -> None:
        """Set the answer for these files, or for all files that have none of their own."""
        if names:
            self._one |= dict.fromkeys(names, answer)
        else:
            self._everything = answer

    def forget(self) -> None:
        """Go back to normal answers, and count from 0."""
        self._everything = NORMAL
        self._one.clear()
        self.asked.clear()
        self._changed.set()
        self._changed = threading.Event()

    def answer(self, name: str) -> tuple[Answer, bytes | None]:
        """The answer for a file, and its bytes; None if there is no such file."""
        self.asked[name] += 1
        path = self._folder / name
        return self._one.get(name, self._everything), path.read_bytes() if path.is_file() else None

    def wait(self, seconds: float) -> None:
        self._changed.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pictures: PictureServer

    def do_GET(self) -> None:
        # Items that share a photo differ in the part after "?".
        answer, body = self.pictures.answer(Path(self.path.partition("?")[0]).name)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close_connection = True
            self.connection.close()
            return
        if answer.delay:
            self.pictures.wait(answer.delay)
        status = 404 if body is None else answer.status
        content = body if body is not None and status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        step = CHUNK if answer.pause else len(content) or 1
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            if answer.pause:
                self.wfile.flush()
                self.pictures.wait(answer.pause)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base's
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that went away: the tests kill them."""
