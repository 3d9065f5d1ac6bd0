#!/usr/bin/env python3
"""Installs the build into an empty folder and looks at what is there: every file, and how its programs were linked."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
BUILD = pathlib.Path(os.environ.get("COFFER_BUILD", ROOT / "build" / "debug"))
DEBUG = os.environ.get("COFFER_BUILD_TYPE", "Debug") == "Debug"

# What the folder holds; a name that ends in / stands for everything below it.
EXPECTED = {
    "bin/coffer", "bin/coffer-bench", "sbin/cofferd", "share/man/man1/coffer.1", "share/bash-completion/completions/coffer", "share/fish/vendor_completions.d/coffer.fish", "share/zsh/vendor-completions/_coffer", "include/coffer/", "LIB/libcoffer.a", "LIB/libcoffer.so", "LIB/libcoffer.so.0",
    "LIB/libcoffer.so.0.1.0", "LIB/cmake/coffer/", "LIB/pkgconfig/coffer.pc", "lib/systemd/system/cofferd.service",
    "lib/sysusers.d/coffer.conf", "share/coffer/alerts.yaml", "share/coffer/cofferd.yaml", "share/coffer/dashboard.json", "share/coffer/integrations.yaml", "share/coffer/proto/", "share/coffer/providers.yaml", "share/doc/coffer/",
}
# Files of the folders above that somebody will look for.
INSIDE = [
    "include/coffer/coffer.h", "include/coffer/rpc.h", "include/coffer/version.h", "share/doc/coffer/README.md",
    "share/doc/coffer/LICENSE", "share/doc/coffer/examples/executor.c", "share/doc/coffer/operations.md", "share/doc/coffer/reference/settings.md",
    "share/coffer/proto/coffer/rpc/v1/frame.proto", "share/coffer/proto/google/rpc/error_details.proto",
]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options).stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = pathlib.Path(tempfile.mkdtemp(prefix="coffer-install-", dir="/tmp"))
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        cls.library = next(cls.prefix.rglob("libcoffer.so")).parent
        cls.names = {str(path.relative_to(cls.prefix)) for path in cls.prefix.rglob("*") if not path.is_dir()}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.prefix)

    def programs(self):
        """The files that the linker made; links to them left out."""
        paths = [self.prefix / name for name in sorted(self.names)]
        return [path for path in paths if not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"]

    def test_every_file_is_expected_and_every_expected_file_is_there(self):
        library = str(self.library.relative_to(self.prefix))
        expected = {name.replace("LIB/", library + "/") for name in EXPECTED}
        folders = tuple(name for name in expected if name.endswith("/"))
        single = {name for name in self.names if not name.startswith(folders)}
        self.assertEqual(single, {name for name in expected if not name.endswith("/")})
        for name in INSIDE:
            self.assertIn(name, self.names)

    def test_programs_and_library_are_hardened(self):
        programs = self.programs()
        self.assertEqual(len(programs), 4, programs)
        result = subprocess.run([ROOT / ".ci" / "hardening", *(["--debug"] if DEBUG else []), *programs],
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_nothing_is_looked_for_in_the_folder_of_the_build(self):
        for program in self.programs():
            self.assertNotRegex(run("readelf", "--dynamic", program), r"\b(RPATH|RUNPATH)\b", program)
        for name in self.names:
            if name.endswith((".pc", ".cmake", ".service", ".h")):
                self.assertNotIn(str(ROOT), (self.prefix / name).read_text(encoding="utf-8"), name)

    def test_programs_run_from_where_they_are(self):
        self.assertRegex(run(self.prefix / "sbin" / "cofferd", "version"), r"^cofferd \d+\.\d+\.\d+\n$")
        self.assertRegex(run(self.prefix / "bin" / "coffer", "version"), r"^coffer \d+\.\d+\.\d+\n$")

    def test_unit_lets_the_server_lock_what_it_locks_and_write_no_core(self):
        unit = (self.prefix / "lib/systemd/system/cofferd.service").read_text(encoding="utf-8")
        values = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
        for key, value in {"LimitCORE": "0", "NoNewPrivileges": "yes", "User": "coffer", "UMask": "0077"}.items():
            self.assertEqual(values[key], value)
        defaults = run(self.prefix / "sbin" / "cofferd", "config-reference")
        locked = sum(int(size) for size in re.findall(r"(?:pool|secure_heap): *\"?(\d+)MiB", defaults))
        self.assertGreater(locked, 0)
        self.assertGreaterEqual(int(values["LimitMEMLOCK"].removesuffix("M")), locked)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
    def test_unit_is_understood_by_systemd(self):
        source = (self.prefix / "lib/systemd/system/cofferd.service").read_text(encoding="utf-8")
        copy = self.prefix / "cofferd.service"
        copy.write_text(re.sub(r"/[^=\s]*/sbin/cofferd", str(self.prefix / "sbin/cofferd"), source), encoding="utf-8")
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
        ours = [line for line in result.stderr.splitlines() if "cofferd.service" in line]
        self.assertEqual(ours, [])
        copy.unlink()


if __name__ == "__main__":
    unittest.main()
