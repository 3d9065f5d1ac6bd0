"""A host on loopback with TLS that says of itself what a test wants: an issuer, an MCP server."""

import json
import ssl

import certificates
from rude_http import Rude, whole

RESOURCE, SERVER = ".well-known/oauth-protected-resource", ".well-known/oauth-authorization-server"
OPENID = ".well-known/openid-configuration"


class Site(dict):
    """Answers by path; what is not there is 404."""

    def __missing__(self, path):
        return Rude.says(whole(b"not here", 404))

    def json(self, path, body, status=200):
        self[path] = Rude.says(whole(json.dumps(body).encode(), status))


class Host:
    """One host on loopback with TLS, which the server may ask; it has this name, for which there is no DNS but localhost's."""

    def __init__(self, folder, name="localhost"):
        self.authority = certificates.Authority(folder / "ca")
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(*self.authority.issue("provider", names=f"DNS:{name}"))
        self.rude = Rude({}, context=self.tls)
        self.site = self.rude.scripts = Site()
        self.origin = f"https://{name}:{self.rude.port}"
        self.settings = {
            "COFFERD_OUTBOUND__ALLOW_PRIVATE": f"localhost:{self.rude.port}",
            "COFFERD_OUTBOUND__CA_FILE": str(self.authority.certificate),
        }

    def server(self, issuer, **more):
        """What an authorization server says of itself."""
        return {"issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token",
                **more}

    def asked(self):
        return [request.split()[1].decode().lstrip("/") for request in self.rude.requests]
