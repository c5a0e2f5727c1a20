"""difffx: audio effects that networks can control."""

__version__ = "0.1.0"
