"""The peers there are: what each is called, where it is, what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from fastnn import _kernels as k

OURS = "native"


@dataclass(frozen=True)
class Info:
    """One peer. module: has ``connect(name, threads)``, which returns a `peer.Peer`; package: what must be installed.

    colour: in charts, from Okabe and Ito's palette, which colour-blind readers can tell apart.
    measures: which commands it takes part in unasked.
    environment: what makes it faster than it is when it is merely started; alone: further, with one thread.
    """

    title: str
    module: str
    package: str
    colour: str
    measures: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, str] = field(default_factory=dict)
    distribution: str = ""  #: what pip calls the package, where that differs


PEERS = {
    OURS: Info("fastnn", "bench.peer_fastnn", "fastnn", "#0072B2"),
    "reference": Info("fastnn reference", "bench.peer_fastnn", "fastnn", "#999999"),
    "torch": Info(
        "PyTorch",
        "bench.peer_torch",
        "torch",
        "#E69F00",
        ("steps", "kernels", "latency", "scaling", "courses"),
        # PyTorch's tuning guide advises an allocator that keeps memory; glibc's does with these, else PyTorch loses a
        # tenth to a fifth of a CNN's step to page faults.
        {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32)},
    ),
    "jax": Info(
        "JAX",
        "bench.peer_jax",
        "jax",
        "#009E73",
        ("steps", "latency"),  # an allocator that keeps memory makes no difference to it
        alone={"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"},
    ),
    "sklearn": Info(
        "scikit-learn",
        "bench.peer_sklearn",
        "sklearn",
        "#CC79A7",
        ("steps", "latency"),
        distribution="scikit-learn",
    ),
}


def missing(peer: str) -> str:
    """Why a peer cannot be measured here, "" if it can."""
    package = PEERS[peer].package
    if peer == OURS:
        return "" if k.COMPILED else "fastnn was installed without compiled kernels"
    return "" if find_spec(package) else f"{package} is not installed"


def chosen(command: str, against: str | None) -> list[str]:
    """The peers named in a comma list, or by default all that are installed; raises ValueError for what cannot be."""
    if against is None:
        return [peer for peer, info in PEERS.items() if command in info.measures and not missing(peer)]
    names: Sequence[str] = [name.strip() for name in against.split(",") if name.strip()]
    known = [peer for peer in PEERS if peer != OURS]
    for name in names:
        if name not in known:
            raise ValueError(f"--against: there is no peer {name!r}, only {', '.join(known)}")
        if reason := missing(name):
            raise ValueError(f"--against {name}: {reason}")
    return list(dict.fromkeys(names))
