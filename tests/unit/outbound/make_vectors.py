#!/usr/bin/env python3
"""Makes vectors.h: token requests, as Python's own libraries and "cryptography" write them.

    python3 tests/unit/outbound/make_vectors.py > tests/unit/outbound/vectors.h

It makes new keys every time, so the file changes as a whole. The keys are for these tests alone.
"""

import base64
import json
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

NOW = 1795608000
NONCES = (b"0123456789abcdef", b"GHIJKLMNOPQRSTU\0")
CLIENT, SECRET, GRANT = "client id:ü", "s+e/c r%t&~", "the grant+/="
AUDIENCE = "https://as.example/token"
SCOPES = ["read:all", "a b&c=d"]
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def form(*pairs):
    return urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote, safe="")


def plain(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header, claims):
    return ".".join(plain(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()) for part in (header, claims))


def signed(key, key_id, nonce, **claims):
    claims = {name: value for name, value in claims.items() if value}
    claims |= {"jti": plain(nonce), "iat": NOW - 10, "exp": NOW + 300}
    text = unsigned({"alg": "RS256", "typ": "JWT", "kid": key_id}, claims)
    return text + "." + plain(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))


def emit(name, text):
    data = text.encode()
    lines = []
    while data:
        part, data = data[:80], data[80:]
        escaped = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in part)
        lines.append(f'    "{escaped}"')
    print(f"#define VECTOR_{name} \\\n" + " \\\n".join(lines) + "\n")


def main():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    p384 = pem(ec.generate_private_key(ec.SECP384R1()))
    print("/* Made by make_vectors.py. */\n/* clang-format off */\n#pragma once\n")
    emit("RSA_KEY", pem(key))
    emit("EC_KEY", pem(ec.generate_private_key(ec.SECP256R1())))
    emit("P384_KEY", p384)
    emit("P384_JSON", json.dumps(p384)[1:-1])
    emit("RSA_1024_KEY", pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    emit("ED25519_KEY", pem(ed25519.Ed25519PrivateKey.generate()))
    quoted = [urllib.parse.quote(text, safe="") for text in (CLIENT, SECRET)]
    emit("BASIC_HEADER", "Basic " + base64.b64encode(":".join(quoted).encode()).decode())
    own = ("grant_type", "client_credentials")
    emit("POST_BODY", form(own, ("client_id", CLIENT), ("client_secret", SECRET), ("scope", " ".join(SCOPES))))
    emit("NONE_BODY", form(own, ("client_id", CLIENT), ("user_scope", ",".join(SCOPES))))
    emit("CODE_BODY", form(("grant_type", "authorization_code"), ("code", GRANT),
                           ("redirect_uri", "https://coffer.example/oauth/callback"), ("code_verifier", "verifier-._~")))
    emit("DEVICE_BODY", form(("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", GRANT),
                             ("code_verifier", "verifier-._~")))
    emit("PRIVATE_KEY_JWT_BODY", form(
        ("grant_type", "refresh_token"), ("refresh_token", GRANT), ("client_id", CLIENT),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", signed(key, "key-1", NONCES[1], iss=CLIENT, sub=CLIENT, aud=AUDIENCE))))
    about = {"iss": "robot@project.example", "sub": 'user@"example"', "aud": AUDIENCE}
    emit("JWT_BEARER_CLAIM_BODY", form(("grant_type", BEARER), (
        "assertion", signed(key, "key-2", NONCES[0], **about, scope=" ".join(SCOPES)))))
    emit("JWT_BEARER_PARAMETER_BODY", form(("grant_type", BEARER), (
        "assertion", signed(key, "key-2", NONCES[0], **{**about, "sub": None})), ("scope", " ".join(SCOPES))))
    emit("ES256_INPUT", unsigned({"alg": "ES256", "typ": "JWT"}, {
        "iss": "i", "aud": "a", "jti": plain(NONCES[0]), "iat": NOW - 10, "exp": NOW + 300}))
    emit("SERVICE_ACCOUNT", json.dumps({
        "type": "service_account", "project_id": "project", "private_key_id": "0123abc", "private_key": pem(key),
        "client_email": "robot@project.iam.example", "client_id": "1", "token_uri": "https://elsewhere.example/token",
        "more": {"type": "nested", "client_email": ["a", {"private_key": 1}]}, "number": 1.5, "none": None}, indent=2))


if __name__ == "__main__":
    main()
