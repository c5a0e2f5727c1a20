from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from difffx.functional import cascade, filters

FS = 44_100


def scipy_sosfilt(x: Tensor, sos: Tensor) -> Tensor:
    """The sample-by-sample recursion in float64, item by item."""
    rows = sos.double().expand(x.shape[0], -1, -1).contiguous()
    items = [scipy.signal.sosfilt(s.numpy(), item.double().numpy()) for s, item in zip(rows, x, strict=True)]
    return torch.from_numpy(np.stack(items))


def error_db(y: Tensor, reference: Tensor) -> float:
    """The worst item's error."""
    difference = (y.double() - reference).flatten(1).norm(dim=1)
    return 20 * math.log10(float((difference / reference.flatten(1).norm(dim=1)).max()) + 1e-20)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_sos(batch: int, sections: int, seed: int = 0) -> Tensor:
    """20 Hz to 20 kHz, +-15 dB, Q 0.1 to 100: bells between two shelves."""
    u = torch.rand(3, batch, sections, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    knobs = (20 * 1000 ** u[0], 30 * u[1] - 15, 0.1 * 1000 ** u[2])
    low, mid, high = ([k[:, s] for k in knobs] for s in (slice(0, 1), slice(1, -1), slice(-1, None)))
    return torch.cat((filters.low_shelf(*low, FS), filters.peak(*mid, FS), filters.high_shelf(*high, FS)), 1)


def section(kind: str, frequency_hz: float, gain_db: float, q: float) -> Tensor:
    knobs = (torch.tensor([[float(v)]], dtype=torch.float64) for v in (frequency_hz, gain_db, q))
    return getattr(filters, kind)(*knobs, FS)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("samples", [1, 2, 7, 127, 128, 129, 1000, 20_000])
def test_any_length_equals_the_recursion_of_scipy(samples):
    x, sos = noise(3, 2, samples), random_sos(3, 6, seed=samples)
    reference = scipy_sosfilt(x, sos)
    assert error_db(cascade.sosfilt(x, sos), reference) < -150
    single = x.float()
    y = cascade.sosfilt(single, sos)
    assert y.dtype == torch.float32
    assert error_db(y, scipy_sosfilt(single, sos)) < -140


@pytest.mark.usefixtures("tier")
def test_sixty_random_cascades_equal_the_recursion_of_scipy():
    x, sos = noise(60, 1, 4410), random_sos(60, 5, seed=1)
    assert error_db(cascade.sosfilt(x, sos), scipy_sosfilt(x, sos)) < -150


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("gain_db", [-15, 15])
def test_thirty_seconds_of_a_30_hz_shelf_do_not_drift(gain_db):
    x, sos = noise(1, 1, 30 * FS) + 0.5, section("low_shelf", 30, gain_db, 2)
    assert error_db(cascade.sosfilt(x, sos), scipy_sosfilt(x, sos)) < -150
    assert error_db(cascade.sosfilt(x.float(), sos), scipy_sosfilt(x.float(), sos)) < -140


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("gain_db", [-15, 15])
def test_six_bells_at_20_hz_with_a_q_of_100_stay_exact(gain_db):
    x, sos = noise(1, 1, 131_072), section("peak", 20, gain_db, 100).expand(1, 6, 6)
    assert error_db(cascade.sosfilt(x, sos), scipy_sosfilt(x, sos)) < -120


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize(
    "design",
    [
        scipy.signal.butter(8, 40, "highpass", fs=FS, output="sos"),
        scipy.signal.butter(7, 1000, "lowpass", fs=FS, output="sos"),
        scipy.signal.ellip(6, 0.5, 80, [300, 3000], "bandpass", fs=FS, output="sos"),
        np.array([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0, -0.5, 0.0]]),
    ],
    ids=["highpass", "lowpass", "bandpass", "delays"],
)
def test_filters_designed_elsewhere_work_too(design):
    x, sos = noise(2, 2, 5000), torch.from_numpy(design)[None]
    assert error_db(cascade.sosfilt(x, sos), scipy_sosfilt(x, sos)) < -140
    assert error_db(cascade.sosfilt(x, 3 * sos), scipy_sosfilt(x, sos)) < -140


