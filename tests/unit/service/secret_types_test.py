#!/usr/bin/env python3
"""Structured secrets with keys and certificates that ssh-keygen and openssl make while the test runs.

The first argument is the program that asks the server's function (secret_types_driver.c). What is damaged here is
damaged byte by byte, by code that shares nothing with the server's.
"""

import base64
import calendar
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

DRIVER = sys.argv.pop(1)
CUSTOM, SSH_KEY, MTLS, CA_CERT, GITHUB_APP = 1, 2, 3, 4, 5
NOW = int(time.time()) + 3600  # after everything that the test makes
YEAR = 365 * 86400


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                          **options).stdout


class Answer:
    def __init__(self, line):
        columns = line.split("\t")
        self.ok = columns[0] == "OK"
        if not self.ok:
            self.reason, self.field, self.message = columns[1:]
            return
        self.key_type, bits, self.fingerprint, self.subject, self.issuer, count, not_after, warnings = columns[1:9]
        self.bits, self.certificates, self.not_after = int(bits), int(count), int(not_after)
        self.warnings = [one for one in warnings.split(";") if one]
        self.values = {key: bytes.fromhex(value) for key, value in zip(columns[9::2], columns[10::2])}


def ask(kind, values, now=NOW):
    columns = [str(kind), str(now)]
    for key in sorted(values):
        columns += [key, values[key].hex()]
    out = subprocess.run([DRIVER], input="\t".join(columns) + "\n", stdout=subprocess.PIPE, text=True, check=True).stdout
    assert out.count("\n") == 1, out
    return Answer(out.rstrip("\n"))


# --- Files of OpenSSH ------------------------------------------------------------------------------------------------

MAGIC = b"openssh-key-v1\0"


def string(data):
    return struct.pack(">I", len(data)) + data


def take(data, count):
    """The first strings of some bytes, and what is left."""
    strings = []
    for _ in range(count):
        length = struct.unpack_from(">I", data)[0]
        strings.append(data[4:4 + length])
        data = data[4 + length:]
    return strings, data


