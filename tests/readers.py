"""Somebody who does what a page of the documentation says, in an empty directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from http_servers import environment
from waiting import PATIENCE

FILE = re.compile(r"# ([\w/]+\.py)(, at its end)?\n")
"""The first line of a block of code that is a file."""


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page in order, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


class Reader:
    def __init__(self, directory: Path, **variables: str) -> None:
        self.directory = directory
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = environment(PATH=programs, PYTHONWARNINGS="error", **variables)

    def writes(self, code: str) -> None:
        """Put a block with a file's name on its first line into that file."""
        named = FILE.match(code)
        if named:
            path = self.directory / named[1]
            path.write_text(path.read_text() + code.removeprefix(named[0]) if named[2] else code)

    def runs(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def runs_meanwhile(self, command: str) -> Iterator[IO[str]]:
        """Run a command for as long as the block lasts, and end it by SIGTERM."""
        python, *arguments = command.partition("#")[0].split()
        assert python == "python"
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            yield process.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.communicate()