@pytest.mark.usefixtures("tier")
def test_items_and_channels_do_not_mix():
    x, sos = noise(3, 2, 700), random_sos(3, 4)
    y = cascade.sosfilt(x, sos)
    for i in range(3):
        for c in range(2):
            alone = cascade.sosfilt(x[i : i + 1, c : c + 1], sos[i : i + 1])
            torch.testing.assert_close(y[i : i + 1, c : c + 1], alone, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("tier")
def test_one_setting_serves_the_whole_batch():
    x, sos = noise(3, 2, 700), random_sos(1, 4)
    torch.testing.assert_close(cascade.sosfilt(x, sos), cascade.sosfilt(x, sos.expand(3, -1, -1)))


@pytest.mark.usefixtures("tier")
def test_the_past_does_not_hear_the_future():
    x, sos = noise(1, 1, 1000), random_sos(1, 4)
    later = x.clone()
    later[..., 613:] = 7.0
    torch.testing.assert_close(cascade.sosfilt(x, sos)[..., :613], cascade.sosfilt(later, sos)[..., :613])


@pytest.mark.usefixtures("tier")
def test_silence_stays_silent_and_the_input_is_not_touched():
    x = torch.zeros(1, 2, 300)
    assert cascade.sosfilt(x, random_sos(1, 4)).abs().max() == 0
    x = noise(1, 2, 300)
    kept = x.clone()
    cascade.sosfilt(x, random_sos(1, 4))
    assert torch.equal(x, kept)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("kind", ["low_shelf", "peak", "high_shelf"])
def test_0_db_is_the_identity_to_the_last_bit(kind):
    x = noise(1, 2, 3000).float()
    for frequency_hz in (20, 1000, 20_000):
        for q in (0.1, 2, 100):
            assert torch.equal(cascade.sosfilt(x, section(kind, frequency_hz, 0, q)), x)


@pytest.mark.parametrize("kind", ["low_shelf", "peak", "high_shelf"])
def test_cookbook_filters_are_the_bilinear_transform_of_their_analog_prototypes(kind):
    for frequency_hz, gain_db, q in [
        (30, 15, 2),
        (160, -15, 0.1),
        (1000, 6, 0.7),
        (9000, -12, 1),
        (20_000, 3, 10),
    ]:
        root = 10 ** (gain_db / 40)
        bend = math.sqrt(root) / q
        numerator, denominator = {
            "peak": ([1, root / q, 1], [1, 1 / (root * q), 1]),
            "low_shelf": ([root, root * bend, root**2], [root, bend, 1]),
            "high_shelf": ([root**2, root * bend, root], [1, bend, root]),
        }[kind]
        b, a = scipy.signal.bilinear(numerator, denominator, fs=0.5 / math.tan(math.pi * frequency_hz / FS))
        expected = torch.from_numpy(np.concatenate((b, a)))
        torch.testing.assert_close(
            section(kind, frequency_hz, gain_db, q)[0, 0], expected, rtol=1e-9, atol=1e-12
        )


def test_gains_stand_where_musicians_expect_them():
    def gain_db(kind: str, at_hz: float) -> float:
        response = filters.frequency_response(section(kind, 1000, 12, 0.7), torch.tensor([at_hz]), FS)
        return 20 * math.log10(float(response.abs()))

    for kind, far_below, center, far_above in [
        ("low_shelf", 12, 6, 0),
        ("peak", 0, 12, 0),
        ("high_shelf", 0, 6, 12),
    ]:
        assert gain_db(kind, 1.0) == pytest.approx(far_below, abs=1e-3)
        assert gain_db(kind, 1000.0) == pytest.approx(center, abs=1e-3)
        assert gain_db(kind, 22_000.0) == pytest.approx(far_above, abs=1e-2)


@pytest.mark.usefixtures("tier")
def test_frequencies_beyond_nyquist_are_held_below_it():
    held = section("peak", 0.49 * FS, 6, 1)
    assert torch.equal(section("peak", 40_000, 6, 1), held)
    assert cascade.sosfilt(noise(1, 1, 2000), held).isfinite().all()


@pytest.mark.usefixtures("tier")
def test_frequency_response_is_the_spectrum_of_the_impulse_response():
    sos = torch.cat(
        (
            section("low_shelf", 200, 9, 0.7),
            section("peak", 2000, -12, 2),
            section("high_shelf", 8000, 6, 0.5),
        ),
        1,
    )
    impulse = torch.zeros(1, 1, 8192, dtype=torch.float64)
    impulse[..., 0] = 1
    spectrum = torch.fft.rfft(cascade.sosfilt(impulse, sos))[:, 0]
    response = filters.frequency_response(sos, torch.fft.rfftfreq(8192, 1 / FS), FS)
    torch.testing.assert_close(response, spectrum, rtol=0, atol=1e-6)


def test_frequency_response_equals_scipy_for_every_item():
    sos, frequencies_hz = random_sos(4, 5), torch.linspace(10, 22_000, 200, dtype=torch.float64)
    expected = [scipy.signal.sosfreqz(s.numpy(), frequencies_hz.numpy(), fs=FS)[1] for s in sos]
    response = filters.frequency_response(sos, frequencies_hz, FS)
    torch.testing.assert_close(response, torch.from_numpy(np.stack(expected)), rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("samples", [1, 3, 4, 5, 23])
def test_gradients_for_signal_and_knobs_equal_finite_differences(samples, monkeypatch):
    monkeypatch.setattr(cascade, "BLOCK", 4)

    def run(x, frequency_hz, gain_db, q):
        knobs = [k.chunk(3, 1) for k in (frequency_hz, gain_db, q)]
        shapes = (filters.low_shelf, filters.peak, filters.high_shelf)
        return cascade.sosfilt(x, torch.cat([f(*k, FS) for f, *k in zip(shapes, *knobs, strict=True)], 1))

    hz = torch.tensor([[200.0, 900.0, 7000.0], [900.0, 4000.0, 9000.0]], dtype=torch.float64)
    db = torch.tensor([[9.0, -7.0, 4.0], [-12.0, 0.0, -3.0]], dtype=torch.float64)
    q = torch.tensor([[0.7, 2.0, 0.3], [0.2, 1.0, 0.9]], dtype=torch.float64)
    args = tuple(v.requires_grad_() for v in (noise(2, 2, samples), hz, db, q))
    assert torch.autograd.gradcheck(run, args, eps=1e-5, atol=1e-6, rtol=1e-4)


def test_second_derivatives_exist(monkeypatch):
    monkeypatch.setattr(cascade, "BLOCK", 2)
    x, sos = noise(1, 1, 7).requires_grad_(), section("peak", 3000, 6, 1).requires_grad_()
    assert torch.autograd.gradgradcheck(cascade.sosfilt, (x, sos))


@pytest.mark.usefixtures("tier")
def test_the_gradient_for_the_signal_is_the_filter_run_backward():
    x, sos, weight = noise(2, 1, 3000).requires_grad_(), random_sos(2, 5), noise(2, 1, 3000, seed=1)
    (gradient,) = torch.autograd.grad(cascade.sosfilt(x, sos), x, weight)
    assert error_db(gradient, scipy_sosfilt(weight.flip(-1), sos).flip(-1)) < -150


@pytest.mark.usefixtures("tier")
def test_a_single_precision_gradient_survives_three_seconds_of_bass():
    x = noise(1, 1, 3 * FS)
    weight = noise(1, 1, 3 * FS, seed=1)

    def loss(frequency_hz: Tensor) -> Tensor:
        knobs = torch.full((1, 1), 12.0), torch.full((1, 1), 2.0)
        return (cascade.sosfilt(x.float(), filters.low_shelf(frequency_hz, *knobs, FS)) * weight).sum()

    frequency_hz = torch.full((1, 1), 40.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(frequency_hz), frequency_hz)

    def reference(hz: float) -> float:
        return float((scipy_sosfilt(x.float(), section("low_shelf", hz, 12, 2)) * weight).sum())

    expected = (reference(40.001) - reference(39.999)) / 0.002
    assert float(gradient) == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("tier")
def test_wrong_shapes_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 1, 10\) and \(3, 2, 6\)"):
        cascade.sosfilt(torch.zeros(4, 1, 10), torch.zeros(3, 2, 6))
