"""The workers as the campaign sees them: processes that are started, killed, started again, and told to finish."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from eventstore.testing.campaign.history import last_position
from eventstore.testing.campaign.workers import Assignment

_FINISH_SECONDS = 90
_FIRST_LINE = 100
"""Bytes that the first line of a history has at most."""


@dataclass
class _Worker:
    name: str
    assignment: Assignment
    process: subprocess.Popen[bytes] | None = None
    runs: int = 0


class Crew:
    """The workers. ``problems`` says which of them ended badly, other than by being killed."""

    def __init__(self, directory: Path, random: Random) -> None:
        self._directory = directory
        self._random = random
        self._workers: list[_Worker] = []
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.communicate()

    def hire(self, name: str, assignment: Assignment) -> None:
        """Add a worker, and start it."""
        self._workers.append(worker := _Worker(name, assignment))
        self._start(worker)

    def start(self) -> None:
        """Start those that have finished."""
        for worker in self._workers:
            if worker.process is None:
                self._start(worker)

    def kill(self, role: str) -> bool:
        """Kill a worker and start another run of it; whether there was one to kill."""
        worker = self._random.choice([worker for worker in self._workers if worker.assignment.role == role])
        process = worker.process
        if process is None or process.poll() is not None or not self._is_at_work(worker):
            return False
        process.kill()
        process.communicate()
        self._start(worker)
        return True

    def _is_at_work(self, worker: _Worker) -> bool:
        """Whether it has written more than its first line: a program takes a while to start."""
        histories = self._directory.glob(f"{worker.name}.{worker.runs:04}*.jsonl")
        return any(path.stat().st_size > _FIRST_LINE for path in histories)

    def interrupt(self) -> bool:
        """Have a signal raise an exception in a writer that makes one call at a time; whether there was one."""
        worker = self._random.choice(
            [each for each in self._workers if each.assignment.role == "writer" and not each.assignment.tasks]
        )
        process = worker.process
        if process is None or process.poll() is not None or not self._is_at_work(worker):
            return False  # The signal would end one that has only begun.
        process.send_signal(signal.SIGUSR1)
        return True

    def watch(self) -> None:
        """Start again who ended without having been told."""
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._end(worker, worker.process)
                self._start(worker)

    def finish(self, role: str) -> None:
        """Let all workers of a role finish what they are at."""
        mine = [worker for worker in self._workers if worker.assignment.role == role]
        for worker in mine:
            if worker.process is not None and worker.process.stdin is not None:
                worker.process.stdin.close()
        deadline = time.monotonic() + _FINISH_SECONDS
        for worker in mine:
            if worker.process is not None:
                try:
                    worker.process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    worker.process.kill()
                    worker.process.wait()
                    self.problems.append(f"{worker.name} did not finish within {_FINISH_SECONDS} s")
                self._end(worker, worker.process)

    def _path(self, worker: _Worker, suffix: str) -> Path:
        return self._directory / f"{worker.name}.{worker.runs:04}.{suffix}"

    def _start(self, worker: _Worker) -> None:
        assignment = worker.assignment
        if worker.runs and assignment.role == "reader" and self._path(worker, "jsonl").exists():
            assignment = replace(assignment, position=last_position(self._path(worker, "jsonl"), assignment.position))
        worker.runs += 1
        worker.assignment = replace(
            assignment, history=str(self._path(worker, "jsonl")), seed=f"{self._random.random()} {worker.name}"
        )
        with self._path(worker, "stderr").open("wb") as errors:
            worker.process = subprocess.Popen(  # noqa: S603 - this Python, with a module of our own
                self._command(worker.assignment),
                stdin=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the campaign, which stops the workers.
            )

    def _command(self, assignment: Assignment) -> Sequence[str]:
        return [sys.executable, "-m", "eventstore.testing.campaign.workers", json.dumps(asdict(assignment))]

    def _end(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        if process.returncode > 0:
            errors = self._path(worker, "stderr").read_text(errors="replace")
            self.problems.append(f"{worker.name} ended with status {process.returncode}: {errors[-1000:]}")
        if process.stdin is not None:
            process.stdin.close()
        worker.process = None
