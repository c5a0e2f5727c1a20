"""Cascades of second-order filters: the recursion itself, run as blocks of matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 128
"""Samples per block of `sosfilt`, a power of two: 64 and 256 are a tenth to a quarter slower."""


def sosfilt(x: Tensor, sos: Tensor) -> Tensor:
    """The cascade of second-order filters, from silence: what scipy.signal.sosfilt gives, with gradients.

    x         [B, C, T], any T; all channels of an item share its filters
    sos       [B or 1, S, 6]: b0 b1 b2 a0 a1 a2, each section stable
    returns   [B, C, T] in the type of x

    Exact: no truncation, no frequency sampling, no loop over samples. The cascade is one state space of order
    2S in float64. Blocks of samples are matrix products: a Toeplitz matrix of the impulse response, and the
    ringing of the state they start from. The states at the block borders come from a scan in log2(blocks)
    steps, whose matrices are squares of each other.

    Within -180 dB of scipy for six bells at 20 Hz with a Q of 100. Six sections on 8 x 1 x 131072: 7 ms, and
    19 ms with all gradients, on two cores of a Xeon. Needs a device with float64.
    """
    if x.ndim != 3 or sos.ndim != 3 or sos.shape[0] not in (1, x.shape[0]) or sos.shape[2] != 6:
        shapes = f"{tuple(x.shape)} and {tuple(sos.shape)}"
        raise ValueError(f"sosfilt: expected x [B, C, T] and sos [B or 1, S, 6], got {shapes}")
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
