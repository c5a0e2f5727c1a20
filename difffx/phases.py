"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict

from lightning.pytorch.profilers import Profiler
from rich.console import Console
from rich.table import Table

STEP = "run_training_batch"
DATA = "train_dataloader_next"
PHASES = {
    "[task]sfx": "rendering",
    "[task]augment": "augment",
    "[task]encoder": "encoder",
    "[task]afx": "afx",
    "[task]loss": "loss",
}


class PhaseProfiler(Profiler):
    """Prints, at the end of a fit, milliseconds and share of a training step by phase.

    data       waiting for the loader
    rendering  the sfx, without a gradient
    augment    what becomes of the sound that is heard
    encoder    with its head, forward
    afx, loss  forward
    backward   through all of them
    rest       optimizer, logging, Lightning

    The first steps, where buffers and kernels are made, are left out.
    """

    def __init__(self, skip_steps: int = 3) -> None:
        super().__init__()
        self.skip_steps, self.steps = skip_steps, 0
        self.started: dict[str, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        self.started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        spent = time.perf_counter() - self.started.pop(action_name, time.perf_counter())
        counted = self.steps >= self.skip_steps
        if action_name.endswith(DATA) and counted:
            self.seconds["data"] += spent
        elif action_name == STEP:
            self.steps += 1
            self.seconds["step"] += spent if counted else 0.0
        elif STEP in self.started and counted:
            phase = "backward" if action_name.endswith(".backward") else PHASES.get(action_name)
            if phase:
                self.seconds[phase] += spent

    def table(self) -> Table:
        """The result so far."""
        steps = max(self.steps - self.skip_steps, 1)
        phases = ["data", *PHASES.values(), "backward"]
        whole = self.seconds["data"] + self.seconds["step"]
        rows = {phase: self.seconds[phase] for phase in phases}
        rows["rest"] = whole - sum(rows.values())
        table = Table(title=f"a training step, mean of {steps}")
        for column in ("phase", "ms", "share"):
            table.add_column(column, justify="left" if column == "phase" else "right")
        for phase, seconds in {**rows, "step": whole}.items():
            table.add_row(phase, f"{1e3 * seconds / steps:.1f}", f"{seconds / max(whole, 1e-12):.0%}")
        return table

    def teardown(self, stage: str | None) -> None:
        if stage == "fit" and self.steps > self.skip_steps:
            Console().print(self.table())
            self.steps = 0
        super().teardown(stage)
