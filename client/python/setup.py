"""Generates the messages of the contract when the package is built; needs protoc, and the folder proto beside client."""

import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py

from generate import generate


class Build(build_py):
    def run(self):
        super().run()
        generate(pathlib.Path(self.build_lib))


setup(cmdclass={"build_py": Build})
