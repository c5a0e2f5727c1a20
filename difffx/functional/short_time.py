"""Sound as short spectra and back: a Hann STFT whose round trip is the sound itself, to the first sample.

Spectra are kept as two planes of real numbers, [..., 2, M, N]: real parts and imaginary parts of M frames of
N bins. A curve of gains then meets each of them without a complex number in between.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

FRAMES_AT_ONCE = 1024
"""On a CPU: few enough to need little room, many enough to be worth waking a second thread for. Of 128, which
stay in the cache, one thread alone makes an eighth less work; two on a busy machine four times as much."""


def frame_positions(samples: int, n_fft: int, hop: int) -> Tensor:
    """The sample in the middle of each frame, [M]; the first and the last lie outside of the sound."""
    lead, count = _layout(samples, n_fft, hop)
    return (torch.arange(count) - lead) * hop


def to_spectrum(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """Short spectra of a sound that comes out of silence and goes back into it.

    x         [..., T]  any length
    n_fft     samples in a frame
    hop       samples from frame to frame, at most half of n_fft
    returns   [..., 2, M, n_fft // 2 + 1]

    A frame every `hop` samples, wherever one reaches into the sound: all samples are covered alike, at the
    edges too, and nothing is mirrored there. Gradient by the adjoint, once.
    """
    if not 1 <= hop <= n_fft // 2 or n_fft % 2:
        raise ValueError(
            f"frames of {n_fft} samples, {hop} apart: expected an even number, at most half of it apart"
        )
    planes = _ToSpectrum.apply(x.reshape(-1, x.shape[-1]), n_fft, hop)
    return planes.view(*x.shape[:-1], *planes.shape[1:])


def from_spectrum(planes: Tensor, samples: int, n_fft: int, hop: int) -> Tensor:
    """The sound of short spectra, [..., 2, M, N] from `to_spectrum` -> [..., samples].

    What `to_spectrum` made comes back within the rounding of the transforms, 130 dB below it in float32.
    """
    rows = planes.reshape(-1, *planes.shape[-3:])
    return _FromSpectrum.apply(rows, samples, n_fft, hop).view(*planes.shape[:-3], samples)


def spans(count: int, device: torch.device) -> list[tuple[int, int]]:
    """Groups of frames on a CPU; all of them at once elsewhere."""
    step = FRAMES_AT_ONCE if device.type == "cpu" else max(count, 1)
    return [(first, min(first + step, count)) for first in range(0, count, step)]


class _ToSpectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, n_fft: int, hop: int) -> Tensor:
        ctx.plan = x.shape[-1], n_fft, hop
        return _analyze(x, n_fft, hop, _windows(x, n_fft, hop)[0])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        samples, n_fft, hop = ctx.plan
        # irfft counts the bins between the ends twice, as a sum over what rfft left out
        return _synthesize(grad, samples, n_fft, hop, _windows(grad, n_fft, hop)[0] * n_fft, 0.5), None, None


class _FromSpectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, planes: Tensor, samples: int, n_fft: int, hop: int) -> Tensor:
        ctx.plan = n_fft, hop
        return _synthesize(planes, samples, n_fft, hop, _windows(planes, n_fft, hop)[1], 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        n_fft, hop = ctx.plan
        planes = _analyze(grad, n_fft, hop, _windows(grad, n_fft, hop)[1] / n_fft)
        planes[..., 1 : n_fft // 2] *= 2.0
        return planes, None, None, None


def _layout(samples: int, n_fft: int, hop: int) -> tuple[int, int]:
    """How many frames lie before the one centered on the first sample; how many there are."""
    half = n_fft // 2
    lead = (half - 1) // hop
    return lead, lead + (samples - 1 + half) // hop + 1


def _windows(like: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Hann; and what turns frames weighted by it back into the sound: the window over its sum of squares."""
    window = torch.hann_window(n_fft, dtype=torch.float64)
    folded = pad(window.square(), (0, -n_fft % hop)).unflatten(0, (-1, hop)).sum(0)
    total = folded.repeat(-(-n_fft // hop))[:n_fft]
    return window.to(like), (window / total).to(like)


def _analyze(x: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    """x [R, T] -> planes [R, 2, M, N]."""
    rows, samples = x.shape
    lead, count = _layout(samples, n_fft, hop)
    planes = x.new_empty(rows, 2, count, n_fft // 2 + 1)
    before = lead * hop + n_fft // 2
    after = (count - 1) * hop + n_fft - before - samples
    for row, room in zip(x, planes, strict=True):
        frames = pad(row, (before, after)).unfold(0, n_fft, hop)
        for a, b in spans(count, x.device):
            spectrum = torch.fft.rfft(frames[a:b] * window)
            room[0, a:b], room[1, a:b] = spectrum.real, spectrum.imag
    return planes


def _synthesize(planes: Tensor, samples: int, n_fft: int, hop: int, window: Tensor, inner: float) -> Tensor:
    """planes [R, 2, M, N] -> [R, T]; `inner` is a factor for the bins between the ends."""
    rows, _, count, _ = planes.shape
    lead, _ = _layout(samples, n_fft, hop)
    parts = -(-n_fft // hop)
    sound = planes.new_zeros(rows, count + parts - 1, hop)
    for plane, room in zip(planes, sound, strict=True):
        for a, b in spans(count, planes.device):
            spectrum = torch.complex(plane[0, a:b], plane[1, a:b])
            if inner != 1.0:
                spectrum[:, 1:-1] *= inner
            frames = pad(torch.fft.irfft(spectrum, n_fft) * window, (0, parts * hop - n_fft))
            for k, part in enumerate(frames.unflatten(1, (parts, hop)).unbind(1)):
                room[a + k : b + k] += part
    start = lead * hop + n_fft // 2
    return sound.flatten(1)[:, start : start + samples]
