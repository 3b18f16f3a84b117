"""How many threads this process should use: physical cores, as far as affinity, the cgroup's quota and whoever started
the process allow."""

from __future__ import annotations

import os
from pathlib import Path

MAX_THREADS = 256
_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """FASTNN_NUM_THREADS if set, else the physical cores that this process may use, or fewer by OMP_NUM_THREADS.

    The latter is where pools of processes (joblib's, Dask's) write what each of their workers may use.
    """
    wanted = os.environ.get("FASTNN_NUM_THREADS")
    if wanted:
        if not (wanted.isascii() and wanted.isdecimal()) or not 1 <= int(wanted) <= MAX_THREADS:
            raise ValueError(f"FASTNN_NUM_THREADS: expected a whole number from 1 to {MAX_THREADS}, got {wanted!r}")
        return int(wanted)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # OpenMP has one for each level of nesting
    shared = int(limit) if limit.isascii() and limit.isdecimal() else MAX_THREADS
    return max(1, min(physical_cores(), cgroup_cores(), shared, MAX_THREADS))


def physical_cores() -> int:
    """Cores among the processors that this process may run on; two processors of one core count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    cores = {_read(_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in usable}
    return len(cores)


def cgroup_cores() -> int:
    """Whole processors that the cgroup's quota grants (version 2, then version 1); no quota is no limit."""
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not period:
        quota, period = _read(_CGROUP / "cpu/cpu.cfs_quota_us"), _read(_CGROUP / "cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return MAX_THREADS
    return max(1, int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
