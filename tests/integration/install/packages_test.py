#!/usr/bin/env python3
"""Packages for Debian: what is in each, that it would be installed where it says, and that its programs run from there."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
BUILD = pathlib.Path(os.environ.get("COFFER_BUILD", ROOT / "build" / "debug"))
# dpkg wants to be root.
NEW_USER = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
PACKAGES = {"cofferd", "coffer", "libcoffer0", "libcoffer-dev", "coffer-doc"}


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@unittest.skipUnless(shutil.which("dpkg-shlibdeps"), "there is no dpkg-dev")
class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-packages-", dir="/tmp"))
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", cls.folder / "made", "-D", "CPACK_DEBIAN_COMPRESSION_TYPE=gzip")
        cls.packages = {path.name.split("_")[0]: path for path in (cls.folder / "made").glob("*.deb")}
        cls.root = cls.folder / "root"
        for path in cls.packages.values():
            run("dpkg-deb", "-x", path, cls.root)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def control(self, package, name="control"):
        return run("dpkg-deb", "-I", self.packages[package], name)

    def field(self, package, name):
        return re.search(rf"^{name}: (.*)$", self.control(package), re.M).group(1)

    def files(self, package):
        rows = [line.split(maxsplit=5) for line in run("dpkg-deb", "-c", self.packages[package]).splitlines()]
        return {row[5].split(" -> ")[0].removeprefix("."): row for row in rows if not row[5].endswith("/")}

    def test_each_package_has_its_files_which_belong_to_root_and_no_file_is_in_two(self):
        self.assertEqual(set(self.packages), PACKAGES)
        all_files = [name for package in PACKAGES for name in self.files(package)]
        self.assertEqual(len(all_files), len(set(all_files)))
        for package, name in (("cofferd", "/usr/sbin/cofferd"), ("cofferd", "/usr/lib/systemd/system/cofferd.service"), ("coffer", "/usr/bin/coffer"),
                              ("coffer", "/usr/share/man/man1/coffer.1.gz"), ("coffer", "/usr/share/bash-completion/completions/coffer"),
                              ("cofferd", "/usr/share/coffer/cofferd.yaml"), ("libcoffer-dev", "/usr/share/doc/coffer/examples/executor.c"), ("libcoffer-dev", "/usr/include/coffer/coffer.h"),
                              ("coffer-doc", "/usr/share/doc/coffer/operations.md"), ("cofferd", "/usr/share/coffer/dashboard.json")):
            self.assertIn(name, self.files(package))
        for package in PACKAGES:
            self.assertIn(f"/usr/share/doc/{package}/copyright", self.files(package))
            for name, row in self.files(package).items():
                self.assertEqual(row[1], "root/root", name)
                self.assertTrue(name.startswith("/usr/"), name)
                self.assertNotRegex(row[0], r"^-.{4}w|^-.{7}w", name)

    def test_packages_ask_for_the_libraries_that_they_need(self):
        self.assertRegex(self.field("cofferd", "Depends"), r"libpq5.*")
        self.assertIn("systemd | systemd-standalone-sysusers", self.field("cofferd", "Depends"))
        for package in ("cofferd", "coffer", "libcoffer0"):
            self.assertIn("libnng1", self.field(package, "Depends"))
            self.assertNotIn("libpq", self.field("coffer", "Depends"))
        self.assertIn(f"libcoffer0 (= {self.field('libcoffer0', 'Version')})", self.field("libcoffer-dev", "Depends"))
        self.assertEqual(self.field("coffer-doc", "Architecture"), "all")
        self.assertRegex(self.control("libcoffer0", "shlibs"), r"libcoffer 0 libcoffer0 ")

    def test_programs_run_from_the_root_that_they_were_installed_into(self):
        self.assertRegex(run(self.root / "usr/sbin/cofferd", "version"), r"^cofferd \d")
        self.assertRegex(run(self.root / "usr/bin/coffer", "version"), r"^coffer \d")
        self.assertIn("coffer-bench", run(self.root / "usr/bin/coffer-bench", "--help"))

    def test_unit_names_the_folders_of_the_package(self):
        unit = (self.root / "usr/lib/systemd/system/cofferd.service").read_text(encoding="utf-8")
        self.assertIn("ExecStart=/usr/sbin/cofferd serve --config /etc/coffer/cofferd.yaml\n", unit)
        self.assertIn("Documentation=file:/usr/share/doc/coffer/operations.md\n", unit)
        for path in self.root.rglob("*"):
            if path.is_file() and path.suffix in (".service", ".pc", ".cmake", ".conf"):
                self.assertNotIn(str(self.folder), path.read_text(encoding="utf-8"), path)

    def dpkg(self, system, *arguments):
        """Into a folder that has no packages at all, so that nothing is fetched; scripts are told of it by DPKG_ROOT."""
        return run(*NEW_USER, "dpkg", f"--root={system}", "--force-script-chrootless", "--force-depends", "--force-unsafe-io", "--log=/dev/null", *arguments)

    def test_packages_are_installed_replaced_removed_and_purged_and_leave_only_what_is_the_operators(self):
        system = self.folder / "system"
        for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"):
            (system / folder).mkdir(parents=True)
        for name in ("status", "available"):
            (system / "var/lib/dpkg" / name).touch()
        said = self.dpkg(system, "--install", *self.packages.values())
        self.assertIn("cofferd: it is not started; /usr/share/doc/coffer/operations.md", said)
        self.assertRegex((system / "etc/passwd").read_text(encoding="utf-8"), r"(?m)^coffer:.*:/var/lib/coffer:/usr/sbin/nologin$")
        said = self.dpkg(system, "--install", *self.packages.values())
        self.assertNotIn("cofferd: ", said)
        for name in ("etc/coffer", "var/lib/coffer"):
            (system / name).mkdir(parents=True)
        (system / "etc/coffer/root.key").touch()
        self.dpkg(system, "--remove", *PACKAGES)
        self.assertFalse((system / "usr").exists())
        self.assertTrue((system / "etc/coffer/root.key").exists())
        said = self.dpkg(system, "--purge", *PACKAGES)
        self.assertIn("cofferd: /etc/coffer is left as it is: a root key, or an audit log, may be in it\n", said)
        self.assertTrue((system / "etc/coffer/root.key").exists())
        self.assertFalse((system / "var/lib/coffer").exists())
        self.assertNotIn("coffer", (system / "var/lib/dpkg/status").read_text(encoding="utf-8"))
        self.assertEqual([path.name for path in (system / "var/lib/dpkg/info").iterdir() if path.name != "format"], [])


if __name__ == "__main__":
    unittest.main()
