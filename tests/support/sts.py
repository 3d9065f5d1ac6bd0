"""An STS of the tests' own: it checks signatures by computing them again, and External IDs as a trust policy would.

It counts calls, and throttles, hangs and answers garbage when it is told to.
"""

import contextlib
import datetime
import http.server
import re
import socket
import socketserver
import ssl
import threading
import urllib.parse
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

XML = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
                           r"SignedHeaders=([\w;-]+), ?Signature=([0-9a-f]{64})")


def error(status, code, message=""):
    return status, (f"<ErrorResponse {XML}><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
                    f"</Error><RequestId>r</RequestId></ErrorResponse>")


class Sts:
    """A server on loopback, with TLS if it has a certificate and its key. `trust` is {ARN of a role: the External ID that it
    demands, None: none}."""

    def __init__(self, access_key="AKIASERVER", secret_key="server-secret-key", life_s=3600, certificate=None):
        self.keys = {access_key: secret_key}
        self.trust = {}
        self.life_s = life_s
        self.lock = threading.Lock()
        self.calls = []  # parameters of each, with "region"
        self.mode = "answer"
        self.released = threading.Event()
        self.number = 0
        sts = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, text = sts.answer(self, body)
                data = text if isinstance(text, bytes) else text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def url(self):
        return f"{self.scheme}://{self.host}"

    def settings(self):
        """The environment of a server that acts as its principal here."""
        (access_key, secret_key), = self.keys.items()
        return {"COFFERD_AWS__STS_ENDPOINT": self.url, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key,
                "AWS_SESSION_TOKEN": ""}

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self):
        with self.lock:
            return len(self.calls)

    def hang(self):
        self.released.clear()
        self.mode = "hang"

    def release(self):
        self.mode = "answer"
        self.released.set()

    def signature_fault(self, request, body):
        """None: the request is signed by one of the keys, over its body and all that must be signed."""
        match = AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        if match is None:
            return error(403, "MissingAuthenticationToken")
        access_key, date, region, service, signed, signature = match.groups()
        if access_key not in self.keys:
            return error(403, "InvalidClientTokenId")
        signed = signed.split(";")
        if service != "sts" or "host" not in signed or "x-amz-date" not in signed:
            return error(403, "SignatureDoesNotMatch", "what is signed is not what must be")
        auth = SigV4Auth(Credentials(access_key, self.keys[access_key]), service, region)
        again = AWSRequest(method="POST", url=f"http://{request.headers['Host']}{request.path}", data=body,
                           headers={name: request.headers[name] for name in signed if name != "host"})
        again.context["timestamp"] = request.headers["X-Amz-Date"]
        text = auth.string_to_sign(again, auth.canonical_request(again))
        if date != request.headers["X-Amz-Date"][:8] or auth.signature(text, again) != signature:
            return error(403, "SignatureDoesNotMatch")
        request.region = region
        return None

    def answer(self, request, body):
        fault = self.signature_fault(request, body)
        if fault is not None:
            return fault
        asked = dict(urllib.parse.parse_qsl(body.decode()))
        with self.lock:
            self.calls.append({**asked, "region": request.region})
            self.number += 1
            number = self.number
        if self.mode == "hang":
            self.released.wait(120)
        if self.mode == "throttle":
            return error(400, "Throttling", "Rate exceeded")
        if self.mode == "garbage":
            return 200, b"\xff\xfe not XML at all <"
        if self.mode == "other":
            return 200, "<ListBucketsResult><Credentials/></ListBucketsResult>"
        if self.mode == "broken":
            return error(500, "InternalFailure")
        return self.assume(asked, number)

    def assume(self, asked, number):
        arn = asked.get("RoleArn", "")
        demanded = self.trust.get(arn, "nobody")
        if demanded is not None and asked.get("ExternalId") != demanded:
            return error(403, "AccessDenied", "User is not authorized to perform: sts:AssumeRole on resource")
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.life_s)
        return 200, (f"<AssumeRoleResponse {XML}><AssumeRoleResult><AssumedRoleUser><Arn>{escape(arn)}</Arn></AssumedRoleUser>"
                     f"<Credentials><AccessKeyId>ASIA{number:016d}</AccessKeyId><SecretAccessKey>secret+/{number}</SecretAccessKey>"
                     f"<SessionToken>token//{number}==</SessionToken><Expiration>{ends.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
                     f"</Credentials></AssumeRoleResult></AssumeRoleResponse>")


class Tunnel:
    """An HTTP proxy on loopback that leads to one server, whatever name is asked for. `asked` are those."""

    def __init__(self, port):
        self.asked = []
        tunnel = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                tunnel.asked.append(self.rfile.readline().decode().split()[1])
                while self.rfile.readline().strip():
                    pass
                with socket.create_connection(("127.0.0.1", port)) as far:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=tunnel.copy, args=(far, self.connection), daemon=True)
                    back.start()
                    tunnel.copy(self.connection, far)
                    back.join()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
