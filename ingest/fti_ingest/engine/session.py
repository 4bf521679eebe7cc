"""A Ray session: Ray is started quietly and stopped again, or a running cluster is joined."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from fti_qdrant.cli.errors import DEBUG
from fti_qdrant.errors import FtiError, GalleryUnavailable

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # --gpus-per-worker 0 must not hide a GPU
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

CONNECT_SECONDS = 10
JOINED = "fti_joined"


@contextmanager
def quiet_ray(address: str | None = None, metrics_port: int | None = None) -> Iterator[None]:
    """Starts Ray here, or joins the cluster at ``address``.

    Args:
        metrics_port: where a Ray that is started here serves Prometheus metrics.

    Raises FtiError where Ray is not installed, GalleryUnavailable where no cluster answers.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with _quiet_core(), _session(address, metrics_port):
        yield


@contextmanager
def _session(address: str | None, metrics_port: int | None) -> Iterator[None]:
    try:
        import ray
        from ray.data import DataContext
    except ImportError as error:
        raise FtiError(f'{error}; install it with: pip install "fti-qdrant[ray]"') from error

    started_here = not ray.is_initialized()
    if started_here:
        _probe(address)
        try:
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _metrics_export_port=metrics_port,
            )
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, TimeoutError, ...
            reason = str(error.__cause__ or error)[:400]
            raise GalleryUnavailable(f"Ray cluster {address or 'local'}: {reason}") from error
    context = DataContext.get_current()
    context.set_config(JOINED, bool(address) or not started_here)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # we report errors ourselves
    warnings.filterwarnings("ignore", module=r"ray\..*")
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()


def is_joined() -> bool:
    """Whether Ray is a cluster that was running before, so that nodes may join it."""
    from ray.data import DataContext

    return bool(DataContext.get_current().get_config(JOINED, True))


def _probe(address: str | None) -> None:
    """Checks that something listens: Ray would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # auto, local
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise GalleryUnavailable(f"Ray cluster {address}: it does not answer ({error})") from None


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Shows the user our messages only.

    Ray's C++ core writes to descriptor 2, and its driver prints tracebacks of workers to
    ``sys.stdout``. With FTI_DEBUG set, all of it is shown.
    """
    if os.environ.get(DEBUG) or not _is_descriptor_2(sys.stderr):
        yield
        return
    before = sys.stderr
    with (
        Path(os.devnull).open("w") as silent,
        os.fdopen(os.dup(2), "w", buffering=1, encoding=before.encoding) as ours,
        redirect_stdout(silent),
        redirect_stderr(ours),
    ):
        os.dup2(silent.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(ours.fileno(), 2)


def _is_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a test's capture
        return False