def armour(data, label="OPENSSH PRIVATE KEY"):
    text = base64.b64encode(data).decode()
    lines = [text[i:i + 70] for i in range(0, len(text), 70)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def disarm(pem):
    return base64.b64decode("".join(pem.decode().split("-----")[2].split()))


class File:
    """The parts of an unencrypted file, to be changed and put together again."""

    def __init__(self, pem):
        data = disarm(pem)
        assert data.startswith(MAGIC)
        (self.cipher, self.kdf, self.options), rest = take(data[len(MAGIC):], 3)
        self.count = struct.unpack_from(">I", rest)[0]
        (self.public, private), self.behind = take(rest[4:], 2)
        self.checks, rest = private[:8], private[8:]
        (self.type,), rest = take(rest, 1)
        self.parts, rest = take(rest, {b"ssh-ed25519": 2, b"ssh-rsa": 6}.get(self.type, 3))
        (self.comment,), self.padding = take(rest, 1)

    def pem(self):
        private = self.checks + b"".join(map(string, [self.type, *self.parts, self.comment])) + self.padding
        head = MAGIC + string(self.cipher) + string(self.kdf) + string(self.options) + struct.pack(">I", self.count)
        return armour(head + string(self.public) + string(private) + self.behind)


class Made(unittest.TestCase):
    """Keys and certificates, made once."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-types-"))
        for name, options in {"ed25519": ["-t", "ed25519"], "rsa": ["-t", "rsa", "-b", "2048"],
                              "ec256": ["-t", "ecdsa", "-b", "256"], "ec384": ["-t", "ecdsa", "-b", "384"],
                              "ec521": ["-t", "ecdsa", "-b", "521"], "other": ["-t", "ed25519"]}.items():
            cls.keygen(name, *options)
        cls.keygen("locked", "-t", "ed25519", phrase="of a test")
        cls.authority("root", "/O=Example/CN=Root of the test")
        cls.certify("leaf", "/O=Example/CN=leaf.example", "root")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def keygen(cls, name, *options, phrase=""):
        run("ssh-keygen", "-q", *options, "-N", phrase, "-C", f"{name} of a test", "-f", cls.folder / name)

    @classmethod
    def openssl(cls, *arguments):
        return run("openssl", *arguments, cwd=cls.folder)

    @classmethod
    def authority(cls, name, subject):
        cls.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "400",
                    "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.crt")

    @classmethod
    def certify(cls, name, subject, issuer):
        cls.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", f"{name}.key", "-out",
                    f"{name}.csr")
        cls.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-days",
                    "100", "-set_serial", "7", "-out", f"{name}.crt")

    def read(self, name):
        return (self.folder / name).read_bytes()

    def assert_fails(self, answer, reason, field, *parts):
        self.assertFalse(answer.ok, "it was taken")
        self.assertEqual((answer.reason, answer.field), (reason, field))
        for part in parts:
            self.assertIn(part, answer.message)

    def assert_bad(self, kind, values, key, *parts, now=NOW):
        """FIELD_INVALID at the key, and nothing of the value in the message."""
        answer = ask(kind, values, now)
        self.assert_fails(answer, "FIELD_INVALID", f"values.{key}", *parts)
        self.assertTrue(answer.message.startswith(f"values.{key}: "), answer.message)
        for line in values[key].split(b"\n"):
            if len(line) >= 16 and b"-----" not in line:
                self.assertNotIn(line[:16].decode("latin-1"), answer.message)


class SshKeys(Made):
    def assert_taken(self, value, name, key_type, bits):
        answer = ask(SSH_KEY, {"PRIVATE_KEY": value})
        self.assertTrue(answer.ok, getattr(answer, "message", ""))
        shown = run("ssh-keygen", "-l", "-f", self.folder / f"{name}.pub").decode().split()
        self.assertEqual((answer.key_type, answer.bits), (key_type, bits))
        self.assertEqual((str(answer.bits), answer.fingerprint), tuple(shown[:2]))
        self.assertEqual((answer.subject, answer.certificates, answer.not_after, answer.warnings), ("", 0, 0, []))
        return answer

    def test_keys_of_openssh_are_read_and_shown_as_ssh_keygen_shows_them(self):
        for name, key_type, bits in (("ed25519", "ed25519", 256), ("rsa", "rsa", 2048), ("ec256", "ecdsa", 256),
                                     ("ec384", "ecdsa", 384), ("ec521", "ecdsa", 521)):
            with self.subTest(name):
                self.assertIn(b"BEGIN OPENSSH PRIVATE KEY", self.read(name))
                answer = self.assert_taken(self.read(name), name, key_type, bits)
                self.assertEqual(answer.values, {"PRIVATE_KEY": self.read(name)})

    def test_many_keys_of_openssh_are_read_whatever_their_numbers_begin_with(self):
        for number in range(12):
            name = f"many-{number}"
            options = ["-t", "rsa", "-b", str(1024 + 8 * number + number % 3)] if number % 2 else ["-t", "ecdsa"]
            self.keygen(name, *options)
            answer = ask(SSH_KEY, {"PRIVATE_KEY": self.read(name)})
            self.assertTrue(answer.ok, getattr(answer, "message", ""))
            self.assertEqual(answer.fingerprint,
                             run("ssh-keygen", "-l", "-f", self.folder / f"{name}.pub").decode().split()[1])

    def test_pem_keys_are_read_in_each_form(self):
        for name, key_type, bits in (("rsa", "rsa", 2048), ("ec256", "ecdsa", 256), ("ec384", "ecdsa", 384)):
            for form in ("PEM", "PKCS8"):
                with self.subTest(name=name, form=form):
                    copy = self.folder / f"{name}-{form}"
                    shutil.copy(self.folder / name, copy)
                    run("ssh-keygen", "-q", "-p", "-P", "", "-N", "", "-m", form, "-f", copy)
                    self.assertNotIn(b"OPENSSH", copy.read_bytes())
                    self.assert_taken(copy.read_bytes(), name, key_type, bits)

    def test_ed25519_is_read_from_pkcs8(self):
        key = self.openssl("genpkey", "-algorithm", "ed25519")
        answer = ask(SSH_KEY, {"PRIVATE_KEY": key})
        public = self.openssl("pkey", "-pubout", "-outform", "DER", "-in", self.put("pkcs8", key))[-32:]
        blob = string(b"ssh-ed25519") + string(public)
        digest = run("openssl", "dgst", "-sha256", "-binary", self.put("blob", blob))
        self.assertEqual(answer.fingerprint, "SHA256:" + base64.b64encode(digest).decode().rstrip("="))

    def put(self, name, data):
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def test_parameters_of_the_curve_before_the_key_are_allowed(self):
        key = self.openssl("ecparam", "-name", "prime256v1", "-genkey")
        self.assertIn(b"BEGIN EC PARAMETERS", key)
        answer = ask(SSH_KEY, {"PRIVATE_KEY": key})
        self.assertEqual((answer.ok, answer.key_type, answer.bits), (True, "ecdsa", 256))

    def test_compressed_point_has_the_fingerprint_of_the_whole_one(self):
        key = self.openssl("pkcs8", "-topk8", "-nocrypt", "-in", "root.key")
        short = self.openssl("ec", "-in", "root.key", "-conv_form", "compressed")
        self.assertNotEqual(key, short)
        self.assertEqual(ask(SSH_KEY, {"PRIVATE_KEY": key}).fingerprint,
                         ask(SSH_KEY, {"PRIVATE_KEY": short}).fingerprint)

    def test_line_ends_become_lf_with_one_at_the_end(self):
        whole = self.read("ed25519")
        for changed in (whole.replace(b"\n", b"\r\n"), whole.replace(b"\n", b"\r"), whole.rstrip(b"\n"),
                        whole + b"\n\n", whole + b" \r\n\t\r\n"):
            self.assertEqual(ask(SSH_KEY, {"PRIVATE_KEY": changed}).values, {"PRIVATE_KEY": whole})

    def test_encrypted_keys_are_refused_with_the_command_that_helps(self):
        self.assert_bad(SSH_KEY, {"PRIVATE_KEY": self.read("locked")}, "PRIVATE_KEY", "encrypted", "ssh-keygen -p")
        old = self.openssl("rsa", "-in", "leaf.key", "-aes128", "-passout", "pass:test", "-traditional")
        self.assertIn(b"Proc-Type: 4,ENCRYPTED", old)
        new = self.openssl("pkcs8", "-topk8", "-in", "leaf.key", "-passout", "pass:test")
        for key in (old, new):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": key}, "PRIVATE_KEY", "encrypted", "openssl pkey")

    def test_other_things_than_private_keys_are_named(self):
        public = run("ssh-keygen", "-e", "-m", "PKCS8", "-f", self.folder / "rsa.pub")
        for value, part in ((public, "a public key"), (self.read("leaf.crt"), "a certificate"),
                            (self.read("leaf.csr"), "a certificate request"),
                            (armour(b"x" * 40, "SOMETHING"), "an unknown kind"),
                            (armour(b"x" * 40, "DSA PRIVATE KEY"), "DSA"),
                            (self.read("rsa.pub"), "no PEM block"), (b"hunter2", "no PEM block"),
                            (b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "puttygen"),
                            (self.read("rsa").replace(b"\n", b"\\n"), "two characters \\n")):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": value}, "PRIVATE_KEY", part)

    def test_blocks_that_are_not_whole_are_refused(self):
        whole = self.read("ed25519")
        lines = whole.split(b"\n")
        for value, part in ((b"\n".join(lines[:-2]), "no line END"), (whole.replace(b"END OPENSSH", b"END"), "no line END"),
                            (b"\n".join([lines[0], b"&" + lines[1], *lines[2:]]), "not base64"),
                            (b"\n".join([lines[0], lines[1][1:], *lines[2:]]), "not base64"),
                            (b"\n".join([lines[0], *lines[-2:]]), "not base64"),
                            (whole + whole, "behind"), (whole + b"more", "behind"), (b"before\n" + whole, "before"),
                            (whole + self.read("rsa"), "behind")):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": value}, "PRIVATE_KEY", part)

    def test_damaged_files_of_openssh_are_refused(self):
        other = File(self.read("other"))

        def changed(**parts):
            file = File(self.read("ed25519"))
            for name, value in parts.items():
                setattr(file, name, value)
            return file.pem()

        good = File(self.read("ed25519"))
        self.assertTrue(ask(SSH_KEY, {"PRIVATE_KEY": changed()}).ok)
        seed, public = good.parts[1][:32], good.parts[0]
        for value, part in (
                (changed(checks=b"12345678"), "check numbers"),
                (changed(public=other.public), "does not belong to its private part"),
                (changed(public=b""), "does not belong to its private part"),
                (changed(padding=good.padding[:-1]), "end is not right"),
                (changed(padding=good.padding[:-1] + b"\x63"), "end is not right"),
                (changed(parts=[public, seed + other.parts[0]]), "cannot be read"),
                (changed(parts=[other.parts[0], seed + other.parts[0]]), "cannot be read"),
                (changed(parts=[public[:-1], good.parts[1]]), "cannot be read"),
                (changed(parts=[public, seed]), "cannot be read"),
                (changed(count=2), "exactly one key"), (changed(count=0), "exactly one key"),
                (changed(behind=b"x"), "stands behind"), (changed(kdf=b"bcrypt"), "encrypted"),
                (changed(type=b"sk-ssh-ed25519@openssh.com"), "security token"),
                (changed(type=b"ssh-dss"), "not of a type"), (changed(type=b"ssh-rsa"), "cannot be read"),
                (armour(disarm(changed())[1:]), "does not begin as one")):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": value}, "PRIVATE_KEY", part)

    def test_every_truncation_and_every_flipped_bit_that_matters_is_refused(self):
        data = disarm(self.read("ed25519"))
        comment = data.index(b"ed25519 of a test")
        lines = []
        for length in range(1, len(data)):
            lines.append(armour(data[:length]))
        for at in range(len(data)):
            # The comment is anybody's, and equal check numbers are flipped one at a time.
            if not comment <= at < comment + len("ed25519 of a test"):
                lines.append(armour(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:]))
        asked = "".join(f"{SSH_KEY}\t{NOW}\tPRIVATE_KEY\t{line.hex()}\n" for line in lines)
        out = subprocess.run([DRIVER], input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
        answers = [Answer(line) for line in out.splitlines()]
        self.assertEqual(len(answers), len(lines))
        self.assertEqual([i for i, answer in enumerate(answers) if answer.ok], [])

    def test_rsa_key_whose_numbers_do_not_fit_is_refused(self):
        for index in range(6):
            file = File(self.read("rsa"))
            number = bytearray(file.parts[index])
            number[-1] ^= 2
            file.parts[index] = bytes(number)
            answer = ask(SSH_KEY, {"PRIVATE_KEY": file.pem()})
            self.assertFalse(answer.ok, index)
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": file.pem()}, "PRIVATE_KEY")

    def test_negative_and_huge_numbers_are_refused(self):
        for number in (b"\x80" + bytes(255), b"\x01" * 2050, b""):
            file = File(self.read("rsa"))
            file.parts[2] = number
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": file.pem()}, "PRIVATE_KEY", "cannot be read")

    def test_point_that_is_not_the_scalars_is_refused(self):
        for change in (0, 40):
            file = File(self.read("ec256"))
            point = bytearray(file.parts[1])
            point[change] ^= 1
            file.parts[1] = bytes(point)
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": file.pem()}, "PRIVATE_KEY")
        file = File(self.read("ec256"))
        scalar = bytearray(file.parts[2])
        scalar[-1] ^= 1
        file.parts[2] = bytes(scalar)
        self.assert_bad(SSH_KEY, {"PRIVATE_KEY": file.pem()}, "PRIVATE_KEY", "do not belong together")
        file = File(self.read("ec256"))
        file.parts[0] = b"nistp384"
        self.assert_bad(SSH_KEY, {"PRIVATE_KEY": file.pem()}, "PRIVATE_KEY", "cannot be read")

    def test_pem_key_with_bytes_behind_it_or_changed_inside_is_refused(self):
        data = disarm(self.openssl("rsa", "-in", "leaf.key", "-traditional"))
        self.assertTrue(ask(SSH_KEY, {"PRIVATE_KEY": armour(data, "RSA PRIVATE KEY")}).ok)

        def flipped(at):
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]

        # From the end: the coefficient, the exponents, the primes; then d, e and n.
        numbers = [flipped(-20 - 128 * number) for number in range(5)] + [flipped(len(data) // 2), flipped(100)]
        for bad in (data + b"\0", data[:-1], data[:9], *numbers):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": armour(bad, "RSA PRIVATE KEY")}, "PRIVATE_KEY")

    def test_keys_that_ssh_has_not_are_refused(self):
        for options in (["-algorithm", "ed448"], ["-algorithm", "x25519"],
                        ["-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]):
            self.assert_bad(SSH_KEY, {"PRIVATE_KEY": self.openssl("genpkey", *options)}, "PRIVATE_KEY",
                            "cannot be used here", "ed25519")

    def test_rsa_key_that_is_too_small_is_refused(self):
        small = self.openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:768")
        self.assert_bad(SSH_KEY, {"PRIVATE_KEY": small}, "PRIVATE_KEY", "768 bits", "1024")


class Certificates(Made):
    def pair(self, certificate="leaf.crt", key="leaf.key"):
        return {"TLS_CERTIFICATE": self.read(certificate), "TLS_PRIVATE_KEY": self.read(key)}

    def shown(self, name, *options):
        return self.openssl("x509", "-in", name, "-noout", *options).decode().strip().split("=", 1)[1]

    def not_after(self, name):
        return calendar.timegm(time.strptime(self.shown(name, "-enddate"), "%b %d %H:%M:%S %Y GMT"))

    def test_certificate_and_key_are_taken_with_what_openssl_shows_of_them(self):
        answer = ask(MTLS, self.pair())
        self.assertTrue(answer.ok, getattr(answer, "message", ""))
        self.assertEqual((answer.key_type, answer.bits, answer.certificates), ("rsa", 2048, 1))
        self.assertEqual(answer.fingerprint.upper(), self.shown("leaf.crt", "-fingerprint", "-sha256").replace(":", ""))
        self.assertEqual(answer.subject, self.shown("leaf.crt", "-subject", "-nameopt", "RFC2253"))
        self.assertEqual(answer.issuer, self.shown("leaf.crt", "-issuer", "-nameopt", "RFC2253"))
        self.assertEqual((answer.not_after, answer.warnings), (self.not_after("leaf.crt"), []))
        self.assertEqual(answer.values, self.pair())

    def test_chain_has_the_keys_certificate_first(self):
        chain = self.read("leaf.crt") + self.read("root.crt")
        answer = ask(MTLS, {**self.pair(), "TLS_CERTIFICATE": chain})
        self.assertEqual((answer.ok, answer.certificates, answer.subject), (True, 2, "CN=leaf.example,O=Example"))
        self.assertEqual(answer.not_after, self.not_after("leaf.crt"))
        turned = {**self.pair(), "TLS_CERTIFICATE": self.read("root.crt") + self.read("leaf.crt")}
        self.assert_bad(MTLS, turned, "TLS_CERTIFICATE", "stands in place 2", "put it first")

    def test_certificate_of_another_key_is_refused(self):
        self.assert_bad(MTLS, self.pair(key="root.key"), "TLS_CERTIFICATE", "belongs to TLS_PRIVATE_KEY")
        other = self.openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048")
        self.assert_bad(MTLS, {**self.pair(), "TLS_PRIVATE_KEY": other}, "TLS_CERTIFICATE", "no certificate in it")

    def test_every_type_of_key_that_tls_has_is_taken(self):
        for name, options, key_type, bits in (("ed25519", [], "ed25519", 256), ("ed448", [], "ed448", 456),
                                              ("ec", ["-pkeyopt", "ec_paramgen_curve:P-384"], "ecdsa", 384)):
            self.openssl("req", "-x509", "-newkey", name, *options, "-nodes", "-days", "9", "-subj", "/CN=x", "-keyout",
                         f"{name}.key", "-out", f"{name}.crt")
            answer = ask(MTLS, self.pair(f"{name}.crt", f"{name}.key"))
            self.assertEqual((answer.ok, answer.key_type, answer.bits), (True, key_type, bits))

    def test_expired_certificate_is_a_warning(self):
        answer = ask(MTLS, self.pair(), now=NOW + YEAR)
        self.assertTrue(answer.ok)
        self.assertEqual(len(answer.warnings), 1)
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.not_after("leaf.crt")))
        self.assertEqual(answer.warnings[0], f'the certificate of "CN=leaf.example,O=Example" expired on {shown}')
        early = ask(MTLS, self.pair(), now=NOW - YEAR)
        self.assertIn("is not valid before", early.warnings[0])
        both = ask(MTLS, {**self.pair(), "TLS_CERTIFICATE": self.read("leaf.crt") + self.read("root.crt")},
                   now=NOW + 2 * YEAR)
        self.assertEqual((both.ok, len(both.warnings)), (True, 2))

    def test_mistakes_with_certificates_are_named(self):
        data = disarm(self.read("leaf.crt"))
        flipped = data[:5] + bytes([data[5] ^ 0x40]) + data[6:]
        for value, part in ((self.read("leaf.key"), "a private key"), (self.read("leaf.csr"), "no certificate"),
                            (b"leaf.example", "no PEM block"), (armour(data[:-1], "CERTIFICATE"), "certificate 1 cannot"),
                            (armour(data + b"\0", "CERTIFICATE"), "certificate 1 cannot"),
                            (armour(flipped, "CERTIFICATE"), "certificate 1 cannot"),
                            (self.read("leaf.crt") + armour(b"no", "CERTIFICATE"), "certificate 2 cannot"),
                            (self.read("leaf.crt") + self.read("leaf.key"), "a private key"),
                            (self.read("leaf.crt").replace(b"\n", b"\\n"), "two characters \\n")):
            self.assert_bad(MTLS, {**self.pair(), "TLS_CERTIFICATE": value}, "TLS_CERTIFICATE", part)
            self.assert_bad(CA_CERT, {"CA_CERTIFICATE": value}, "CA_CERTIFICATE", part)

    def test_key_of_a_pair_is_pem(self):
        self.assert_bad(MTLS, {**self.pair(), "TLS_PRIVATE_KEY": self.read("rsa")}, "TLS_PRIVATE_KEY", "convert it")
        locked = self.openssl("pkcs8", "-topk8", "-in", "leaf.key", "-passout", "pass:test")
        self.assert_bad(MTLS, {**self.pair(), "TLS_PRIVATE_KEY": locked}, "TLS_PRIVATE_KEY", "encrypted")
        self.assert_bad(MTLS, {**self.pair(), "TLS_PRIVATE_KEY": self.read("leaf.crt")}, "TLS_PRIVATE_KEY",
                        "a certificate instead")

    def test_line_ends_of_both_become_lf_with_one_at_the_end(self):
        changed = {key: value.replace(b"\n", b"\r\n") + b"\r\n" for key, value in self.pair().items()}
        self.assertEqual(ask(MTLS, changed).values, self.pair())

    def test_authorities_may_be_several_with_comments_between(self):
        self.authority("second", "/CN=Zweite Stelle \u00fc")
        bundle = b"# of a test\n" + self.read("root.crt") + b"\nsubject=second\n" + self.read("second.crt")
        answer = ask(CA_CERT, {"CA_CERTIFICATE": bundle})
        self.assertTrue(answer.ok, getattr(answer, "message", ""))
        self.assertEqual((answer.certificates, answer.key_type, answer.bits, answer.warnings), (2, "", 0, []))
        self.assertEqual(answer.subject, "CN=Root of the test,O=Example")
        self.assertEqual(answer.not_after, min(self.not_after("root.crt"), self.not_after("second.crt")))
        self.assertEqual(answer.values, {"CA_CERTIFICATE": bundle})
        alone = ask(CA_CERT, {"CA_CERTIFICATE": self.read("second.crt")})
        self.assertTrue(alone.subject.isascii())

    def test_authority_that_is_none_is_a_warning(self):
        answer = ask(CA_CERT, {"CA_CERTIFICATE": self.read("leaf.crt")}, now=NOW + YEAR)
        self.assertTrue(answer.ok)
        self.assertRegex(answer.warnings[0], "expired on")
        self.assertEqual(answer.warnings[1], 'the certificate of "CN=leaf.example,O=Example" is not one of an authority')

    def test_every_truncation_of_a_certificate_is_refused(self):
        data = disarm(self.read("root.crt"))
        lines = [armour(data[:length], "CERTIFICATE") for length in range(1, len(data), 3)]
        asked = "".join(f"{CA_CERT}\t{NOW}\tCA_CERTIFICATE\t{line.hex()}\n" for line in lines)
        out = subprocess.run([DRIVER], input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual([line for line in out.splitlines() if not line.startswith("FAIL\tFIELD_INVALID")], [])


class Keys(Made):
    def app(self, **changed):
        values = {"GITHUB_APP_ID": b"123456", "GITHUB_APP_PRIVATE_KEY": self.openssl("rsa", "-in", "leaf.key", "-traditional")}
        return {key: value for key, value in {**values, **changed}.items() if value is not None}

    def test_github_app_has_an_rsa_key_and_an_id(self):
        answer = ask(GITHUB_APP, self.app(GITHUB_APP_WEBHOOK_SECRET=b" kept as it is\r\n", GITHUB_APP_CLIENT_ID=b"Iv1.8a61\n",
                                          GITHUB_APP_ID=b" 123456\r\n"))
        self.assertTrue(answer.ok, getattr(answer, "message", ""))
        self.assertEqual((answer.key_type, answer.bits), ("rsa", 2048))
        self.assertRegex(answer.fingerprint, r"^SHA256:[A-Za-z0-9+/]{43}$")
        self.assertEqual(answer.values["GITHUB_APP_ID"], b"123456")
        self.assertEqual(answer.values["GITHUB_APP_CLIENT_ID"], b"Iv1.8a61")
        self.assertEqual(answer.values["GITHUB_APP_WEBHOOK_SECRET"], b" kept as it is\r\n")
        self.assertEqual(ask(GITHUB_APP, self.app()).values, self.app())

    def test_github_app_with_another_key_or_id_is_refused(self):
        self.assert_bad(GITHUB_APP, self.app(GITHUB_APP_PRIVATE_KEY=self.read("root.key")), "GITHUB_APP_PRIVATE_KEY",
                        "one that is RSA")
        self.assert_bad(GITHUB_APP, self.app(GITHUB_APP_PRIVATE_KEY=self.read("rsa")), "GITHUB_APP_PRIVATE_KEY", "convert")
        for wrong in (b"Iv1.8a61", b"1" * 21, b"12 34", b"-1"):
            self.assert_bad(GITHUB_APP, self.app(GITHUB_APP_ID=wrong), "GITHUB_APP_ID", "digits only")
        self.assert_bad(GITHUB_APP, self.app(GITHUB_APP_CLIENT_ID=b" \n"), "GITHUB_APP_CLIENT_ID", "empty")

    def test_exactly_the_keys_of_the_type_are_allowed(self):
        key, certificate = self.read("ed25519"), self.read("root.crt")
        for kind, values, name in ((SSH_KEY, {"PRIVATE_KEY": key, "PUBLIC_KEY": b"x"}, "PUBLIC_KEY"),
                                   (SSH_KEY, {"PRIVATE_KEY": key, "private_key": b"x"}, "private_key"),
                                   (CA_CERT, {"CA_CERTIFICATE": certificate, "A" * 128: b""}, "A" * 128),
                                   (GITHUB_APP, self.app(OTHER=b"1"), "OTHER")):
            self.assert_fails(ask(kind, values), "FIELD_INVALID", "values", f'has no key "{name}"', "its keys are")
        leaf = {"TLS_CERTIFICATE": self.read("leaf.crt"), "TLS_PRIVATE_KEY": self.read("leaf.key")}
        for kind, values, missing in ((SSH_KEY, {}, "PRIVATE_KEY"), (CA_CERT, {}, "CA_CERTIFICATE"),
                                      (MTLS, {**leaf, "TLS_CERTIFICATE": None}, "TLS_CERTIFICATE"),
                                      (MTLS, {**leaf, "TLS_PRIVATE_KEY": None}, "TLS_PRIVATE_KEY"),
                                      (GITHUB_APP, self.app(GITHUB_APP_ID=None), "GITHUB_APP_ID"),
                                      (GITHUB_APP, self.app(GITHUB_APP_PRIVATE_KEY=None), "GITHUB_APP_PRIVATE_KEY")):
            there = {key: value for key, value in values.items() if value is not None}
            self.assert_fails(ask(kind, there), "FIELD_REQUIRED", f"values.{missing}", "needs this key")
            self.assert_fails(ask(kind, {**there, missing: b" \n"}), "FIELD_REQUIRED", f"values.{missing}", "empty")

    def test_custom_secrets_are_left_as_they_are(self):
        values = {"ANY": b"bytes\r\n\0\xff", "PRIVATE_KEY": b"no key\r\n"}
        answer = ask(CUSTOM, values)
        self.assertEqual((answer.ok, answer.values, answer.key_type), (True, values, ""))

    def test_unknown_type_is_not_available(self):
        for kind in (0, 6, 99, -1):
            self.assert_fails(ask(kind, {"A": b"b"}), "NOT_AVAILABLE", "type", "newer")


if __name__ == "__main__":
    unittest.main()
