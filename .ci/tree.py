"""What the checks share: which files the project has, and how a check reports."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def git(*arguments):
    """Output of git in the project's folder; the folder may belong to another user."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


def files(*suffixes, under=()):
    """Paths of the project's files, tracked or new, relative to its folder."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in sorted(set(filter(None, names))):
        wanted = not suffixes or name.endswith(suffixes)
        if wanted and (not under or name.startswith(tuple(under))) and (ROOT / name).is_file():
            yield name


def read(name):
    """Text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def finish(check, faults, summary):
    """Prints the faults, or one line of what was found, and ends the process."""
    for fault in faults:
        print(fault)
    if faults:
        print(f"{check}: {len(faults)} fault{'' if len(faults) == 1 else 's'}", file=sys.stderr)
        sys.exit(1)
    print(f"{check}: {summary}")
    sys.exit(0)


def table(name, macro):
    """The rows of an X-macro table, MACRO(a, b, "text" "text"), each as a list of its columns."""
    text = re.sub(r"/\*.*?\*/", "", read(name), flags=re.S)
    column = re.compile(r'\s*((?:"(?:\\.|[^"\\])*"\s*)+|[^,()"]+)\s*(,|\)|$)', re.S)
    for row in re.finditer(rf'^{macro}\(((?:"(?:\\.|[^"\\])*"|[^()"])*)\)', text, re.M | re.S):
        columns = []
        for match in column.finditer(row.group(1)):
            parts = re.findall(r'"((?:\\.|[^"\\])*)"', match.group(1))
            columns.append("".join(parts).replace('\\"', '"') if parts else match.group(1).strip())
        yield columns


def generated(check, name, text, summary):
    """Writes a generated file, or with --check fails if the file is not what would be written."""
    path = ROOT / name
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
        finish(check, [], f"wrote {name}: {summary}")
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        finish(check, [f"{name}:1: is not what {check} writes; run .ci/{check}"], "")
    finish(check, [], f"{name}: {summary}")
