#!/usr/bin/env python3
"""Makes tests/golden/stored.txt, which fixes what is stored of secrets and what the MACs of rows cover.

This is a second implementation of those formats, written from docs/decisions/0002-keys-and-blobs.md and sharing no
code with the server. It is run only when a new format is added:

    python3 tests/golden/make_stored.py > tests/golden/stored.txt

Lines that are in the file already never change: data that was stored by a released version must be read for ever.

    map PAIR... MAP KEYS          PAIR is KEY=VALUE in hexadecimal, in the order in which a client may send them
    row TABLE COLUMN=VALUE... INPUT    what the MAC of the row is made over
"""

import hashlib

MICROSECONDS = 1700000000000000


def numbered(label, size):
    """Fixed bytes that look random: the start of SHA-512 of a label."""
    return hashlib.sha512(b"coffer golden " + label.encode()).digest()[:size]


def sized(data, size):
    return len(data).to_bytes(size, "big") + data


def emit_map(*pairs):
    ordered = sorted(pairs)
    blob_map = b"".join(sized(key, 2) + sized(value, 4) for key, value in ordered)
    blank = {True: b"\x01", False: b"\x00"}
    keys = b"".join(sized(key, 2) + len(value).to_bytes(4, "big") + blank[value.strip(b" \t\n\v\f\r") == b""]
                    for key, value in ordered)
    print("map", *(f"{key.decode()}={value.hex()}" for key, value in pairs), blob_map.hex(), keys.hex())


def number(value):
    return sized(value.to_bytes(8, "big", signed=True), 4)


def cell(value):
    """(its text in the file, its bytes under the MAC)"""
    if value is None:
        return "null", b"\xff\xff\xff\xff"
    if isinstance(value, bool):
        return str(int(value)), number(int(value))
    if isinstance(value, int):
        return str(value), number(value)
    if isinstance(value, list):
        return ",".join(item.hex() for item in value) or "-", number(len(value)) + b"".join(sized(i, 4) for i in value)
    return value.hex() or "-", sized(value, 4)


# Columns that came later: where they are 0, a MAC is as if there were none.
LATER = {"serve_lost_ms"}


def emit_row(table, **columns):
    cells = {name: cell(value) for name, value in columns.items()}
    covered = sized(table.encode(), 4) + b"".join(data for name, (_, data) in cells.items()
                                                  if name not in LATER or columns[name] != 0)
    print("row", table, *(f"{name}={text}" for name, (text, _) in cells.items()), covered.hex())


def emit_secret(state, tags, times):
    emit_row("secret", workspace_id=numbered("workspace", 16), secret_id=numbered("secret", 16), environment=b"prod",
             name=b"slack", type=1, state=state, version=2**40, metadata_version=1, description="ü".encode(), tags=tags,
             expire_time=times, block_when_expired=times is not None, create_time=MICROSECONDS,
             update_time=MICROSECONDS + 1, delete_time=times, facts=b"" if times is None else numbered("facts", 30))


def main():
    emit_map((b"KEY", b"value"))
    emit_map((b"b", b"\x00\xff"), (b"_", b""), (b"B", b" \t\r\n"), (b"a.b-c", b"x" * 300), (b"a", b"\x00"))
    emit_map(*((b"K%d" % i, numbered("value %d" % i, i)) for i in range(20)))
    emit_map((b"k" * 128, b" "))
    emit_secret(1, [], None)
    emit_secret(2, [b"one", b"", "zwei,ü".encode()], -1)
    emit_row("workspace", workspace_id=bytes(16), name=b"system", display_name=b"", external_id=b"",
             strict_environments=False, disabled=True, create_time=MICROSECONDS)
    emit_row("principal", workspace_id=numbered("workspace", 16), principal_id=numbered("principal", 16), kind=1,
             token_kind=2, name=b"executor", description=b"", grants=numbered("grants", 40), networks=[b"10.0.0.0/8"],
             bootstrap=True, disabled=False, expire_time=None, create_time=MICROSECONDS,
             delete_time=None, metadata_version=7)
    emit_row("token", workspace_id=numbered("workspace", 16), token_id=numbered("token", 16),
             principal_id=numbered("principal", 16), hash=numbered("hash", 32), narrowing_key=numbered("narrowing", 60),
             restrictions=b"", description=b"for a test", issuer_id=numbered("issuer", 16), create_time=MICROSECONDS,
             expire_time=MICROSECONDS * 2, revoke_time=None, successor_id=numbered("successor", 16))
    for serve_lost_ms in (0, 60000):
        emit_row("workspace_state", workspace_id=numbered("workspace", 16), state=1, disabled=False, name=b"acme",
                 change_time=MICROSECONDS, delete_time=None, serve_lost_ms=serve_lost_ms)
    emit_row("provider", workspace_id=numbered("workspace", 16), provider=b"custom_acme", provider_id=numbered("provider", 16),
             name="Acmé".encode(), definition=numbered("definition", 40), generation=2, create_time=MICROSECONDS,
             update_time=MICROSECONDS + 1)
    emit_row("connection", workspace_id=numbered("workspace", 16), connection_id=numbered("connection", 16), environment=b"",
             provider=b"github", provider_generation=0, **{"class": 1}, grant_kind=3, client_authentication=2,
             client_id=b"client", scopes=[b"repo", b"read:org"], settings=b"", credentials=numbered("credentials", 60),
             credential_generation=2, config_generation=3, version=4, create_time=MICROSECONDS, update_time=MICROSECONDS + 1)
    emit_row("connection_token", workspace_id=numbered("workspace", 16), connection_id=numbered("connection", 16),
             generation=9, config_generation=3, state=2, access_token=numbered("access", 60), refresh_token=b"",
             token_type=b"bearer", scopes=[b"repo"], obtain_time=MICROSECONDS, expire_time=None, refresh_expire_time=None,
             principal_id=numbered("principal", 16), connect_time=MICROSECONDS)


if __name__ == "__main__":
    main()
