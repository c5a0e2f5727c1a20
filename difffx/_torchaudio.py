"""The only importer of torchaudio: it works beside a torch whose CUDA libraries are missing.

torchaudio's wheel on the index is linked against CUDA, so on a CPU-only torch its compiled part does not
load and the import fails with OSError. Its pure Python part, filter banks and spectrogram transforms, needs
none of it. A stub of `torchaudio._extension` stands in, and only where the real one failed.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def load() -> ModuleType:
    """torchaudio, with its compiled part where that loads and without it where it does not."""
    try:
        return importlib.import_module("torchaudio")
    except (OSError, ImportError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torchaudio":
            raise
        _forget()
        sys.modules["torchaudio._extension"] = _stub(error)
        return importlib.import_module("torchaudio")


def compiled() -> bool:
    """Whether the compiled part loaded; False means the stub stands in for it."""
    load()
    return not hasattr(sys.modules["torchaudio._extension"], "cause")


def _forget() -> None:
    """A failed import leaves submodules behind that would be taken for good ones."""
    for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
        del sys.modules[name]


def _stub(cause: Exception) -> ModuleType:
    def missing(function):
        def refuse(*args, **kwargs):
            raise RuntimeError(
                f"{function.__name__} needs torchaudio's compiled part, which did not load: {cause}"
            )

        return refuse

    stub = ModuleType("torchaudio._extension")
    stub.cause = cause
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stub._IS_ALIGN_AVAILABLE = False
    stub._check_cuda_version = lambda: None
    stub.fail_if_no_align = missing
    return stub
