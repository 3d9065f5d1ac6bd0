#!/usr/bin/env python3
"""The installed library, as strangers have it: headers, pkg-config, CMake's package, shared and static.

Everything is installed into a folder, programs are built outside of the tree against it, and run against a server.
"""

import base64
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import cli  # noqa: E402
from cofferd import BUILD, ROOT, Dev, values  # noqa: E402

STRANGER = ROOT / "tests" / "e2e" / "stranger"
EXAMPLES = ROOT / "client" / "libcoffer" / "examples"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
C = ["-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"]
CPP = ["-x", "c++", "-std=c++11"]
VALUE = "of-the-installed-library"


def cached(name, default=""):
    """A variable of the build that is installed."""
    for line in (BUILD / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split("=", 1)[1]
    return default


# A library with a sanitizer in it links only with the compiler and the sanitizer that it was made with.
CC = cached("CMAKE_C_COMPILER", "cc")
CXX = CC.replace("clang", "clang++") if "clang" in CC else "c++"
SANITIZE = [f"-fsanitize={cached('COFFER_SANITIZE')}"] if cached("COFFER_SANITIZE") else []


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=300,
                          **options)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-install-", dir="/tmp"))
        cls.prefix = cls.folder / "some where"  # a space, which careless scripts break at
        for component in ("runtime", "dev", "cli"):
            run("cmake", "--install", BUILD, "--prefix", cls.prefix, "--component", component)
        cls.library = next(cls.prefix.rglob("libcoffer.so")).parent
        cls.dev = Dev()
        with cls.dev.connect() as connection:
            answer = connection.call("coffer.v1.SecretService/CreateSecret", {
                "environment": "prod", "name": "crowdstrike",
                "values": values(CROWDSTRIKE_CLIENT_ID=VALUE.encode(), CROWDSTRIKE_CLIENT_SECRET=b"of-example")},
                token=cls.dev.admin)
        assert answer.code == 0, answer

    @classmethod
    def tearDownClass(cls):
        cls.dev.close()
        shutil.rmtree(cls.folder)

    def flags(self, *options):
        """What pkg-config of the installed package says."""
        search = {**os.environ, "PKG_CONFIG_PATH": str(self.library / "pkgconfig")}
        text = run("pkg-config", *options, "coffer", env=search)
        return subprocess.run(["sh", "-c", f'printf "%s\\n" {text}'], capture_output=True, text=True,
                              check=True).stdout.split("\n")[:-1]

    def build(self, source, language, name, flags):
        program = self.folder / name
        compiler = CXX if language is CPP else CC
        run(compiler, *language, *STRICT, *SANITIZE, source, *(["-x", "none"] if language is CPP else []), *flags,
            "-o", program, cwd=self.folder)
        return program

    def call(self, program, *arguments, token="executor"):
        environment = cli.environment(self.dev, token, LD_LIBRARY_PATH=self.library)
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=180,
                              check=False)
        return done.returncode, done.stdout, done.stderr

    def assert_works(self, program):
        asked = ("prod", "crowdstrike", "CROWDSTRIKE_CLIENT_ID")
        self.assertEqual(self.call(program, *asked), (0, VALUE + "\n", ""))
        self.assertEqual(self.call(program, "prod", "crowdstrike", "NOT_THERE")[:2], (1, "KEY_NOT_FOUND\n"))
        self.assertEqual(self.call(program, *asked, token="none")[:2], (2, "CONFIG_INVALID\n"))

    def needed(self, program):
        return [line.split()[-1].strip("[]") for line in run("readelf", "-d", program).splitlines()
                if "(NEEDED)" in line]

    def test_pkg_config_gives_what_the_shared_library_needs(self):
        for name, language in (("c", C), ("cpp", CPP)):
            program = self.build(STRANGER / "get.c", language, f"shared-{name}", self.flags("--cflags", "--libs"))
            self.assertIn("libcoffer.so.0", self.needed(program))
            self.assert_works(program)

    def test_pkg_config_gives_what_the_static_library_needs(self):
        for name, language in (("c", C), ("cpp", CPP)):
            flags = self.flags("--static", "--cflags", "--libs")
            flags = [str(self.library / "libcoffer.a") if flag == "-lcoffer" else flag for flag in flags]
            program = self.build(STRANGER / "get.c", language, f"static-{name}", flags)
            self.assertNotIn("libcoffer.so.0", self.needed(program))
            self.assert_works(program)

    def test_package_of_cmake_is_found_outside_of_the_tree(self):
        source, build = self.folder / "stranger", self.folder / "stranger-build"
        shutil.copytree(STRANGER, source)
        run("cmake", "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_C_COMPILER={CC}",
            f"-DCMAKE_CXX_COMPILER={CXX}", f"-DCMAKE_C_FLAGS={' '.join(STRICT + SANITIZE)}",
            f"-DCMAKE_CXX_FLAGS={' '.join(STRICT + SANITIZE)}")
        run("cmake", "--build", build)
        for name in ("c_coffer", "cpp_coffer", "c_coffer_static", "cpp_coffer_static"):
            self.assertEqual("libcoffer.so.0" in self.needed(build / name), not name.endswith("static"))
            self.assert_works(build / name)

    def test_package_of_another_major_version_is_refused(self):
        source = self.folder / "later"
        source.mkdir()
        text = (STRANGER / "CMakeLists.txt").read_text().replace("find_package(coffer 0.1", "find_package(coffer 1.0")
        (source / "CMakeLists.txt").write_text(text)
        with self.assertRaisesRegex(AssertionError, r"compatible\s+with requested version"):
            run("cmake", "-S", source, "-B", self.folder / "later-build", f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_every_installed_header_stands_alone_in_c99_and_in_cpp(self):
        headers = sorted(path.name for path in (self.prefix / "include" / "coffer").iterdir())
        self.assertEqual(headers, ["coffer.h", "errors.h", "mask.h", "preflight.h", "rpc.h", "template.h", "token.h", "version.h",
                                   "view.h", "watch.h"])
        for header in headers:
            for language in (["-x", "c", "-std=c99"], ["-x", "c++", "-std=c++11"], ["-x", "c++", "-std=c++20"]):
                source = self.folder / "alone.c"
                source.write_text(f"#include <coffer/{header}>\n#include <coffer/{header}>\nint only;\n")
                run(CXX if language[1] == "c++" else CC, *language, *STRICT, "-Wundef", "-I", self.prefix / "include",
                    "-fsyntax-only", source)

    def test_headers_bring_nothing_but_the_standard_headers(self):
        for header in (self.prefix / "include" / "coffer").iterdir():
            for line in header.read_text().splitlines():
                if line.startswith("#include"):
                    self.assertRegex(line, r"<(coffer/\w+|stdbool|stddef|stdint)\.h>", header.name)

    def test_nothing_that_is_installed_names_the_build(self):
        for path in self.prefix.rglob("*"):
            if path.suffix in (".h", ".pc", ".cmake"):
                self.assertNotIn(str(ROOT), path.read_text(), path)

    def test_example_is_compiled_as_its_comment_says_and_runs(self):
        program = self.build(EXAMPLES / "executor.c", C, "executor", self.flags("--cflags", "--libs"))
        code, out, err = self.call(program, "prod", "nowhere")
        self.assertEqual((code, err), (1, ""))
        self.assertIn("ok   crowdstrike.CROWDSTRIKE_CLIENT_ID: 24 bytes, version 1", out)
        self.assertIn("FAIL crowdstrike.CROWDSTRIKE_CLIENT_ID: SECRET_NOT_FOUND", out)
        self.assertIn("1 of 2 environments resolved", out)
        self.assertNotIn(VALUE, out)
        code, out, _ = self.call(program, "--wrong-key", "prod")
        self.assertEqual(code, 1)
        self.assertIn("did you mean CROWDSTRIKE_CLIENT_SECRET", out)

    def test_example_that_runs_a_program_gives_it_the_values_and_masks_them(self):
        program = self.build(EXAMPLES / "run.c", C, "run", self.flags("--cflags", "--libs"))
        reference = "crowdstrike.CROWDSTRIKE_CLIENT_ID"
        script = ("env | sort; printf %s \"$CROWDSTRIKE_CLIENT_ID\" | wc -c; "
                  "printf 'user:%s' \"$CROWDSTRIKE_CLIENT_ID\" | base64; exit 7")
        code, out, err = self.call(program, "prod", reference, "--", "sh", "-c", script)
        self.assertEqual((code, err), (7, ""))
        self.assertIn("CROWDSTRIKE_CLIENT_ID=***\n", out)
        self.assertIn(f"{len(VALUE)}\n", out)
        self.assertNotIn("COFFER_", out)
        encoded = base64.b64encode(f"user:{VALUE}".encode()).decode()
        self.assertIn(f"{encoded[:7]}***", out)
        self.assertNotIn(encoded[8:-4], out)
        code, out, err = self.call(program, "nowhere", reference, "--", "true")
        self.assertEqual((code, out), (125, ""))
        self.assertIn("run: ", err)

    def test_installed_coffer_runs_without_the_build(self):
        program = next(self.prefix.rglob("bin/coffer"))
        code, out, _ = self.call(program, "get", "crowdstrike.CROWDSTRIKE_CLIENT_ID", "-e", "prod")
        self.assertEqual((code, out), (0, VALUE))


if __name__ == "__main__":
    unittest.main()
