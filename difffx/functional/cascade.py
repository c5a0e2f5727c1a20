"""Cascades of second-order filters: the recursion itself, as blocks of matrix products or as machine code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional import compiled

BLOCK = 128
"""Samples per block of matrix products, a power of two: 64 and 256 are a tenth to a quarter slower."""


def sosfilt(x: Tensor, sos: Tensor) -> Tensor:
    """The cascade of second-order filters, from silence: what scipy.signal.sosfilt gives, with gradients.

    x         [B, C, T], any T; all channels of an item share its filters
    sos       [B or 1, S, 6]: b0 b1 b2 a0 a1 a2, each section stable
    returns   [B, C, T] in the type of x

    Exact: no truncation, no frequency sampling; float64 inside. In pure torch the cascade is one state space
    of order 2S. Blocks of samples are matrix products: a Toeplitz matrix of the impulse response, and the
    ringing of the state they start from. The states at the block borders come from a scan in log2(blocks)
    steps, whose matrices are squares of each other. On the CPU, where a compiler is found (`compiled`), the
    recursion itself runs, four rows at a time, and one pass back in time gives all gradients.

    Within -180 dB of scipy for six bells at 20 Hz with a Q of 100. Six sections on 8 x 1 x 131072: compiled,
    on one core, 2 ms, and 10 ms with all gradients; in pure torch, on two, 7 and 19 ms. The compiled reverse
    pass keeps half a byte per sample and section beside its inputs. Needs a device with float64.
    """
    if x.ndim != 3 or sos.ndim != 3 or sos.shape[0] not in (1, x.shape[0]) or sos.shape[2] != 6:
        shapes = f"{tuple(x.shape)} and {tuple(sos.shape)}"
        raise ValueError(f"sosfilt: expected x [B, C, T] and sos [B or 1, S, 6], got {shapes}")
    if compiled.serves(x, sos):
        keep = torch.is_grad_enabled() and (x.requires_grad or sos.requires_grad)
        return _compiled(x, sos.double(), keep)[0]
    return _in_blocks(x, sos)


def _in_blocks(x: Tensor, sos: Tensor) -> Tensor:
    """`sosfilt` in pure torch."""
    samples, rows = x.shape[-1], sos.shape[0]
    block = min(BLOCK, 1 << (samples - 1).bit_length())
    blocks = -(-samples // block)
    u = pad(x, (0, blocks * block - samples)).double().reshape(rows, -1, block)
    toeplitz, ringing, reach, transition = _block_matrices(*_state_space(sos.double()), block)
    y = u @ toeplitz
    if blocks > 1:
        kicks = (u @ reach).reshape(rows, -1, blocks, reach.shape[-1])
        states = _scan(kicks, transition).reshape(rows, -1, reach.shape[-1])
        y = torch.baddbmm(y, states, ringing)
    return y.reshape(*x.shape[:2], -1)[..., :samples].to(x.dtype)


def _state_space(sos: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[B, S, 6] -> A [B, n, n], b [B, n, 1], c [B, 1, n], d [B, 1, 1] with n = 2S.

    The state of a section is its last inner value and the last step of that value, not the last two values:
    two values of a 20 Hz filter are nearly equal, and the difference is all that matters.
    """
    b0, b1, b2, _, a1, a2 = (sos / sos[..., 3:4]).unbind(-1)
    fed_back = torch.stack((torch.stack((-a1 - a2, a2), -1), torch.stack((-1 - a1 - a2, a2), -1)), -2)
    heard = torch.stack((b1 + b2 - b0 * (a1 + a2), b0 * a2 - b2), -1)
    batch, sections = b0.shape
    a = sos.new_zeros(batch, 0, 0)
    b = sos.new_zeros(batch, 0, 1)
    c = sos.new_zeros(batch, 1, 0)
    d = sos.new_ones(batch, 1, 1)
    for s in range(sections):
        upper = pad(a, (0, 2))
        lower = torch.cat((c.expand(-1, 2, -1), fed_back[:, s]), -1)
        a = torch.cat((upper, lower), -2)
        b = torch.cat((b, d.expand(-1, 2, -1)), -2)
        through = b0[:, s, None, None]
        c = torch.cat((through * c, heard[:, s, None]), -1)
        d = through * d
    return a, b, c, d


def _block_matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor, block: int) -> tuple[Tensor, ...]:
    """One step -> L = `block` steps, as matrices that act on row vectors.

    returns   toeplitz [B, L, L] inputs -> outputs, ringing [B, n, L] state -> outputs,
              reach [B, L, n] inputs -> next state, transition [B, n, n] state -> next state
    """
    reach, ringing, power = b, c, a
    while reach.shape[-1] < block:
        reach = torch.cat((power @ reach, reach), -1)
        ringing = torch.cat((ringing, ringing @ power), -2)
        power = power @ power
    response = torch.cat((d, (c @ reach).flip(-1)[..., : block - 1]), -1).squeeze(-2)
    toeplitz = pad(response, (block - 1, 0)).unfold(-1, block, 1).flip(-2)
    return toeplitz, ringing.mT, reach.mT, power.mT


