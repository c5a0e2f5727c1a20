"""Laws that every processor keeps; the subjects are processors.__all__, so an exported effect is tested."""

import inspect
import re

import pytest
import torch

from difffx import processors
from difffx.functional import compiled
from difffx.processors import Compressor, Processor

RATE = 44_100
LENGTH = 1500
CONTRACTS = {"Processor"}
# What an option makes another recursion, another curve or other inputs of.
VARIANTS = {
    "Compressor, feedback": {"topology": "feedback"},
    "Compressor, feedback and rms": {"topology": "feedback", "detector": "rms"},
    "Compressor, rms": {"detector": "rms"},
    "Compressor, lookahead": {"lookahead_ms": 1.0},
    "Compressor, sidechain": {"sidechain": True},
    "Limiter, true peak": {"true_peak": True},
    "Limiter, no lookahead": {"lookahead_ms": 0.0},
    "DeEsser, wide": {"mode": "wide"},
    "Expander, sidechain": {"sidechain": True},
    "NoiseGate, no hold": {"hold_ms": 0.0},
    "DynamicEQ, sidechain": {"num_bands": 2, "sidechain": True},
    "Butterworth, odd high-pass": {"order": 3, "kind": "high_pass"},
    "LinearPhaseEQ, zero phase": {"zero_phase": True, "num_taps": 255},
    "ParametricEQ, shelves alone": {"num_peaks": 0},
    "ToneStack, another amp": {"amp": "marshall_jcm800"},
    "Chorus, three voices": {"voices": 3, "shape": "triangle"},
    "StereoChorus, two voices": {"voices": 2, "shape": "saw"},
    "Flanger, triangle": {"shape": "triangle"},
    "FeedbackFlanger, saw": {"shape": "saw"},
    "Phaser, odd": {"stages": 7, "shape": "triangle"},
    "Tremolo, square": {"shape": "square"},
    "Vibrato, triangle": {"shape": "triangle"},
    "FeedbackDelayNetwork, few lines": {"lines": 4, "size": 0.5},
    "NoiseReverb, few bands": {"bands": 3, "num_taps": 1000},
    "ConvolutionReverb, learned": {"learned": True},
    "Tanh, oversampled": {"oversample": 4},
    "HardClip, oversampled": {"oversample": 2, "dc_block": True},
    "BitCrusher, oversampled": {"oversample": 2},
    "TableShaper, oversampled": {"oversample": 2, "points": 5},
    "Rectifier, dc blocked": {"dc_block": True},
    "ParametricClipper, oversampled": {"oversample": 2},
    "ChebyshevShaper, oversampled": {"oversample": 2},
    "Panner, -6 dB": {"law": "-6dB"},
    "Crossfade, linear": {"law": "linear"},
    "StereoEnhancer, left": {"later": "left"},
    "Polarity, left": {"channel": "left"},
    "Normalize, rms": {"mode": "rms"},
    "FadeIn, another shape": {"shape": "exponential"},
    "Mix, three": {"num_inputs": 3},
    "Multiband, two bands": {"num_bands": 2},
}
PROXIES = {"NeuralProxy", "HybridProxy"}
# What is held by those that are made of effects.
COMBINATORS = dict.fromkeys(("DryWet", "MidSide", "Multiband", "Send", "Switch"), Compressor)
KINDS = [name for name in processors.__all__ if name not in CONTRACTS]
NAMES = [*KINDS, *VARIANTS]


def kind_of(name):
    return name.split(", ")[0]


def among(kinds):
    """The names of these kinds, with all their variants."""
    return {name for name in NAMES if kind_of(name) in kinds}


