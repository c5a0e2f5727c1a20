"""LightningModules, one per research question."""

from difffx.tasks.base import Task
from difffx.tasks.blind import BlindEstimation, Examples

__all__ = ["BlindEstimation", "Examples", "Task"]