def _scan(kicks: Tensor, transition: Tensor) -> Tensor:
    """kicks [B, R, N, n] -> s [B, R, N, n]: s[0] = 0, s[k + 1] = s[k] transition + kicks[k]; log2 N steps."""
    states = pad(kicks[:, :, :-1], (0, 0, 1, 0))
    power, reach = transition.unsqueeze(1), 1
    while reach < states.shape[2]:
        states = states + pad(states[:, :, :-reach] @ power, (0, 0, reach, 0))
        power, reach = power @ power, 2 * reach
    return states


@torch.library.custom_op("difffx::sosfilt", mutates_args=())
def _compiled(x: Tensor, sos: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """x [B, C, T], sos float64 -> y and, if they are to be kept, states from which the way back starts."""
    x, sos, y = x.contiguous(), sos.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    kept = sos.new_empty(_kept_shape(x, sos, keep))
    compiled.call("sosfilt", *_sizes(x, sos, kept.shape[0]), sos, x, y, kept if keep else None)
    return y, kept


@_compiled.register_fake
def _(x: Tensor, sos: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    kept = sos.new_empty(_kept_shape(x, sos, keep))
    return torch.empty_like(x, memory_format=torch.contiguous_format), kept


@torch.library.custom_op("difffx::sosfilt_backward", mutates_args=())
def _compiled_backward(
    grad: Tensor, x: Tensor, sos: Tensor, kept: Tensor, by_x: bool, by_sos: bool
) -> tuple[Tensor, Tensor]:
    """Gradients to x and to sos; empty where not asked for."""
    grad, x, sos = grad.contiguous(), x.contiguous(), sos.contiguous()
    grad_x = torch.empty_like(x) if by_x else x.new_empty(0)
    per_row = sos.new_empty(x.shape[0] * x.shape[1] if by_sos else 0, *sos.shape[1:])
    outputs = grad_x if by_x else None, per_row if by_sos else None
    compiled.call("sosfilt_backward", *_sizes(x, sos, kept.shape[0]), sos, x, grad, kept, *outputs)
    return grad_x, per_row.view(sos.shape[0], -1, *sos.shape[1:]).sum(1) if by_sos else per_row


@_compiled_backward.register_fake
def _(grad: Tensor, x: Tensor, sos: Tensor, kept: Tensor, by_x: bool, by_sos: bool) -> tuple[Tensor, Tensor]:
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if by_x else x.new_empty(0)
    return grad_x, torch.empty_like(sos) if by_sos else sos.new_empty(0, *sos.shape[1:])


def _keep_for_backward(ctx, inputs, output) -> None:
    x, sos, _ = inputs
    ctx.save_for_backward(x, sos, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, _):
    if grad is None:
        return None, None, None
    x, sos, kept = ctx.saved_tensors
    if torch.is_grad_enabled():  # a gradient of this gradient is wanted: torch knows how
        wanted = [t for t, needed in zip((x, sos), ctx.needs_input_grad, strict=False) if needed]
        found = iter(torch.autograd.grad(_in_blocks(x, sos), wanted, grad, create_graph=True))
        return *(next(found) if needed else None for needed in ctx.needs_input_grad[:2]), None
    grads = _compiled_backward(grad, x, sos, kept, *ctx.needs_input_grad[:2])
    return *(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=False)), None


_compiled.register_autograd(_backward, setup_context=_keep_for_backward)


def _sizes(x: Tensor, sos: Tensor, segments: int) -> tuple[int, ...]:
    """What the C functions want to know, in their order."""
    rows, samples = x.shape[0] * x.shape[1], x.shape[2]
    return (
        rows,
        samples,
        sos.shape[1],
        rows // sos.shape[0],
        segments,
        _segment_length(samples, segments),
        x.element_size(),
    )


def _segment_length(samples: int, segments: int) -> int:
    """A whole number of blocks."""
    return -(-samples // (segments * compiled.BLOCK)) * compiled.BLOCK


def _kept_shape(x: Tensor, sos: Tensor, keep: bool) -> tuple[int, int]:
    """[segments of a row, values], see `kept` in cascade.c.

    With fewer rows than threads have lanes, rows are cut into segments. That takes a second pass, so it has
    to make up for two.
    """
    rows, samples = x.shape[0] * x.shape[1], x.shape[2]
    lanes = compiled.LANES * torch.get_num_threads()
    segments = lanes // rows if 2 * rows < lanes and samples >= 1024 * lanes else 1
    groups = -(-rows * segments // compiled.LANES)
    blocks = _segment_length(samples, segments) // compiled.BLOCK
    values = groups * blocks * sos.shape[1] * 2 * compiled.LANES if keep else 0
    return segments, -(-values // segments)