KNOBLESS = among({"Normalize", "Sum"})
EXACT = [name for name in NAMES if kind_of(name) not in PROXIES]
# Their outer points are heard in loud sounds only.
LOUD = among({"TableShaper"})
# The whole signal decides on every sample: its mean, its peak, its end; a limiter looks 2 ms ahead.
NOT_CAUSAL = among({"Normalize", "TaylorShaper", "ChebyshevShaper", "FadeOut", "Limiter", "MultibandLimiter"})
# Oversampling filters hear a few samples ahead, so that nothing is late.
NOT_CAUSAL |= {"Compressor, lookahead", "LinearPhaseEQ, zero phase"}
NOT_CAUSAL |= {name for name in VARIANTS if name.endswith("oversampled")}
# Their gradient is a stated one: that of a staircase is zero.
STRAIGHT_THROUGH = among({"BitCrusher"})
# Their second echo, where feedback begins to be heard, comes after this many samples at the latest.
LATE = {"FeedbackDelay": 40_000, "DampedDelay": 40_000, "PingPongDelay": 40_000, "TempoDelay": 40_000}
# They act around a level: many settings meet a sound that dies away, so that each knob has its moment.
FADING = among({"Expander", "NoiseGate", "Multiband", "MultibandCompressor", "MultibandExpander"})
FADING |= among({"MultibandGate", "MultibandLimiter"})
FADING |= {"Compressor, rms", "Compressor, feedback and rms", "DynamicEQ, sidechain"}


def make(name):
    kind = getattr(processors, kind_of(name))
    if name in PROXIES:
        return kind(Compressor(RATE)).eval()
    held = COMBINATORS.get(kind_of(name))
    return kind(RATE if held is None else held(RATE), **VARIANTS.get(name, {}))


