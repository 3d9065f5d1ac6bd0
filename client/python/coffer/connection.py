"""One connection: messages of the Scalability Protocols over a socket (docs/protocol.md, section 1)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import time
from typing import Optional, Union

CLIENT_GREETING = b"\0SP\0\0\x30\0\0"
SERVER_GREETING = b"\0SP\0\0\x31\0\0"
TOP_BIT = 0x80000000
PIECE = 1 << 18


class Address:
    """ipc://PATH, tcp://HOST:PORT or tls+tcp://HOST:PORT."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.scheme, found, rest = text.partition("://")
        self.path, self.host, self.port = "", "", 0
        if self.scheme == "ipc" and rest:
            self.path = rest
            return
        host, _, port = rest.rpartition(":")
        if not found or self.scheme not in ("tcp", "tls+tcp") or not host or not port.isdigit():
            raise ValueError(f"{text!r} is no address: ipc://PATH, tls+tcp://HOST:PORT or tcp://HOST:PORT")
        self.host, self.port = host.strip("[]"), int(port)

    def __repr__(self) -> str:
        return self.text


class Connection:
    """Carries one call at a time. Whatever goes wrong is an OSError, after which it must be closed."""

    def __init__(self, address: Address, deadline: float, tls: Optional[ssl.SSLContext], largest: int) -> None:
        self._ipc = address.scheme == "ipc"
        self._largest = largest
        self._number = int.from_bytes(os.urandom(4), "big")
        self._socket: Union[socket.socket, ssl.SSLSocket] = self._connect(address, deadline)
        self.used = False
        try:
            if address.scheme == "tls+tcp":
                context = tls if tls is not None else tls_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
            self._socket.sendall(CLIENT_GREETING)
            if self._read(len(SERVER_GREETING), deadline) != SERVER_GREETING:
                raise ConnectionError("what answers is no server of Coffer")
        except BaseException:
            self._socket.close()
            raise

    @staticmethod
    def _left(deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for the call is over")
        return left

    def _connect(self, address: Address, deadline: float) -> socket.socket:
        if self._ipc:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(self._left(deadline))
                made.connect(address.path)
            except BaseException:
                made.close()
                raise
            return made
        made = socket.create_connection((address.host, address.port), self._left(deadline))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(self._left(deadline))
            piece = self._socket.recv(min(size - len(data), PIECE))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return bytes(data)

    def send(self, frame: bytes, deadline: float) -> int:
        """Sends a request frame; returns the number of its answer."""
        self._number = (self._number + 1) & (TOP_BIT - 1)
        message = struct.pack(">I", self._number | TOP_BIT) + frame
        self._socket.settimeout(self._left(deadline))
        self._socket.sendall((b"\1" if self._ipc else b"") + struct.pack(">Q", len(message)) + message)
        return self._number

    def receive(self, number: int, deadline: float) -> bytes:
        """The response frame of that number; others belong to nobody any more."""
        while True:
            if self._ipc and self._read(1, deadline) != b"\1":
                raise ConnectionError("the server sent what is no message")
            length, = struct.unpack(">Q", self._read(8, deadline))
            if not 4 <= length <= self._largest + 4:
                raise ConnectionError("the server sent a message that is larger than it may be")
            message = self._read(length, deadline)
            if struct.unpack(">I", message[:4])[0] == number | TOP_BIT:
                return message[4:]

    def close(self) -> None:
        if isinstance(self._socket, ssl.SSLSocket):
            # Says that it ends on purpose; the other side's answer is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self._socket.settimeout(0)
                self._socket.unwrap()
        self._socket.close()


def tls_context(ca_file: Optional[str] = None, certificate: Optional[str] = None,
                key: Optional[str] = None) -> ssl.SSLContext:
    """TLS 1.3 with the system's authorities, or those of `ca_file`; with a certificate if the server asks for one."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["coffer/1"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
