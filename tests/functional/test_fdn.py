import numpy as np
import pytest
import scipy.signal
import torch

from difffx.functional import fdn
from difffx.functional.delay_network import delay_network

FS = 44_100
DELAYS = [101, 113, 139, 157, 181, 211]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one(value):
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def error_db(y, reference):
    return 20 * torch.log10((y.double() - reference).norm() / reference.norm()).item()


def decay_time_s(ir, from_db=-5.0, to_db=-35.0):
    """Schroeder: the slope of the energy still to come, ir [..., N] summed over all its rows."""
    energy = ir.double().square().reshape(-1, ir.shape[-1]).sum(0).flip(0).cumsum(0).flip(0)
    level_db = 10 * torch.log10(energy / energy[0])
    n = torch.nonzero((level_db < from_db) & (level_db > to_db)).squeeze(1).double()
    y = level_db[n.long()]
    slope = ((n - n.mean()) * (y - y.mean())).sum() / (n - n.mean()).square().sum()
    return (-60.0 / slope / FS).item()


def sample_loop(x, matrix, filters, delays):
    """The definition, one sample after the other in float64."""
    x, matrix, filters = (t.detach().double().numpy() for t in (x, matrix, filters))
    batch, _, samples = x.shape
    lines, outputs = len(delays), matrix.shape[1] - len(delays)
    starts, y = np.zeros((batch, lines, samples)), np.zeros((batch, outputs, samples))
    before = np.zeros((batch, lines))
    for n in range(samples):
        late = [starts[:, i, n - d] if n >= d else np.zeros(batch) for i, d in enumerate(delays)]
        w = np.stack(late, 1) + filters[..., 2] * before
        ends = filters[..., 0] * w + filters[..., 1] * before
        before = w
        said = np.matmul(matrix, np.concatenate((ends, x[:, :, n]), 1)[..., None])[..., 0]
        starts[:, :, n], y[:, :, n] = said[:, :lines], said[:, lines:]
    return torch.from_numpy(y)


def network(batch, lines, inputs, outputs, seed=0):
    """An orthogonal feedback, anything else at random."""
    matrix = torch.randn(batch, lines + outputs, lines + inputs, generator=seeded(seed), dtype=torch.float64)
    matrix[:, :lines, :lines] = torch.linalg.qr(matrix[:, :lines, :lines])[0]
    return matrix


def any_filters(batch, lines, seed=0):
    pole = 1.9 * torch.rand(batch, lines, generator=seeded(seed), dtype=torch.float64) - 0.95
    return torch.stack((0.6 * (1 - pole.abs()), 0.39 * (1 - pole.abs()), pole), -1)


@pytest.mark.parametrize("decays", [(0.02, 0.01), (0.5, 0.1), (0.1, 2.0), (30.0, 30.0), (1000.0, 0.05)])
@pytest.mark.parametrize("damping_hz", [20.0, 3000.0, 21_000.0])
def test_any_decay_agrees_with_a_sample_loop(decays, damping_hz, tier):
    filters = fdn.decay_shelves(one(decays[0]), one(decays[1]), one(damping_hz), DELAYS, FS)
    matrix = network(1, 6, 1, 2)
    x = torch.randn(1, 1, 6000, generator=seeded(1), dtype=torch.float64)
    expected = sample_loop(x, matrix, filters, DELAYS)
    assert error_db(delay_network(x, matrix, filters, DELAYS), expected) < -250
    assert error_db(delay_network(x.float(), matrix, filters, DELAYS), expected) < -130


