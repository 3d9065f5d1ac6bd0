#!/usr/bin/env python3
"""Generates the messages of Coffer's contract into a folder with the package `coffer`: generate.py FOLDER

The modules are those of stock protoc, with types for checkers. What Coffer shares with others (google.rpc, grpc.health) would
be in the way of their own modules, so it becomes a set of descriptors, which the package reads for itself.
"""

import pathlib
import subprocess
import sys

PROTO = pathlib.Path(__file__).resolve().parent.parent.parent / "proto"
PACKAGES = ("coffer/v1", "coffer/rpc/v1")


def protoc(*arguments):
    subprocess.run(["protoc", f"-I{PROTO}", *map(str, arguments)], check=True)


def generate(folder):
    files = [str(path.relative_to(PROTO)) for package in PACKAGES for path in sorted((PROTO / package).glob("*.proto"))]
    protoc(f"--python_out={folder}", f"--pyi_out={folder}", *files)
    protoc("--include_imports", f"--descriptor_set_out={folder / 'coffer' / 'details.binpb'}",
           "google/rpc/error_details.proto", "grpc/health/v1/health.proto")
    for package in (*PACKAGES, "coffer/rpc"):
        (folder / package / "__init__.py").touch()


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]))
