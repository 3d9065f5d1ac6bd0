"""A server that says what its script tells it to, byte by byte: a rude provider.

A script is a function of (connection, request) that writes to the connection; the path of the request names it. Whatever
arrived is in `requests`, in order, also what the server then did not answer.
"""

import gzip
import re
import socket
import ssl
import struct
import threading
import time

WAIT = 30


def head(status=200, *fields):
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Whatever", *fields, "")).encode()


def whole(body, status=200, *fields):
    return head(status, f"Content-Length: {len(body)}", *fields) + body


def reset(connection):
    """The peer gets a reset instead of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def zeros(count):
    """That many zeros, gzipped over and over only once: small on the wire."""
    return gzip.compress(bytes(count), 9)


class Rude:
    def __init__(self, scripts, context=None, address="127.0.0.1"):
        self.scripts, self.context = dict(scripts), context
        self.requests, self.connections, self.released = [], 0, threading.Event()
        self.changed = threading.Condition()
        self.most, self.now = 0, 0  # connections at once
        self.listener = socket.create_server((address, 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.entry = f"{address}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path, scheme=None, host="127.0.0.1"):
        return f"{scheme or ('https' if self.context else 'http')}://{host}:{self.port}/{path}"

    def close(self):
        self.released.set()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with self.changed:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            connection.settimeout(WAIT)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            self._answer(connection)
        except (OSError, ssl.SSLError):
            pass
        finally:
            with self.changed:
                self.now -= 1
                self.changed.notify_all()
            connection.close()

    def _answer(self, connection):
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._more(connection)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", request)
        start = request.index(b"\r\n\r\n") + 4
        while length and len(request) < start + int(length[1]):
            request += self._more(connection)
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
        self.scripts[request.split()[1].decode().lstrip("/").split("?")[0]](connection, request)

    @staticmethod
    def _more(connection):
        data = connection.recv(65536)
        if not data:
            raise ConnectionError
        return data

    def await_requests(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, WAIT), len(self.requests)

    # --- Scripts -----------------------------------------------------------------------------------------------------

    def hang(self, connection, request):
        """Answers nothing until the server is closed."""
        self.released.wait(WAIT)

    @staticmethod
    def says(data):
        return lambda connection, request: connection.sendall(data)

    @staticmethod
    def says_and_resets(data):
        def script(connection, request):
            connection.sendall(data)
            time.sleep(0.05)  # so that the data is not thrown away with the reset
            reset(connection)
        return script

    @staticmethod
    def drips(data):
        def script(connection, request):
            for byte in data:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        return script

    @staticmethod
    def pours(first, more, times):
        def script(connection, request):
            connection.sendall(first)
            for _ in range(times):
                connection.sendall(more)
        return script
