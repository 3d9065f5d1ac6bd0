#!/usr/bin/env python3
"""Narrowed tokens made and read, written from docs/decisions/0013-narrowed-tokens.md; shares no code with Coffer.

As a program it compares narrowed_tokens.json, the cases for clients, with what it makes itself; with --write it writes
the file. Cases that are in it already never change: a token that was narrowed once must be read for ever.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import token_text  # noqa: E402

CASES = pathlib.Path(__file__).with_suffix(".json")

PREFIX = b"cof_n_"
FORMAT = 1
KINDS = {b"ws": 1, b"fleet": 2}
WORKSPACE, ENVIRONMENTS, NAMES, WORKFLOW, RUN, EXPIRY = range(1, 7)
HEADER, TAG, TEXT_MAX = 34, 32, 2048


def step(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def narrowing_key(secret):
    """HKDF-SHA-256 (RFC 5869) without a salt, one block."""
    return step(step(bytes(32), secret), b"coffer v1 narrowing\x01")


def caveat(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def patterns(kind, items):
    return caveat(kind, b"".join(bytes([len(item)]) + item for item in sorted({i.encode() for i in items})))


def caveats(workspace=None, environments=(), names=(), workflow_id="", run_id="", expire_ms=None):
    """What one call that narrows adds, in the order of the table."""
    made = []
    if workspace is not None:
        made.append(caveat(WORKSPACE, uuid.UUID(workspace).bytes))
    if environments:
        made.append(patterns(ENVIRONMENTS, environments))
    if names:
        made.append(patterns(NAMES, names))
    if workflow_id:
        made.append(caveat(WORKFLOW, workflow_id.encode()))
    if run_id:
        made.append(caveat(RUN, run_id.encode()))
    if expire_ms is not None:
        made.append(caveat(EXPIRY, struct.pack(">Q", expire_ms)))
    return made


def text_of(payload):
    """The text of any payload, whatever stands in it."""
    text = PREFIX + base64.urlsafe_b64encode(payload).rstrip(b"=")
    return text + token_text.base62(zlib.crc32(text), 6)


def payload_of(text):
    body = text[len(PREFIX):-6]
    return base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))


def begin(token):
    """(payload so far, tag so far) of a whole or a narrowed token."""
    if token.startswith(PREFIX):
        payload = payload_of(token)
        return payload[:-TAG], payload[-TAG:]
    kind, workspace, token_id, secret = token_text.parse(token)
    header = bytes([FORMAT, KINDS[kind]]) + workspace.bytes + token_id.bytes
    return header, step(narrowing_key(secret), header)


def add(token, made):
    """Narrows by caveats as they are given."""
    payload, tag = begin(token)
    for one in made:
        payload, tag = payload + one, step(tag, one)
    return text_of(payload + tag)


def narrow(token, **wishes):
    return add(token, caveats(**wishes))


def parts(token):
    """(header, caveats, tag), to build wrong ones of."""
    payload = payload_of(token)
    made, at = [], HEADER
    while at < len(payload) - TAG:
        end = at + 3 + struct.unpack(">H", payload[at + 1:at + 3])[0]
        made.append(payload[at:end])
        at = end
    return payload[:HEADER], made, payload[-TAG:]


# --- The cases ---


def numbered(label, size):
    """Fixed bytes that look random."""
    return hashlib.sha512(b"coffer golden " + label.encode()).digest()[:size]


def issued(kind):
    label = kind.decode()
    return token_text.make(kind, uuid.UUID(bytes=numbered(label + " workspace", 16)),
                           uuid.UUID(bytes=numbered(label + " token", 16)), numbered(label + " random", 32))


WS, FLEET = issued(b"ws"), issued(b"fleet")
TENANT = str(uuid.UUID(bytes=numbered("tenant", 16)))
LONG = [f"a-name-that-is-{i:03}-and-has-thirty" for i in range(256)]
WISHES = {
    "a workspace": {"workspace": TENANT},
    "one environment": {"environments": ["prod"]},
    "environments are sorted by bytes, each once": {"environments": ["prod", "dev*", "Z", "dev", "prod", "*"]},
    "names, a prefix among them": {"names": ["slack", "aws_*", "_x"]},
    "a workflow": {"workflow_id": "wf_7"},
    "a run whose ID is UTF-8 with white space": {"run_id": "L\u00e4ufe / 4711\n"},
    "the longest ID of a run": {"run_id": "r" * 256},
    "an expiry": {"expire_ms": 1893456000123},
    "the first expiry": {"expire_ms": 1},
    "everything": {"workspace": TENANT, "environments": ["prod"], "names": ["slack", "github*"], "workflow_id": "wf",
                   "run_id": "run", "expire_ms": 1893456000000},
    "the most patterns": {"names": [f"n{i:03}" for i in range(256)]},
}
REFUSED_WISHES = {
    "nothing": ({}, "FIELD_REQUIRED"),
    "a workspace in upper case": ({"workspace": TENANT.upper()}, "FIELD_INVALID"),
    "an environment with a space": ({"environments": ["a b"]}, "FIELD_INVALID"),
    "an empty environment": ({"environments": [""]}, "FIELD_INVALID"),
    "a name with a * in the middle": ({"names": ["a*b"]}, "FIELD_INVALID"),
    "a name of 101 bytes": ({"names": ["a" * 101]}, "FIELD_INVALID"),
    "a run's ID of 257 bytes": ({"run_id": "r" * 257}, "FIELD_INVALID"),
    "257 patterns": ({"names": [f"n{i:03}" for i in range(257)]}, "FIELD_INVALID"),
    "more than 2,048 characters": ({"names": LONG}, "LIMIT_EXCEEDED"),
}


def refused_texts():
    """Texts that are no narrowed tokens, each with the reason that a reader gives."""
    good = narrow(WS, environments=["prod"])
    header, made, tag = parts(good)
    run = caveat(RUN, b"r")

    def whole(*pieces):
        return text_of(b"".join(pieces))
    yield "another beginning", b"cof_m_" + good[6:], "TOKEN_MALFORMED"
    yield "the beginning alone", PREFIX, "TOKEN_MALFORMED"
    yield "cut", good[:-1], "TOKEN_MALFORMED"
    yield "one character too many", good + b"0", "TOKEN_MALFORMED"
    yield "a character of its check changed", good[:-1] + (b"1" if good[-1:] == b"0" else b"0"), "TOKEN_MALFORMED"
    yield "a character of its payload changed", good[:20] + (b"1" if good[20:21] == b"0" else b"0") + good[21:], \
        "TOKEN_MALFORMED"
    yield "padding", _checked(good[:-6] + b"="), "TOKEN_MALFORMED"
    yield "a character of base64 that is none of base64url", _checked(good[:20] + b"+" + good[21:-6]), "TOKEN_MALFORMED"
    yield "one character more than bytes can make", _checked(PREFIX + b"A" * 93), "TOKEN_MALFORMED"
    yield "no payload", text_of(b""), "TOKEN_MALFORMED"
    yield "format 2", whole(b"\x02", header[1:], *made, tag), "TOKEN_UNSUPPORTED"
    yield "format 0", whole(b"\x00", header[1:], *made, tag), "TOKEN_UNSUPPORTED"
    yield "kind sys", whole(b"\x01\x03", header[2:], *made, tag), "TOKEN_MALFORMED"
    yield "kind 0", whole(b"\x01\x00", header[2:], *made, tag), "TOKEN_MALFORMED"
    yield "no caveat", whole(header, tag), "TOKEN_MALFORMED"
    yield "33 caveats", whole(header, *[run] * 33, tag), "TOKEN_MALFORMED"
    yield "a caveat of kind 7", whole(header, *made, caveat(7, b"x"), tag), "TOKEN_UNSUPPORTED"
    yield "a caveat of kind 0", whole(header, caveat(0, b""), *made, tag), "TOKEN_UNSUPPORTED"
    yield "a caveat of kind 255", whole(header, caveat(255, b"x" * 300), tag), "TOKEN_UNSUPPORTED"
    yield "a caveat that is cut", whole(header, *made, b"\x05\x00\x09r", tag), "TOKEN_MALFORMED"
    yield "a caveat's header that is cut", whole(header, *made, b"\x05\x00", tag), "TOKEN_MALFORMED"
    yield "a byte too many", whole(header, *made, tag, b"\0"), "TOKEN_MALFORMED"
    wrong = {
        "a workspace of 15 bytes": caveat(WORKSPACE, bytes(15)),
        "a workspace of 17 bytes": caveat(WORKSPACE, bytes(17)),
        "no environment": caveat(ENVIRONMENTS, b""),
        "no name": caveat(NAMES, b""),
        "an empty pattern": caveat(NAMES, b"\x00"),
        "a pattern that is cut": caveat(NAMES, b"\x05slac"),
        "patterns that are not sorted": caveat(NAMES, b"\x01b\x01a"),
        "a pattern twice": caveat(NAMES, b"\x01a\x01a"),
        "a pattern that is no name": caveat(ENVIRONMENTS, b"\x03a b"),
        "a name that is no environment": caveat(ENVIRONMENTS, b"\x02_x"),
        "257 patterns": caveat(NAMES, b"".join(b"\x03" + b"%03d" % i for i in range(257))),
        "an empty workflow": caveat(WORKFLOW, b""),
        "an empty run": caveat(RUN, b""),
        "a run of 257 bytes": caveat(RUN, b"r" * 257),
        "a run that is not UTF-8": caveat(RUN, b"\xff"),
        "a run with a NUL": caveat(RUN, b"a\0b"),
        "an expiry of 7 bytes": caveat(EXPIRY, bytes(7)),
        "an expiry of 9 bytes": caveat(EXPIRY, bytes(9)),
    }
    for name, one in wrong.items():
        yield name, whole(header, one, tag), "TOKEN_MALFORMED"


def _checked(text):
    return text + token_text.base62(zlib.crc32(text), 6)


def cases():
    for kind, token in (("ws", WS), ("fleet", FLEET)):
        for name, wishes in WISHES.items():
            yield {"name": f"{kind}: {name}", "token": token, "narrowing": wishes, "narrowed": narrow(token, **wishes)}
    once = narrow(FLEET, workspace=TENANT, environments=["prod", "dev*"])
    yield {"name": "narrowed again", "token": once, "narrowing": {"environments": ["dev1"], "run_id": "r"},
           "narrowed": narrow(once, environments=["dev1"], run_id="r")}
    many = WS
    for i in range(32):
        many, before = narrow(many, run_id=str(i)), many
    yield {"name": "the most caveats", "token": before, "narrowing": {"run_id": "31"}, "narrowed": many}
    yield {"name": "one caveat too many", "token": many, "narrowing": {"run_id": "32"}, "reason": "LIMIT_EXCEEDED"}
    # 1,527 bytes: header and tag have 66, the caveat's header 3, a pattern its length.
    full = [f"{i:02}" + "n" * 97 for i in range(14)] + ["z" * 57]
    yield {"name": "2,048 characters", "token": WS, "narrowing": {"names": full}, "narrowed": narrow(WS, names=full)}
    yield {"name": "one character too long", "token": WS, "narrowing": {"names": [*full[:-1], "z" * 58]},
           "reason": "LIMIT_EXCEEDED"}
    for name, (wishes, reason) in REFUSED_WISHES.items():
        yield {"name": f"refused: {name}", "token": WS, "narrowing": wishes, "reason": reason}
    yield {"name": "refused: a system token", "token": issued(b"sys"), "narrowing": {"run_id": "r"},
           "reason": "FIELD_INVALID"}
    yield {"name": "refused: a token that is cut", "token": WS[:-1], "narrowing": {"run_id": "r"},
           "reason": "TOKEN_MALFORMED"}
    for name, text, reason in refused_texts():
        yield {"name": f"unreadable: {name}", "token": text, "narrowing": {"run_id": "r"}, "reason": reason}


def file_text():
    lines = (json.dumps(case, default=lambda text: text.decode()) for case in cases())
    return '{"cases": [\n' + ",\n".join(lines) + "\n]}\n"


def main():
    text = file_text()
    if sys.argv[1:] == ["--write"]:
        CASES.write_text(text)
    if CASES.read_text() != text:
        sys.exit(f"{CASES.name} differs from what the description makes")
    made = [case for case in cases() if "narrowed" in case]
    longest = max(len(case["narrowed"]) for case in made)
    if longest != TEXT_MAX:
        sys.exit(f"the longest token has {longest} characters")
    print(f"{len(list(cases()))} cases, {len(made)} of them tokens")


if __name__ == "__main__":
    main()
