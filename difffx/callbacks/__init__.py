"""What stands beside the training: examples to see and hear, where numbers go, how far it is."""

from difffx.callbacks.examples import LogExamples, write_results
from difffx.callbacks.loggers import MetricsTable, Wandb
from difffx.callbacks.progress import ProgressLines, progress

__all__ = ["LogExamples", "MetricsTable", "ProgressLines", "Wandb", "progress", "write_results"]
