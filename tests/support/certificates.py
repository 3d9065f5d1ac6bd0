"""Certificates for tests, made with the commands of docs/operations.md, and wrong ones."""

import pathlib
import ssl
import subprocess

LONG_AGO = "20200101000000Z"
NOT_SO_LONG_AGO = "20200201000000Z"
FAR_AHEAD = "20990101000000Z"
FARTHER_AHEAD = "20990201000000Z"


def openssl(*arguments, folder):
    done = subprocess.run(["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments}: {done.stderr}")


class Authority:
    """A CA in a folder of its own, and the certificates that it signs there: NAME.pem and NAME.key."""

    def __init__(self, folder, name="Test CA"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        (self.folder / "index.txt").touch()
        (self.folder / "serial").write_text("01\n")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca = here\n[here]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n"
            "default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}",
                "-addext", "keyUsage=critical,keyCertSign", folder=self.folder)

    def issue(self, name, names="DNS:localhost,IP:127.0.0.1", purpose="serverAuth", since=None, until=None):
        """The paths of a certificate and its key."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                request, "-subj", f"/CN={name}", folder=self.folder)
        key.chmod(0o600)
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={purpose}\n" + (f"subjectAltName={names}\n" if names else ""))
        dates = ["-startdate", since, "-enddate", until] if since else ["-days", "1"]
        openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", self.certificate, "-keyfile", self.key, "-in",
                request, "-out", certificate, "-extfile", extensions, *dates, folder=self.folder)
        return certificate, key

    def context(self, client=None):
        """How Python's ssl connects to who has a certificate of this CA."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if client:
            context.load_cert_chain(*map(str, client))
        return context
