"""LightningModules, one per research question."""

from difffx.tasks.augment import Recordings
from difffx.tasks.base import Task, warmup_cosine
from difffx.tasks.blind import BlindEstimation, Examples, SettingsFirst
from difffx.tasks.dj import DJEstimation, DJTask
from difffx.tasks.dj_imitation import DJImitation
from difffx.tasks.proxy import ProxyTraining

__all__ = [
    "BlindEstimation",
    "DJEstimation",
    "DJImitation",
    "DJTask",
    "Examples",
    "ProxyTraining",
    "Recordings",
    "SettingsFirst",
    "Task",
    "warmup_cosine",
]
