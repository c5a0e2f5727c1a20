"""What a sound looks like: STFT, mel, constant-Q, 1/3-octave bands, envelope."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from difffx import _torchaudio


def normalize_rms(x: Tensor) -> Tensor:
    """Each channel without its mean, each item at 0 dB RMS over all its channels; silence stays silence.

    x  [B, C, T]

    Below -120 dB RMS the gain stops growing, so that silence has a gradient of zero and not of NaN.
    """
    x = x - x.mean(-1, keepdim=True)
    power = x.square().mean((-2, -1), keepdim=True)
    return x / power.clamp(min=1e-12).sqrt()


def stft_magnitude(x: Tensor, n_fft: int, hop: int, floor: float = 1e-4) -> Tensor:
    """Magnitudes of centered Hann frames, never below the floor, where the gradient is zero.

    x  [B, C, T] -> [B, C, n_fft // 2 + 1, 1 + T // hop]
    """
    if x.shape[-1] <= n_fft // 2:
        raise ValueError(f"an STFT of {n_fft} needs more than {n_fft // 2} samples, got {x.shape[-1]}")
    padded = F.pad(x.flatten(0, 1)[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
    return _FrameMagnitude.apply(padded, n_fft, hop, floor).unflatten(0, x.shape[:2])


class _FrameMagnitude(torch.autograd.Function):
    """Magnitudes of Hann frames, [N, T] -> [N, bins, frames], with the way back written out.

    Autograd's own goes through complex transforms of full length and scattered sums; this is its adjoint by
    one inverse real transform and an overlap-add, 2.4 times as fast. No double backward.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, n_fft: int, hop: int, floor: float) -> Tensor:
        window = torch.hann_window(n_fft, dtype=x.dtype, device=x.device)
        spectrum = torch.stft(x, n_fft, hop, n_fft, window, center=False, return_complex=True)
        magnitude = spectrum.real.square().add_(spectrum.imag.square()).clamp_(min=floor**2).sqrt_()
        ctx.save_for_backward(spectrum, magnitude, window)
        ctx.size, ctx.hop, ctx.floor = x.shape[-1], hop, floor
        return magnitude

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        spectrum, magnitude, window = ctx.saved_tensors
        n_fft, hop = len(window), ctx.hop
        slope = torch.where(magnitude > ctx.floor, grad / magnitude, 0.0)
        slope[:, 1 : (n_fft + 1) // 2] *= 0.5  # the bins that irfft counts twice
        frames = torch.fft.irfft((spectrum * slope).transpose(1, 2), n=n_fft, norm="forward") * window
        rows, count, _ = frames.shape
        parts = -(-n_fft // hop)
        frames = F.pad(frames, (0, parts * hop - n_fft)).unflatten(-1, (parts, hop))
        total = frames.new_zeros(rows, count + parts - 1, hop)
        for k in range(parts):
            total[:, k : k + count] += frames[:, :, k]
        total = total.flatten(1)[:, : ctx.size]
        return F.pad(total, (0, ctx.size - total.shape[1])), None, None, None


def mel_bank(sample_rate: int, n_fft: int = 4096, bands: int = 128) -> Tensor:
    """Triangles of equal area on the Slaney mel scale from 0 Hz to Nyquist, [bands, n_fft // 2 + 1]."""
    bank = _torchaudio.load().functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate, norm="slaney", mel_scale="slaney"
    )
    return bank.T.contiguous()


def log_mel(x: Tensor, bank: Tensor, hop: int = 1024) -> Tensor:
    """Natural logarithm of mel-weighted magnitudes, [B, C, T] -> [B, C, bands, frames].

    bank  [bands, n_fft // 2 + 1], from mel_bank

    The magnitudes are floored at 1e-4 before the bank, as auraloss does, so silence is finite.
    """
    return torch.log(bank.to(x) @ stft_magnitude(x, 2 * (bank.shape[1] - 1), hop))


def cqt_frequencies_hz(bins: int = 113, bins_per_octave: int = 12, low_hz: float = 32.70) -> list[float]:
    """Center frequencies of the constant-Q bins: C1 to A10 in semitones by default."""
    return [low_hz * 2.0 ** (k / bins_per_octave) for k in range(bins)]


def cqt(
    x: Tensor,
    sample_rate: int,
    *,
    bins: int = 113,
    bins_per_octave: int = 12,
    low_hz: float = 32.70,
    hop: int = 512,
) -> Tensor:
    """Magnitudes on a musical scale: a semitone is one bin at the bottom and at the top.

    x  [B, C, T] -> [B, C, bins, 1 + T // hop]

    Bin k is |sum_t x[m hop + t] w(t) exp(-2i pi f_k t / fs)|, w a Hann window of ceil(Q fs / f_k) samples
    centered on the frame and divided by its sum (L1): a steady sine of amplitude a reads a / 2 in its bin
    whatever its frequency. Q = 1 / (2^(1 / bins_per_octave) - 1); the ends are mirrored. Bins at or above
    Nyquist are 1e-10, silence, so the shape does not depend on the rate. nnAudio's CQT1992v2 is by default
    the same times the square root of the window's length.

    Low bins are computed on the signal decimated by powers of two, cut ideally from one spectrum and with an
    octave of headroom, which keeps every kernel under 300 taps: within -78 dB of the definition's peak on
    white noise. 8 ms for 10 s at 44.1 kHz on two CPU threads.
    """
    if x.dtype != torch.float64:
        x = x.float()
    groups, margin = _cqt_plan(sample_rate, bins, bins_per_octave, float(low_hz), hop, x.device, x.dtype)
    if x.shape[-1] <= margin:
        need, got = margin / sample_rate, x.shape[-1] / sample_rate
        raise ValueError(
            f"a constant-Q transform from {low_hz:g} Hz needs more than {need:.2f} s, got {got:.2f} s"
        )
    frames = 1 + x.shape[-1] // hop
    lead = hop * -(-margin // hop)
    size = _fast_length(2 * lead + x.shape[-1], max(step for step, _ in groups))
    padded = F.pad(
        F.pad(x.flatten(0, 1)[:, None], (margin, margin), mode="reflect")[:, 0], (lead - margin, 0)
    )
    padded = F.pad(padded, (0, size - padded.shape[-1]))
    spectrum = torch.fft.rfft(padded)

    magnitudes = []
    for step, kernel in groups:
        short = size // step
        y = padded if step == 1 else torch.fft.irfft(_truncated(spectrum, short), short) / step
        half = kernel.shape[-1] // 2
        y = y[:, lead // step - half :].unfold(-1, kernel.shape[-1], hop // step)[:, :frames]
        real, imag = torch.matmul(y, kernel.flatten(0, 1).T).unflatten(-1, (2, -1)).unbind(-2)
        magnitudes.append(torch.sqrt(real.square() + imag.square() + 1e-20))
    found = torch.cat(magnitudes, -1)
    return F.pad(found, (0, bins - found.shape[-1]), value=1e-10).transpose(-1, -2).unflatten(0, x.shape[:2])


def _truncated(spectrum: Tensor, size: int) -> Tensor:
    """The lower part of a real signal's spectrum for an inverse transform of `size`, no Nyquist bin."""
    return F.pad(spectrum[:, : size // 2], (0, 1))


def _fast_length(at_least: int, multiple: int) -> int:
    """The next multiple whose factor beside it is 2^a 3^b 5^c."""
    factor = -(-at_least // multiple)
    while True:
        rest = factor
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return factor * multiple
        factor += 1


@lru_cache(maxsize=16)
def _cqt_plan(
    sample_rate: int,
    bins: int,
    bins_per_octave: int,
    low_hz: float,
    hop: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[list[tuple[int, Tensor]], int]:
    """From low to high (decimation, kernels [2, bins of the group, taps]); half the longest kernel."""
    quality = 1.0 / (2.0 ** (1.0 / bins_per_octave) - 1.0)
    by_step: dict[int, list[float]] = {}
    for frequency in cqt_frequencies_hz(bins, bins_per_octave, low_hz):
        if frequency >= sample_rate / 2:
            break
        step = 1
        while hop % (2 * step) == 0 and 4 * 2 * step * frequency <= sample_rate:
            step *= 2
        by_step.setdefault(step, []).append(frequency)
    if not by_step:
        raise ValueError(f"no constant-Q bin from {low_hz:g} Hz lies below the Nyquist of {sample_rate} Hz")
    groups = []
    # a cache filled under inference_mode would hold tensors that no later step could save for backward
    with torch.inference_mode(False):
        for step, members in by_step.items():
            rows = [_cqt_kernel(f, math.ceil(quality * sample_rate / f), sample_rate, step) for f in members]
            taps = max(row.shape[-1] for row in rows)
            rows = [F.pad(row, ((taps - row.shape[-1]) // 2,) * 2) for row in rows]
            groups.append((step, torch.stack(rows, 1).to(device, dtype)))
    longest = math.ceil(quality * sample_rate / low_hz)
    return groups, -(-longest // 2)


def _cqt_kernel(frequency: float, length: int, sample_rate: int, step: int) -> Tensor:
    """Real and imaginary part on every step-th sample, [2, taps], taps odd; window L1 at full rate."""
    half = length // 2
    full = 0.5 + 0.5 * torch.cos(2 * math.pi * torch.arange(-half, half + 1, dtype=torch.float64) / length)
    t = step * torch.arange(-(half // step), half // step + 1, dtype=torch.float64)
    window = (0.5 + 0.5 * torch.cos(2 * math.pi * t / length)) * step / full.sum()
    phase = 2 * math.pi * frequency * t / sample_rate
    return torch.stack((window * torch.cos(phase), -window * torch.sin(phase)))


def third_octave_hz(sample_rate: int) -> list[float]:
    """Centers of the 1/3-octave bands from 25 Hz (nominal) whose upper edge lies below Nyquist."""
    centers = [1000.0 * 2.0 ** (k / 3) for k in range(-16, 14)]
    return [center for center in centers if center * 2 ** (1 / 6) <= sample_rate / 2]


def third_octave_db(x: Tensor, sample_rate: int, floor_db: float = -160.0) -> Tensor:
    """Power in each 1/3-octave band of the whole clip, in dB: a full-scale sine reads -3.01 in its band.

    x  [B, C, T] -> [B, C, bands], the bands of third_octave_hz

    From one rfft: edges are sharp to 1 / duration; below one second the lowest bands hold too few lines.
    """
    length = x.shape[-1]
    centers = third_octave_hz(sample_rate)
    edges = torch.tensor(
        [c * 2 ** (-1 / 6) for c in centers] + [centers[-1] * 2 ** (1 / 6)], dtype=torch.float64
    )
    line_hz = torch.arange(length // 2 + 1, dtype=torch.float64) * sample_rate / length
    band = torch.bucketize(line_hz, edges, right=True).to(x.device)
    power = 2.0 * torch.fft.rfft(x).abs().square() / length**2
    bands = power.new_zeros(*x.shape[:2], len(centers) + 2).index_add(-1, band, power)[..., 1:-1]
    return 10.0 * torch.log10(bands.clamp(min=10.0 ** (floor_db / 10.0)))


def envelope_db(x: Tensor, sample_rate: int, frame_ms: float = 20.0, floor_db: float = -120.0) -> Tensor:
    """RMS of consecutive frames in dB, all channels together; the incomplete last frame is dropped.

    x  [B, C, T] -> [B, 1, frames]
    """
    size = max(1, round(frame_ms * sample_rate / 1000))
    power = x.square().mean(-2, keepdim=True).unfold(-1, size, size).mean(-1)
    return 10.0 * torch.log10(power.clamp(min=10.0 ** (floor_db / 10.0)))
