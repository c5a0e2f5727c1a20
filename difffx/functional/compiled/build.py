"""From the C files of this folder to a loaded library."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_double, c_int64, c_void_p
from pathlib import Path

BLOCK = 32
"""Samples between the states that a forward pass keeps; with 64 a way back takes up to 2.3 times as long."""

LANES = 4
"""Rows that one thread runs at a time."""

FLAGS = (
    *(f"-DBLOCK={BLOCK}", f"-DLANES={LANES}"),
    *("-std=gnu11", "-O3", "-march=native", "-fPIC", "-pthread", "-w"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
SIGNATURES = {
    "sosfilt": 7 * [c_int64] + 4 * [c_void_p],
    "sosfilt_backward": 7 * [c_int64] + 6 * [c_void_p],
    "attack_release": 4 * [c_int64] + 6 * [c_void_p],
    "attack_release_backward": 4 * [c_int64] + 10 * [c_void_p],
    "all_pass_chain": 6 * [c_int64] + 5 * [c_void_p],
    "all_pass_chain_backward": 6 * [c_int64] + 8 * [c_void_p],
    "swinging_chain": 7 * [c_int64] + 4 * [c_void_p],
    "swinging_chain_backward": 7 * [c_int64] + 6 * [c_void_p],
    "delay_network": 7 * [c_int64] + 6 * [c_void_p],
    "delay_network_backward": 7 * [c_int64] + 9 * [c_void_p],
    "delay_line": 7 * [c_int64] + 3 * [c_void_p],
    "delay_line_backward": 7 * [c_int64] + 5 * [c_void_p],
    "swing": 5 * [c_int64] + 3 * [c_void_p],
    "swing_backward": 5 * [c_int64] + 5 * [c_void_p],
    "feedback_line": 4 * [c_int64] + 7 * [c_void_p],
    "feedback_line_backward": 4 * [c_int64] + 9 * [c_void_p],
    "moving_feedback_line": 7 * [c_int64] + 5 * [c_void_p],
    "moving_feedback_line_backward": 7 * [c_int64] + 7 * [c_void_p],
    "combs": 6 * [c_int64] + 6 * [c_void_p],
    "combs_backward": 6 * [c_int64] + 10 * [c_void_p],
    "schroeder": 4 * [c_int64] + 5 * [c_void_p],
    "schroeder_backward": 4 * [c_int64] + 7 * [c_void_p],
    "compress": [*(6 * [c_int64]), c_double, *(5 * [c_void_p])],
    "compress_backward": [*(6 * [c_int64]), c_double, *(8 * [c_void_p])],
    "feedback_reduction": 4 * [c_int64] + 4 * [c_void_p],
    "feedback_reduction_backward": 4 * [c_int64] + 6 * [c_void_p],
    "look_up": 8 * [c_int64] + 5 * [c_void_p],
    "look_up_backward": 8 * [c_int64] + 7 * [c_void_p],
    "bend": 7 * [c_int64] + 8 * [c_void_p],
    "bend_backward": 7 * [c_int64] + 10 * [c_void_p],
    "gate": [*(7 * [c_int64]), c_double, *(6 * [c_void_p])],
    "gate_backward": [*(7 * [c_int64]), c_double, *(10 * [c_void_p])],
    "transients": [*(6 * [c_int64]), *(2 * [c_double]), *(6 * [c_void_p])],
    "transients_backward": [*(6 * [c_int64]), *(2 * [c_double]), *(10 * [c_void_p])],
    "limit": [*(6 * [c_int64]), c_double, *(8 * [c_void_p])],
    "limit_backward": [*(6 * [c_int64]), c_double, *(12 * [c_void_p])],
    "auto_wah": [*(5 * [c_int64]), c_double, *(4 * [c_void_p])],
    "auto_wah_backward": [*(5 * [c_int64]), c_double, *(7 * [c_void_p])],
    "moving_filter": [*(9 * [c_int64]), c_double, *(8 * [c_void_p])],
    "moving_filter_backward": [*(9 * [c_int64]), c_double, *(14 * [c_void_p])],
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be had."""
    if os.environ.get("DIFFFX_COMPILED", "1") == "0":
        return None
    try:
        functions = ctypes.CDLL(str(compiled(cache_folder())))
        for name, arguments in SIGNATURES.items():
            getattr(functions, f"difffx_{name}").argtypes = [*arguments, c_int64]
    except (OSError, subprocess.SubprocessError, AttributeError, RuntimeError):
        return None
    share_threads(functions)
    return functions


def share_threads(functions: ctypes.CDLL) -> None:
    """Lets the kernels run on the threads of torch, whose idle ones wait for work at full speed for a while.

    Threads of their own would fight with those for the cores: on two of them a compressor takes 7 ms instead
    of 4. Where there is no way to know them (macOS), and in a fork, which has lost them, they have their own.
    """
    functions.difffx_use_team.argtypes = [c_void_p]
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        mapped = {line.split(maxsplit=5)[-1] for line in lines}
        found = {path for path in mapped if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))}
        (path,) = {path for path in found if "/torch" in path} or found  # alone, it must be that of torch
        functions.difffx_use_team(ctypes.cast(ctypes.CDLL(path).GOMP_parallel, c_void_p))
    except (OSError, ValueError, AttributeError):
        return
    os.register_at_fork(after_in_child=lambda: functions.difffx_use_team(None))


def compiled(folder: Path) -> Path:
    """The library in `folder`, compiled if it is not there; safe to call from many processes at once."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    here = Path(__file__).parent
    sources = sorted(here.glob("*.c"))
    # What the compiler defines tells its version and what this processor can do; machines may share a home.
    defines = subprocess.run(
        [*compiler, *FLAGS, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, check=True, timeout=30
    ).stdout
    key = hashlib.sha256(" ".join([*compiler, *FLAGS, platform.machine()]).encode() + defines)
    for path in [*sorted(here.glob("*.h")), *sources]:
        key.update(path.read_bytes())
    target = folder / f"recursions-{key.hexdigest()[:24]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as work, ThreadPoolExecutor(os.cpu_count()) as crew:
            fresh = Path(work) / "recursions.so"
            objects = [Path(work) / f"{source.stem}.o" for source in sources]
            commands = [
                [*compiler, *FLAGS, "-c", str(source), "-o", str(to)]
                for source, to in zip(sources, objects, strict=True)
            ]
            list(crew.map(_run, commands))
            _run([*compiler, *FLAGS, "-shared", *map(str, objects), "-o", str(fresh)])
            fresh.replace(target)
    return target


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True, timeout=300)


def cache_folder() -> Path:
    """Where a user's programs keep what they can make again."""
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "difffx"
