"""The commands as processes of their own, forked from one that has the slow imports behind it.

A command spends some seven seconds of a core on importing torch and open_clip before its first
line; these do not. All else is as by ``python -m``: arguments, environment, folder, output, signals
and exit codes. A few tests start commands by ``python -m`` itself.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["open_clip", "qdrant_client"])


class StartedCommand:
    """A running command, with what tests need of ``subprocess.Popen``."""

    def __init__(self, module: str, arguments: list[str], cwd: Path, environment: dict[str, str]):
        self._line = [module, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("out", "err")]
        for file in self._files:
            file.touch()
        files = [str(file) for file in self._files]
        self._process = CONTEXT.Process(
            target=_become, args=(module, arguments, str(cwd), environment, files)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._line, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote, when it has ended. Raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_command(
    module: str,
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> StartedCommand:
    """``python -m module arguments``; ``environment`` instead of this process's."""
    env = dict(os.environ if environment is None else environment)
    return StartedCommand(module, [str(one) for one in arguments], cwd or Path.cwd(), env)


def run_command(
    module: str,
    *arguments: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """The same, to its end. Raises subprocess.TimeoutExpired."""
    process = start_command(module, *arguments, cwd=cwd, environment=environment)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess([module, *map(str, arguments)], process.wait(), out, err)


def _become(
    module: str, arguments: list[str], cwd: str, environment: dict[str, str], files: list[str]
) -> None:
    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # which torch, imported before the fork, did not see
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # forked processes leave them out
