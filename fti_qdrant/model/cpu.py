"""The CPU: how many threads PyTorch gets, how they wait, and which instructions there are.

The one place that decides about threads. Importable without torch.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

SPINS = "1000"
"""How often a thread of libgomp looks whether the others are done before it sleeps.

By default it looks 300,000 times. Where another process needs a core, the thread that looks keeps
the core from the thread that all wait for, at each of the hundreds of barriers of one pass. Figures
are in docs/speed.md.
"""

CGROUPS = Path("/sys/fs/cgroup")


def limit_spinning() -> None:
    """Makes OpenMP's threads sleep soon at a barrier; must run before torch is imported.

    Leaves alone what the user has set.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def usable_cpus() -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota()
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


def _quota() -> float | None:
    """CPUs that the container's cgroup allows; None for no limit."""
    try:
        limit, period = (CGROUPS / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (CGROUPS / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return int(limit) / int(period) if int(limit) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def use_threads(count: int) -> int:
    """PyTorch computes with so many threads in this process; returns how many it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    return before


def fit_threads() -> None:
    """No more threads than CPUs: PyTorch counts those of the machine, not of the container.

    A number that the user has set with ``OMP_NUM_THREADS`` stays.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cpus():
        use_threads(usable_cpus())


def has_bf16() -> bool:
    """Whether the cores multiply bfloat16: AVX512-BF16 or AMX. Others only convert it."""
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # before PyTorch 2.10
    return any(getattr(torch.cpu, name, bool)() for name in asked)