def noise(batch=2, channels=1, length=LENGTH, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    burst = torch.rand(batch, 1, length, generator=generator, dtype=torch.float64).cumprod(-1) + 0.2
    x = torch.randn(batch, channels, length, generator=generator, dtype=torch.float64)
    return (0.25 * burst * x).to(dtype)


def heard(processor, x):
    count = 2 if processor.variadic else len(processor.inputs)
    return [x.roll(i, -1) for i in range(count)]


def settings(processor, batch=2, seed=1, dtype=torch.float32):
    z = processor.spec.sample(batch, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return 0.1 + 0.8 * z


def run(processor, x, z):
    return processor(*heard(processor, x), controls=processor.from_unit(z))


def ends(processor):
    """Every knob at its lower end, every knob at its upper end."""
    count = len(processor.spec)
    return [torch.zeros(2, count, 1), torch.ones(2, count, 1)]


def test_the_registry_holds_every_public_processor():
    found = {
        name
        for name, kind in inspect.getmembers(processors, inspect.isclass)
        if issubclass(kind, Processor) and not name.startswith("_")
    }
    assert found == set(processors.__all__)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_finiteness_for_noise_and_silence(name, channels):
    processor = make(name)
    for x in (noise(channels=channels), torch.zeros(2, channels, LENGTH), noise(channels=channels, length=1)):
        for z in (settings(processor), *ends(processor)):
            x = x.detach().clone().requires_grad_()
            z = z.detach().clone().requires_grad_()
            y = run(processor, x, z)
            out_channels = 2 if processor.stereo else channels
            assert y.shape == (x.shape[0], out_channels, x.shape[2])
            assert y.dtype == x.dtype and y.isfinite().all()
            y.square().sum().backward()
            assert x.grad.isfinite().all()
            assert z.numel() == 0 or z.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_items(name):
    processor = make(name)
    x, z = noise(batch=3, channels=2), settings(processor, batch=3)
    together = run(processor, x, z)
    apart = torch.cat([run(processor, x[i : i + 1], z[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, apart, atol=2e-6 * together.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in KNOBLESS])
def test_every_knob_moves_the_output(name):
    processor = make(name)
    length = LATE.get(name, 6000)
    channels = 2 if processor.stereo else 1
    batch = 24 if name in FADING else 2
    x = (10.0 if name in LOUD else 1.0) * noise(batch, channels, length)
    x = x * torch.logspace(1, -3, length) if name in FADING else x
    z = settings(processor, batch).requires_grad_()
    weight = noise(batch, channels, length, seed=3)
    (run(processor, x, z) * weight).sum().backward()
    moved = z.grad.abs().amax((0, 2))
    assert not [label for label, g in zip(processor.spec.labels, moved, strict=True) if g == 0]


@pytest.mark.parametrize("name", EXACT)
def test_a_constant_curve_is_a_static_control(name):
    processor = make(name)
    x, z = noise(), settings(processor)
    controls = processor.from_unit(z)
    moving = {p.name for p in processor.params if p.dynamic}
    curves = {k: v.expand(-1, -1, 5) if k in moving else v for k, v in controls.items()}
    static = processor(*heard(processor, x), controls=controls)
    assert torch.allclose(processor(*heard(processor, x), controls=curves), static, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in EXACT if make(name).neutral is not None])
def test_neutral_settings_pass_the_sound_unchanged(name):
    processor = make(name)
    x = noise(channels=2 if processor.stereo else 1)
    controls = processor.from_unit(settings(processor))
    neutral = {knob: torch.full_like(controls[knob], value) for knob, value in processor.neutral.items()}
    y = processor(*heard(processor, x), controls={**controls, **neutral})
    assert torch.allclose(y, heard(processor, x)[0], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_units_round_trip_and_defaults_lie_inside(name):
    processor = make(name)
    z = settings(processor, batch=16, dtype=torch.float64)
    if len(processor.spec):
        assert torch.allclose(processor.to_unit(processor.from_unit(z)), z, atol=1e-9)
    defaults = processor.spec.defaults()
    assert ((defaults >= 0) & (defaults <= 1)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_CAUSAL])
def test_twice_as_long_begins_the_same(name):
    processor = make(name)
    x, z = noise(length=2 * LENGTH), settings(processor)
    short, long = x[..., :LENGTH], run(processor, x, z)[..., :LENGTH]
    one_input = [x[..., :LENGTH] for x in heard(processor, x)]
    y = processor(*one_input, controls=processor.from_unit(z))
    assert y.shape[-1] == short.shape[-1]
    assert torch.allclose(y, long, atol=2e-6 * long.abs().max().item(), rtol=0)


@pytest.mark.parametrize("name", EXACT)
def test_float32_agrees_with_float64(name):
    processor = make(name)
    x, z = noise(), settings(processor)
    # The same settings: float32 holds a delay of 10 ms to 0.00003 samples, and noise can tell.
    controls = processor.from_unit(z)
    exact = {knob: value.double() for knob, value in controls.items()}
    fine = processor(*heard(processor, x.double()), controls=exact)
    assert fine.dtype == torch.float64
    error = (processor(*heard(processor, x), controls=controls).double() - fine).norm() / fine.norm()
    assert error < 1e-5


@pytest.mark.parametrize("name", [name for name in EXACT if name not in STRAIGHT_THROUGH])
def test_gradients_equal_finite_differences(name):
    processor = make(name)
    x = noise(batch=1, length=40, dtype=torch.float64, seed=7).requires_grad_()
    z = settings(processor, batch=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, z: run(processor, x, z), (x, z), eps=1e-7, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_by_hand_the_missing_knobs_take_their_defaults(name):
    processor = make(name)
    x = heard(processor, noise())
    by_default = processor(*x, controls=processor.from_unit(processor.spec.defaults()))
    assert torch.allclose(processor(*x), by_default, atol=1e-4 * by_default.abs().max().item())
    if processor.params:
        first = processor.params[0]
        assert torch.allclose(processor(*x, **{first.name: first.default}), processor(*x), atol=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_wrong_calls_are_refused_by_name(name):
    processor = make(name)
    x = heard(processor, noise())
    with pytest.raises(ValueError, match=f"{kind_of(name)}: no knob 'no_such_knob'"):
        processor(*x, no_such_knob=1.0)
    with pytest.raises(ValueError, match=r"\[B, C, T\]"):
        processor(*(signal[0] for signal in x))
    with pytest.raises(ValueError, match="empty"):
        processor(*(signal[..., :0] for signal in x))
    if kind_of(name) not in COMBINATORS:
        with pytest.raises(ValueError, match="sample_rate"):
            getattr(processors, kind_of(name))(0)


@pytest.mark.parametrize("level", [1e-40, 10.0], ids=["denormal", "20 dB over full scale"])
@pytest.mark.parametrize("name", NAMES)
def test_neither_denormals_nor_clipping_levels_break_the_output_or_the_gradients(name, level):
    processor = make(name)
    for z in (settings(processor), *ends(processor)):
        x, z = (level * noise(length=600).sign()).requires_grad_(), z.clone().requires_grad_()
        y = run(processor, x, z)
        assert y.isfinite().all()
        y.mean().backward()
        assert x.grad.isfinite().all()
        assert z.numel() == 0 or z.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_neither_the_type_nor_the_sound(name):
    processor = make(name)
    x, z = noise(), settings(processor)
    plain = run(processor, x, z)
    with torch.autocast("cpu", torch.bfloat16):
        y = run(processor, x, z)
    assert y.dtype == x.dtype
    assert (y - plain).norm() < (0.1 if name in PROXIES else 1e-5) * plain.norm()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in KNOBLESS])
def test_controls_of_half_precision_are_taken(name):
    processor = make(name)
    x, z = noise(), settings(processor).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = run(processor, x, z)
    assert y.isfinite().all()
    y.float().mean().backward()
    assert z.grad.isfinite().all()


def bytes_kept(processor, length):
    """What autograd holds between the passes, every piece of memory once."""
    x = [x.requires_grad_() for x in heard(processor, noise(8, 2 if processor.stereo else 1, length))]
    controls = processor.from_unit(settings(processor, 8).requires_grad_())
    pieces = {}

    def keep(saved):
        memory = saved.untyped_storage()
        pieces[memory.data_ptr()] = memory.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        y = processor(*x, controls=controls)
    assert y.requires_grad
    return sum(pieces.values()), sum(x.numel() for x in x)


@pytest.mark.skipif(not compiled.available(), reason="the figures are those of the kernels")
@pytest.mark.parametrize("name", [name for name in KINDS if name not in {*COMBINATORS, "HybridProxy"}])
def test_the_docstring_says_how_much_is_kept_for_the_gradient(name):
    said = re.search(r"gradients; ([\d.]+) bytes of each are kept", getattr(processors, name).__doc__)
    processor = make(name)
    (short, few), (long, many) = (bytes_kept(processor, length) for length in (8192, 24_576))
    assert (long - short) / (many - few) == pytest.approx(float(said[1]), rel=0.05, abs=0.1)


# The same lines with other constants, or in several bands, as an effect that is compiled below.
ALIKE = {"AllPass", "BandPass", "HighPass", "HighShelf", "LowShelf", "Notch"}
ALIKE |= {"ArcSinh", "ArcTan", "ArcTanh", "Cubic", "DoubleSoftClip", "Exponential", "HardClip", "SoftClip"}
ALIKE |= {name for name in KINDS if name.startswith("Multiband") and name != "Multiband"}
ALIKE |= {"DampedDelay", "SlapbackDelay", "StereoChorus", "StereoFlanger", "TempoDelay"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KINDS if name not in ALIKE])
def test_torch_compile_changes_neither_the_sound_nor_the_gradients(name):
    processor = make(name)

    def answers(processed):
        x, z = noise(length=300).requires_grad_(), settings(processor).requires_grad_()
        y = processed(*heard(processor, x), controls=processor.from_unit(z))
        y.square().mean().backward()
        return [y.detach(), x.grad, *([z.grad] if z.numel() else [])]

    torch.compiler.reset()
    traced = answers(torch.compile(processor, backend="aot_eager"))
    for found, expected in zip(traced, answers(processor), strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