@pytest.mark.parametrize(
    ("samples", "delays"),
    [(1, [3]), (50, [60, 70]), (300, [1, 5]), (400, [7, 11, 20]), (700, [101, 5000]), (900, [300, 300, 555])],
)
def test_any_delays_and_lengths_agree_with_a_sample_loop(samples, delays, tier):
    matrix, filters = network(2, len(delays), 2, 3), any_filters(2, len(delays))
    x = torch.randn(2, 2, samples, generator=seeded(1), dtype=torch.float64)
    y, expected = delay_network(x, matrix, filters, delays), sample_loop(x, matrix, filters, delays)
    assert (y - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize("delays", [[7, 11, 20], [1, 5], [70, 90]])
@pytest.mark.parametrize("items", [1, 2])
def test_gradients_equal_finite_differences(delays, items, tier):
    matrix, filters = network(items, len(delays), 2, 2), any_filters(items, len(delays))
    x = torch.randn(2, 2, 60, generator=seeded(1), dtype=torch.float64)
    knobs = [knob.requires_grad_() for knob in (x, matrix, filters)]
    torch.autograd.gradcheck(lambda *knobs: delay_network(*knobs, delays), knobs, atol=1e-6, fast_mode=True)


def test_gradients_in_float32_are_those_in_float64():
    def gradients(x):
        knobs = [x, network(2, 4, 1, 2).requires_grad_(), any_filters(2, 4).requires_grad_()]
        return torch.autograd.grad(delay_network(*knobs, [97, 131, 180, 200]).square().sum(), knobs)

    x = torch.randn(2, 1, 20_000, generator=seeded(1), dtype=torch.float64)
    for rough, fine in zip(gradients(x.float().requires_grad_()), gradients(x.requires_grad_()), strict=True):
        assert error_db(rough, fine) < -100


def test_a_lossless_network_keeps_its_energy_for_thirty_seconds():
    delays = [997, 1153, 1327, 1559]
    matrix = network(1, 4, 1, 4)
    matrix[:, 4:, :4], matrix[:, 4:, 4:] = matrix[:, :4, :4], matrix[:, :4, 4:]  # hear what enters the lines
    flat = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(1, 4, 3)
    x = torch.zeros(1, 1, 30 * FS, dtype=torch.float64)
    x[..., 0] = 1.0
    starts = delay_network(x, matrix, flat, delays)[0]
    stored = sum(start[-delay:].square().sum() for start, delay in zip(starts, delays, strict=True))
    assert stored.item() == pytest.approx(matrix[0, :4, 4].square().sum().item(), rel=1e-10)


def response(seconds, **knobs):
    """The reverberation alone of an impulse, [1, 2, T]."""
    x = torch.zeros(1, 2, int(seconds * FS), dtype=torch.float64)
    x[..., 0] = 1.0
    settings = {"decay_low_s": 1.0, "decay_high_s": 1.0, "damping_hz": 3000.0, "diffusion": 1.0, "width": 1.0}
    settings = {k: one(v) for k, v in {**settings, "predelay_ms": 0.0, "mix": 1.0, **knobs}.items()}
    lengths = fdn.delay_lengths(8, FS)
    return fdn.feedback_delay_network(x, FS, delays=lengths, scattering=fdn.scattering(8), **settings)


@pytest.mark.parametrize("decay_s", [0.3, 1.0, 8.0])
@pytest.mark.parametrize("diffusion", [0.0, 1.0])
def test_the_measured_decay_time_of_a_room_is_the_knob(decay_s, diffusion):
    ir = response(min(1.2 * decay_s, 6.0), decay_low_s=decay_s, decay_high_s=decay_s, diffusion=diffusion)
    to_db = -35.0 if decay_s < 4.0 else -25.0
    assert decay_time_s(ir, to_db=to_db) == pytest.approx(decay_s, rel=0.02)


def band(ir, low_hz, high_hz):
    sos = scipy.signal.butter(3, (low_hz, high_hz), "bandpass", fs=FS, output="sos")
    return torch.from_numpy(scipy.signal.sosfilt(sos, ir.numpy()))


def test_bass_middle_and_treble_decay_in_their_own_times():
    ir = response(3.0, decay_low_s=1.5, decay_high_s=0.5, damping_hz=2000.0)
    assert decay_time_s(band(ir, 20, 200)) == pytest.approx(1.5, rel=0.03)
    assert decay_time_s(band(ir, 1600, 2500), to_db=-30) == pytest.approx(0.75, rel=0.03)
    assert decay_time_s(band(ir, 20_000, 22_000)) == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("decays", [(0.1, 20.0), (20.0, 0.1), (2.0, 2.0)])
@pytest.mark.parametrize("damping_hz", [20.0, 500.0, 30_000.0])
def test_a_shelf_never_leaves_the_span_of_its_ends(decays, damping_hz):
    shelves = fdn.decay_shelves(one(decays[0]), one(decays[1]), one(damping_hz), [500, 2000], FS)[0]
    for delay, (b0, b1, pole) in zip([500, 2000], shelves.tolist(), strict=True):
        w, gain = scipy.signal.freqz([b0, b1], [1.0, -pole], worN=np.linspace(0, np.pi, 2000))
        low, high = (10 ** (-3 * delay / FS / decay) for decay in decays)
        assert abs(pole) < 1.0
        assert abs(gain[0]) == pytest.approx(low, rel=1e-7) and abs(gain[-1]) == pytest.approx(high, rel=1e-7)
        assert abs(gain).max() <= max(low, high) * (1 + 1e-7) and abs(gain).min() >= min(low, high) * (
            1 - 1e-9
        )
        if damping_hz == 500.0:
            middle = abs(np.interp(2 * np.pi * 500 / FS, w, abs(gain)))
            assert 20 * np.log10(middle) == pytest.approx(10 * np.log10(low * high), abs=0.05)


def test_nothing_sounds_before_the_shortest_delay_and_the_predelay():
    ir = response(0.2, predelay_ms=10.0)
    first = min(fdn.delay_lengths(8, FS)) + 441
    assert ir[..., :first].abs().max() == 0.0 and ir[..., first].abs().max() > 0.0


def test_a_long_decay_is_not_truncated():
    ir = response(4.0, decay_low_s=1000.0, decay_high_s=1000.0)
    first, last = (ir[..., k * FS : (k + 1) * FS].square().sum() for k in (1, 3))
    assert 10 * torch.log10(last / first).item() == pytest.approx(-0.12, abs=0.3)


def test_scattering_turns_without_loss_and_reaches_every_line():
    for lines in (2, 3, 4, 6, 8, 12):
        skew = fdn.scattering(lines)
        torch.testing.assert_close(skew, -skew.mT)
        turn = torch.matrix_exp(skew)
        torch.testing.assert_close(turn @ turn.mT, torch.eye(lines, dtype=torch.float64))
        assert turn.abs().max() < 1.6 / lines**0.5


def test_delays_are_different_primes_that_follow_rate_and_size():
    lengths = fdn.delay_lengths(8, FS)
    assert len(set(lengths)) == 8
    assert all(n % d for n in lengths for d in range(2, int(n**0.5) + 1))
    for rate, size in ((2 * FS, 1.0), (FS, 2.0)):
        doubled = fdn.delay_lengths(8, rate, size)
        assert all(b / a == pytest.approx(2.0, rel=0.02) for a, b in zip(lengths, doubled, strict=True))


@pytest.mark.parametrize("gain", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("delay", [1, 7, 225, 4000])
def test_the_all_pass_is_its_difference_equation_and_passes_all(gain, delay, tier):
    x = torch.randn(2, 2, 3000, generator=seeded(), dtype=torch.float64)
    b, a = np.zeros(delay + 1), np.zeros(delay + 1)
    b[0], b[-1], a[0], a[-1] = -gain, 1.0, 1.0, -gain
    expected = torch.from_numpy(scipy.signal.lfilter(b, a, x.numpy()))
    assert error_db(fdn.schroeder_all_pass(x, one(gain), delay), expected) < -250 or expected.norm() == 0
    if delay < 100:
        impulse = torch.zeros(1, 1, 4000, dtype=torch.float64)
        impulse[..., 0] = 1.0
        energy = fdn.schroeder_all_pass(impulse, one(gain), delay).square().sum()
        assert energy.item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("delay", [1, 7, 60])
def test_gradients_of_the_all_pass_equal_finite_differences(delay, tier):
    x = torch.randn(2, 2, 40, generator=seeded(), dtype=torch.float64).requires_grad_()
    gain = torch.tensor([0.3, 0.6], dtype=torch.float64).reshape(2, 1, 1).requires_grad_()
    torch.autograd.gradcheck(lambda x, g: fdn.schroeder_all_pass(x, g, delay), (x, gain))
    torch.autograd.gradcheck(
        lambda x, g: fdn.schroeder_all_pass(x, g, delay), (x, gain[:1].detach().requires_grad_())
    )


def comb_loop(x, gains, levels, pole, delays):
    """The definition of `combs`, one sample after the other: x [B, S, T]; the others for each item."""
    y = np.zeros(x.shape)
    for b, s in np.ndindex(*x.shape[:2]):
        for gain, level, delay in zip(gains[b, s].tolist(), levels[b, s].tolist(), delays[s], strict=True):
            heard, back, p = np.zeros(x.shape[2] + delay), 0.0, float(pole[b])
            for n in range(x.shape[2]):
                echo = gain * heard[n]
                heard[n + delay] = back = (1 - p) * (float(x[b, s, n]) + echo) + p * back
                y[b, s, n] += level * echo
    return torch.from_numpy(y)


@pytest.mark.parametrize("delays", [[[1, 3], [2, 7]], [[40, 101, 333], [43, 111, 5000]]])
@pytest.mark.parametrize("channels", [1, 2])
def test_combs_agree_with_a_sample_loop(delays, channels, tier):
    x = torch.randn(2, channels, 700, generator=seeded(), dtype=torch.float64)
    gains, levels = (torch.rand(2, 2, len(delays[0]), generator=seeded(i)).double() for i in (1, 2))
    pole = torch.tensor([0.3, 0.95], dtype=torch.float64).view(2, 1, 1)
    expected = comb_loop(x.expand(2, 2, 700), gains, levels, pole, delays)
    assert error_db(fdn.combs(x, gains, levels, pole, delays), expected) < -250
    assert error_db(fdn.combs(x.float(), gains, levels, pole, delays), expected) < -139


@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_of_combs_equal_finite_differences(channels, tier):
    x = torch.randn(2, channels, 30, generator=seeded(), dtype=torch.float64)
    gains, levels = (torch.rand(2, 2, 2, generator=seeded(i)).double() for i in (1, 2))
    pole = torch.tensor([0.3, 0.9], dtype=torch.float64).view(2, 1, 1)
    knobs = [knob.requires_grad_() for knob in (x, gains, levels, pole)]
    torch.autograd.gradcheck(lambda *knobs: fdn.combs(*knobs, [[1, 7], [5, 40]]), knobs, fast_mode=True)


def freeverb_response(seconds, **knobs):
    x = torch.zeros(1, 2, int(seconds * FS), dtype=torch.float64)
    x[..., 0] = 1.0
    settings = {"decay_s": 1.0, "damping_hz": 16_000.0, "diffusion": 0.5, "predelay_ms": 0.0, "width": 1.0}
    return fdn.freeverb(x, FS, **{k: one(v) for k, v in {**settings, "mix": 1.0, **knobs}.items()})


@pytest.mark.parametrize("decay_s", [0.4, 1.5])
def test_the_bass_of_freeverb_decays_in_the_time_of_its_knob_and_the_treble_faster(decay_s, tier):
    ir = freeverb_response(1.5 * decay_s, decay_s=decay_s, damping_hz=16_000.0)
    assert decay_time_s(band(ir, 100, 800)) == pytest.approx(decay_s, rel=0.03)
    assert decay_time_s(band(ir, 15_000, 20_000), to_db=-25) < 0.7 * decay_s


def test_freeverb_begins_with_its_shortest_comb_and_its_sides_differ(tier):
    ir = freeverb_response(0.1)[0]
    assert ir[0, : min(fdn.COMBS)].abs().max() == 0.0 and ir[0, min(fdn.COMBS)].abs() > 0.0
    assert ir[1, : min(fdn.COMBS) + fdn.SPREAD].abs().max() == 0.0
    assert (ir[0] @ ir[1]).abs() < 0.3 * ir[0].norm() * ir[1].norm()


def test_wrong_shapes_are_told():
    x, matrix, filters = torch.zeros(1, 1, 10), network(1, 2, 1, 1), any_filters(1, 2)
    with pytest.raises(ValueError, match="delays"):
        delay_network(x, matrix, filters, [3, 0])
    with pytest.raises(ValueError, match="delays"):
        delay_network(x, matrix, filters, [3])
    with pytest.raises(ValueError, match="expected matrix"):
        delay_network(x.expand(1, 2, 10), matrix, filters, [3, 4])
