#!/usr/bin/env python3
"""Shows that every check of .ci can fail: plants what it looks for into a copy of the project, and expects its report.

Every test first lets the check pass on the copy as it is, so what fails is what was planted.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("COFFER_BUILD", ROOT / "build" / "debug"))
# What stands in .ci but is no check: what CI runs, and what installs packages.
NO_CHECKS = {"run", "deps"}

FUNCTION = "int planted(int a);\nint planted(int a)\n{{\n{body}    return a;\n}}\n"


def git(folder, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", "-c", "safe.directory=*", *identity, "-C", str(folder), *arguments], check=True,
                          capture_output=True, text=True).stdout


def copy_project(folder):
    """The project's files as they are now, and a history of one commit."""
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "build").mkdir()
    (folder / "build" / "tools").symlink_to(ROOT / "build" / "tools")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "tests: everything")


class Checks(unittest.TestCase):
    CLEAN = "int planted(int a);\n\nint planted(int a)\n{\n    return a + 1;\n}\n"

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-checks-", dir="/tmp"))
        copy_project(cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @contextlib.contextmanager
    def planted(self, name, text):
        """A file with another content for a while; None: without the file."""
        path = self.folder / name
        old = path.read_bytes() if path.is_file() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
        try:
            yield path
        finally:
            if old is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(old)

    def text(self, name):
        return (self.folder / name).read_text(encoding="utf-8")

    def replaced(self, name, old, new):
        """A file in which one place is another one for a while."""
        text = self.text(name)
        self.assertIn(old, text, name)
        return self.planted(name, text.replace(old, new, 1))

    def appended(self, name, text):
        return self.planted(name, self.text(name) + text)

    def run_check(self, check, *arguments):
        return subprocess.run([self.folder / ".ci" / check, *map(str, arguments)], cwd=self.folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              env={**os.environ, "COFFER_RESULTS": ""})

    def passes(self, check, *arguments):
        result = self.run_check(check, *arguments)
        self.assertEqual(result.returncode, 0, result.stdout)

    def fails(self, pattern, check, *arguments):
        result = self.run_check(check, *arguments)
        self.assertNotEqual(result.returncode, 0, f"{check} did not see it: {result.stdout}")
        self.assertRegex(result.stdout, pattern)

    def test_every_check_is_tested_here(self):
        checks = {path.name for path in (ROOT / ".ci").iterdir() if os.access(path, os.X_OK) and path.is_file()}
        tested = {name.removeprefix("test_").split("__")[0].replace("_", "-") for name in dir(self)
                  if name.startswith("test_") and "__" in name}
        self.assertEqual(checks - NO_CHECKS, tested)

    def test_every_check_is_run_by_ctest(self):
        listed = re.findall(r"^coffer_check\(\S+(?: SLOW)? COMMAND ([\w-]+)", (ROOT / "tests/checks.cmake").read_text(), re.M)
        checks = {path.name for path in (ROOT / ".ci").iterdir() if os.access(path, os.X_OK) and path.is_file()}
        # hardening is run on what is installed, by integration/install/tree.
        self.assertEqual(set(listed), checks - NO_CHECKS - {"hardening"})

    def test_layers__include_against_the_table(self):
        self.passes("layers")
        for name, line, report in (
                ("server/transport/request.c", '#include "server/store/session.h"', "server/transport may not include"),
                ("common/uuid.c", '#include "server/service/text.h"', "common may not include server/service"),
                ("server/service/text.c", "#include <libpq-fe.h>", "libpq may be included only in"),
                ("client/cli/table.c", "#include <nng/nng.h>", "nng may be included only in"),
                ("server/service/text.c", '#include "server/service/page.c"', "a source file is included"),
                ("client/another/new.c", "#include <stdio.h>", "lies in no layer"),
                ("server/another/new.c", "#include <stdio.h>", "lies in no layer")):
            old = self.text(name) if (self.folder / name).is_file() else ""
            with self.subTest(name), self.planted(name, f"{line}\n{old}") as path:
                self.fails(report, "layers")
            if not old:
                path.parent.rmdir()

    def test_functions__too_long_or_too_deep(self):
        self.passes("functions")
        with self.planted("common/planted.c", FUNCTION.format(body="    a++;\n" * 60)):
            self.fails(r"planted has 6\d lines", "functions")
        deep = "".join(f"{'    ' * (level + 1)}if (a > {level}) {{\n" for level in range(4))
        deep += "".join("    " * (4 - level) + "}\n" for level in range(4))
        with self.planted("common/planted.c", FUNCTION.format(body=deep)):
            self.fails("planted nests 4 deep", "functions")

    def test_mistakes__forbidden_calls_and_marks(self):
        self.passes("mistakes")
        planted = (("strcpy(a, b);", "without a limit"), ("goto done;", "cleanup"), ("n = atoi(a);", "number"),
                   ("memcmp(token, b, 4);", "cof_secret_equal"), ("memset(secret, 0, 4);", "cof_wipe"),
                   ("/* TO" "DO: later */", "left-over"), ("a(); ", "white space"))
        with self.planted("server/service/planted.c", "\n".join(line for line, _ in planted) + "\n"):
            result = self.run_check("mistakes")
        self.assertNotEqual(result.returncode, 0, result.stdout)
        for number, (_, report) in enumerate(planted, 1):
            self.assertRegex(result.stdout, f"planted.c:{number}: .*{report}")
        with self.planted("tests/planted_test.py", "import random\na = random.Random(7)\nb = random" ".choice((1, 2))\n"):
            self.fails("planted_test.py:3: .*nobody can repeat it", "mistakes")

    def test_words__what_belongs_to_somebodys_machine(self):
        self.passes("words")
        lines = ("made with cl" "aude", "see /ho" "me/somebody/notes", "from py" "pi.org", "Co-Auth" "ored-By: a <b@c>")
        with self.planted("docs/planted.md", "\n".join(lines) + "\n"):
            self.fails("(?s)md:1: .*md:2: .*md:3: .*md:4: ", "words")
        git(self.folder, "commit", "-q", "--allow-empty", "-m", "tests: by cl" "aude")
        self.fails("commit [0-9a-f]+", "words")
        git(self.folder, "reset", "-q", "--soft", "HEAD~1")

    def small_project(self):
        """A project with nothing but the checks, for those that take long over many files."""
        small = Checks()
        small.folder = pathlib.Path(tempfile.mkdtemp(prefix="small-", dir=self.folder / "build"))
        shutil.copytree(self.folder / ".ci", small.folder / ".ci")
        shutil.copy2(self.folder / ".clang-format", small.folder)
        git(small.folder, "init", "-q")
        return small

    def test_format__another_layout(self):
        small = self.small_project()
        with small.planted("common/planted.c", self.CLEAN):
            small.passes("format")
        with small.planted("common/planted.c", "int  planted( int a ) { return a; }\n"):
            small.fails("common/planted.c:1", "format")

    def test_scripts__faults_of_shell_and_python(self):
        small = self.small_project()
        small.passes("scripts")
        with small.planted("tests/planted.sh", "#!/bin/bash\nrm -rf $1/x\n") as path:
            path.chmod(0o755)
            small.fails("SC2086", "scripts")
        with small.planted("tests/planted.sh", "#!/bin/bash\ntrue\n"):
            small.fails("no run bit", "scripts")
        with small.planted("tests/planted.py", "def planted(:\n"):
            small.fails("tests/planted.py:1", "scripts")

    def test_proto__lint_rules(self):
        self.passes("proto")
        name = "proto/coffer/v1/environment.proto"
        for text, report in (("\nmessage Planted {}\n", "comment"), ("\n// A message.\nmessage planted_one {}\n", "PascalCase"),
                             ("\n// A kind.\nenum Planted {\n  // None.\n  NONE = 0;\n}\n", "PLANTED_")):
            with self.subTest(text), self.appended(name, text):
                self.fails(report, "proto")

    def test_proto__break_of_what_is_frozen(self):
        frame = "proto/coffer/rpc/v1/frame.proto"
        secret = "proto/coffer/v1/secret.proto"
        with self.appended(secret, "\n// What is in no image.\nmessage Apart {\n  // Any.\n  string text = 1;\n}\n"):
            self.passes("proto", "freeze", "planted", "coffer.rpc.v1", "coffer.v1.ResolveService")
        image = self.folder / "proto/frozen/planted.binpb"
        try:
            self.passes("proto")  # without Apart, which nothing frozen uses
            field = re.search(r"^  bytes request_id = 5;\n", self.text(frame), re.M)
            for what, new in (("deleted", ""), ("another type", "  string request_id = 5;\n"),
                              ("another number", "  bytes request_id = 55;\n"), ("another name", "  bytes id = 5;\n")):
                with self.subTest(what), self.replaced(frame, field.group(), new):
                    self.fails("frame.proto", "proto")
                    # Nor does freezing again hide it.
                    self.fails("frame.proto", "proto", "freeze", "planted", "coffer.rpc.v1", "coffer.v1.ResolveService")
            with self.replaced("proto/coffer/rpc/v1/error_reason.proto", "TOKEN_MISSING", "TOKEN_NONE"):
                self.fails("error_reason.proto", "proto")
            with self.planted("proto/coffer/rpc/v1/server.proto", None):
                self.fails("GetServerInfoRequest.* was deleted", "proto")
            with self.replaced(secret, "  bytes value = 2;", "  string value = 2;"):
                self.fails("secret.proto:.*KeyValue", "proto")  # Resolve uses it
            with self.appended(frame, "\n// What comes later.\nmessage Later {\n  // Any.\n  string text = 1;\n}\n"):
                self.passes("proto")
        finally:
            image.unlink()

    def test_errors_doc__table_enum_and_page_differ(self):
        self.passes("errors-doc", "--check")
        row = re.search(r'^REASON\(TOKEN_MISSING, (\d+),', self.text("common/reason.def"), re.M)
        with self.replaced("common/reason.def", row.group(), f"REASON(TOKEN_MISSING, 9{row.group(1)},"):
            self.fails("TOKEN_MISSING has the number", "errors-doc", "--check")
        with self.replaced("proto/coffer/rpc/v1/error_reason.proto", "REASON_TOKEN_MISSING", "REASON_TOKEN_GONE"):
            self.fails("TOKEN_MISSING", "errors-doc", "--check")
        with self.replaced("docs/errors.tsv", "TOKEN_MISSING", "TOKEN_GONE"):
            self.fails("has no example", "errors-doc", "--check")
        with self.appended("docs/errors.md", "More.\n"):
            self.fails("is not what errors-doc writes", "errors-doc", "--check")

    def test_permissions_doc__page_differs(self):
        self.passes("permissions-doc", "--check")
        with self.replaced("common/permission.def", '"secret:read"', '"secret:look"'):
            self.fails("is not what permissions-doc writes", "permissions-doc", "--check")

    def test_settings_doc__page_differs(self):
        self.passes("settings-doc", "--check")
        with self.replaced("server/settings.def", 'workers, "8"', 'workers, "9"'):
            self.fails("is not what settings-doc writes", "settings-doc", "--check")

    def test_cli_doc__page_differs(self):
        self.passes("cli-doc", "--check")
        with self.appended("docs/reference/cli.md", "More.\n"):
            self.fails("is not what cli-doc writes", "cli-doc", "--check")

    def test_links__to_what_is_not_there(self):
        self.passes("links")
        with self.appended("README.md", "See [nothing](docs/not-here.md).\n"):
            self.fails("leads nowhere", "links")
        with self.planted("common/planted.c", "/* See docs/not-" "here.md. */\n"):
            self.fails("there is no docs/not-here.md", "links")
        with self.appended("README.md", "See [a section](docs/operations.md#not-there).\n"):
            self.fails("has no heading not-there", "links")

    def test_metrics_doc__metric_that_nobody_writes_or_explains(self):
        self.passes("metrics-doc")
        with self.replaced("docs/operations.md", "`coffer_db_up`", "`coffer_db_gone`"):
            self.fails("coffer_db_up is not explained", "metrics-doc")
        with self.replaced("deploy/prometheus/alerts.yaml", "coffer_db_up", "coffer_db_gone"):
            self.fails("no server writes coffer_db_gone", "metrics-doc")
        with self.replaced("deploy/grafana/dashboard.json", "coffer_db_up", "coffer_db_gone"):
            self.fails("no server writes coffer_db_gone", "metrics-doc")
            self.fails("coffer_db_up is on no panel", "metrics-doc")
        with self.replaced("deploy/grafana/dashboard.json", "by (reason)", "by (tenant)"):
            self.fails("coffer_rpc_rejected_total has no label tenant", "metrics-doc")

    def test_metrics_doc__panel_that_is_read_wrongly(self):
        with self.replaced("deploy/grafana/dashboard.json", '"description": "How many it uses.",', ""):
            self.fails("Processors: has no description", "metrics-doc")
        with self.replaced("deploy/grafana/dashboard.json", '"unit": "percentunit",', ""):
            self.fails("Descriptors: has no unit", "metrics-doc")
        with self.replaced("deploy/grafana/dashboard.json", "sum(coffer_rpc_workers", "rate(coffer_rpc_workers"):
            self.fails("Room: shows number, rate in one unit", "metrics-doc")
        with self.replaced("deploy/grafana/dashboard.json", '"id": 35,', '"id": 34,'):
            self.fails("an id belongs to two panels", "metrics-doc")

    def test_exports__library_and_list_differ(self):
        self.passes("exports", BUILD)
        with self.appended("client/libcoffer/coffer.symbols", "coffer_planted\n"):
            self.fails("-coffer_planted", "exports", BUILD)
        with self.replaced("client/libcoffer/coffer.symbols", "coffer_version\n", ""):
            self.fails(r"\+coffer_version", "exports", BUILD)

    def test_abi__programs_built_before_would_break(self):
        self.passes("abi", BUILD)
        baseline = "client/libcoffer/coffer.abi"
        symbol = re.search(r"    <elf-symbol name='coffer_version' .*/>\n", self.text(baseline)).group()
        with self.replaced(baseline, symbol, symbol + symbol.replace("coffer_version", "coffer_planted")):
            self.fails("coffer_planted", "abi", BUILD)
            self.fails("coffer_planted", "abi", "update", BUILD)
        member = re.search(r"<var-decl name='timeout_ms' type-id='(\w+)'", self.text(baseline))
        other = re.search(r"<type-decl name='char' size-in-bits='8' id='(\w+)'|<type-decl name='char' .* id='(\w+)'",
                          self.text(baseline))
        with self.replaced(baseline, member.group(), member.group().replace(member[1], other[1] or other[2])):
            self.fails("timeout_ms", "abi", BUILD)
        with self.replaced(baseline, symbol, ""):
            self.passes("abi", BUILD)  # what is new breaks nobody
        with self.replaced(baseline, "soname='libcoffer.so.0'", "soname='libcoffer.so.9'"):
            self.fails("is not of libcoffer.so.0", "abi", BUILD)
            self.passes("abi", "update", BUILD)

    def test_acceptance__rows_that_show_nothing(self):
        self.passes("acceptance", BUILD)
        for row, report in (("NO-RULE-01\tcheck/layers", "there is no rule NO-RULE-01"),
                            ("ARCH-LAYER-01\tunit/none", "there is no test unit/none"),
                            ("ARCH-LAYER-01\tunit/common/uuid:not_there", "does not run not_there")):
            with self.subTest(row), self.appended("tests/acceptance.tsv", row + "\n"):
                self.fails(report, "acceptance", BUILD)
        with self.appended("docs/rules/client.md", "| CLI-NEW-01 | Something | product.md | nothing |\n"):
            self.fails("nothing is no issue", "acceptance", BUILD)
        with self.replaced(".ci/acceptance", "SCOPES = ", 'SCOPES = {"path"}; PLANTED = '), \
                self.planted("tests/acceptance.tsv", "rule\ttest\tnote\n"):
            self.fails("DOC-LINK-01 .path. has no test", "acceptance", BUILD)

    def test_acceptance__tests_that_did_not_pass(self):
        case = '<testsuite><testcase name="unit/common/uuid" status="{}">{}</testcase></testsuite>'
        rows = "rule\ttest\tnote\nSTYLE-CODE-01\tunit/common/uuid\n"
        with self.replaced(".ci/acceptance", "SCOPES = ", "SCOPES = set(); PLANTED = "), \
                self.planted("tests/acceptance.tsv", rows):
            for results, verdict in ((case.format("run", ""), self.passes),
                                     (case.format("fail", "<failure/>"), self.did_not_pass),
                                     (case.format("notrun", ""), self.did_not_pass), ("<testsuite/>", self.did_not_pass)):
                with self.subTest(results), self.planted("results.xml", results) as path:
                    verdict("acceptance", BUILD, "--results", path)

    def did_not_pass(self, *command):
        self.fails("did not run, or did not pass", *command)

    def test_hardening__program_without_it(self):
        source = self.folder / "build/planted.c"
        source.write_text('#include <stdio.h>\n#include <string.h>\nint main(int c, char **v)\n{\n    char b[64];\n'
                          '    strncpy(b, v[c - 1], 63);\n    return puts(b);\n}\n')
        program = self.folder / "build/planted"

        def build(*flags):
            subprocess.run(["gcc", "-w", source, "-o", program, *flags], check=True)

        for flags, report in ((["-no-pie"], "PIE"), (["-Wl,-z,norelro"], "RELRO"), (["-Wl,-z,lazy"], "NOW"),
                              (["-Wl,-z,execstack"], "stack can be run"), (["-fno-stack-protector"], "stack protector"),
                              (["-U_FORTIFY_SOURCE"], "fortified"), (["-fcf-protection=none"], "CET"),
                              (["-g"], "compiled without -fstack-clash-protection")):
            with self.subTest(flags):
                build("-O2", *flags)
                self.fails(report, "hardening", program)

    def small_copy(self, *sources):
        """Leaves out of the copy all C code but the headers of common, so that slow tools have little to read."""
        small = pathlib.Path(tempfile.mkdtemp(prefix="small-", dir=self.folder / "build"))
        for name in (".ci", ".clang-tidy", ".clang-format"):
            place = self.folder / name
            (shutil.copytree if place.is_dir() else shutil.copy2)(place, small / name)
        (small / "common").mkdir()
        for path in [*(self.folder / "common").glob("*.h"), *(self.folder / "common").glob("*.def")]:
            shutil.copy2(path, small / "common")
        for name, text in sources:
            (small / name).write_text(text, encoding="utf-8")
        return small

    def slow_check(self, check, text):
        """The result of a check on a project with one source."""
        small = self.small_copy(("common/planted.c", text))
        try:
            build = small / "build"
            build.mkdir()
            entry = {"directory": str(build), "file": str(small / "common/planted.c"),
                     "command": f"cc -std=gnu17 -D_GNU_SOURCE -I{small} -I{BUILD}/proto -c {small}/common/planted.c"}
            (build / "compile_commands.json").write_text(json.dumps([entry]))
            return subprocess.run([small / ".ci" / check, "build"], cwd=small, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False)
        finally:
            shutil.rmtree(small)

    def test_cppcheck__read_past_the_end(self):
        result = self.slow_check("cppcheck", self.CLEAN)
        self.assertEqual(result.returncode, 0, result.stdout)
        result = self.slow_check("cppcheck", "int planted(void);\n\nint planted(void)\n{\n    int a[2] = {0};\n"
                                             "    return a[2];\n}\n")
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertIn("arrayIndexOutOfBounds", result.stdout)

    def test_tidy__null_is_read(self):
        result = self.slow_check("tidy", self.CLEAN)
        self.assertEqual(result.returncode, 0, result.stdout)
        result = self.slow_check("tidy", "int planted(void);\n\nint planted(void)\n{\n    const int *a = 0;\n"
                                         "    return *a;\n}\n")
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertIn("NullDereference", result.stdout)


BESIDE = "^(check/tidy|fuzz/search)$"


class Run(unittest.TestCase):
    """tests/run.sh, with stand-ins for cmake and ctest that note how they were called."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coffer-run-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "tests").mkdir()
        (self.folder / "bin").mkdir()
        shutil.copy2(ROOT / "tests" / "run.sh", self.folder / "tests")
        self.calls = self.folder / "calls"
        for tool in ("cmake", "ctest"):
            path = self.folder / "bin" / tool
            path.write_text(f'#!/bin/bash\necho "{tool} $*" >>"{self.calls}"\necho "{tool} says $*"\n'
                            f'[[ "{tool} $*" != $FAIL ]]\n')
            path.chmod(0o755)

    def run_all(self, *arguments, fail="nothing"):
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "FAIL": fail}
        result = subprocess.run([self.folder / "tests" / "run.sh", *arguments], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return result, self.calls.read_text().splitlines()

    def test_all_builds_are_tested_and_the_last_lines_are_ctests(self):
        result, calls = self.run_all()
        self.assertEqual(result.returncode, 0, result.stdout)
        for preset in ("debug", "asan", "tsan", "release"):
            self.assertTrue(any(call.startswith(f"cmake --build --preset {preset}") for call in calls), preset)
            self.assertTrue(any(f"ctest --preset {preset}" in call for call in calls), preset)
        # Between them they leave nothing out: the last run has what the others have not, slow checks among it.
        # What it has not either ran beside them.
        self.assertIn(f"ctest --preset debug -R {BESIDE} --no-tests=error --output-junit beside.xml", calls)
        self.assertIn("beside them      ok", result.stdout)
        self.assertRegex(calls[-1], r"^ctest --preset debug .* -L check\|memcheck -E " + re.escape(BESIDE) + " ")
        self.assertNotRegex(calls[-1], r" -(LE|R)\b")
        for preset in ("asan", "release"):
            call, = (call for call in calls if call.startswith(f"ctest --preset {preset}"))
            self.assertRegex(call, r" -LE check(\|sanitized)? -E " + re.escape(BESIDE) + " ")
            self.assertNotRegex(call, r" -(L|R)\b")
        self.assertEqual(result.stdout.splitlines()[-1], calls[-1].replace("ctest", "ctest says", 1))

    def test_first_stage_that_fails_ends_the_run_and_shows_its_log(self):
        result, calls = self.run_all(fail="cmake --build --preset asan*")
        self.assertEqual(result.returncode, 1)
        self.assertIn("cmake says --build --preset asan", result.stdout)
        self.assertIn('the stage "asan build" failed', result.stdout)
        self.assertTrue(calls[-1].startswith("cmake --build --preset asan"))

    def test_findings_of_what_runs_beside_the_tests_end_the_run_and_are_shown(self):
        result, calls = self.run_all(fail="ctest --preset debug -R*")
        self.assertEqual(result.returncode, 1)
        self.assertIn('the stage "beside them" failed', result.stdout)
        self.assertIn("ctest says --preset debug -R", result.stdout)
        self.assertFalse(any("memcheck" in call for call in calls))

    def test_failure_of_the_last_run_is_that_of_the_whole(self):
        result, _ = self.run_all(fail="ctest --preset debug*")
        self.assertNotEqual(result.returncode, 0)

    def test_quick_run_builds_once(self):
        result, calls = self.run_all("--quick")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual([call for call in calls if "--build" in call and "debug" not in call], [])
        self.assertRegex(calls[-1], r"^ctest --preset debug.* -LE slow")


if __name__ == "__main__":
    unittest.main()
