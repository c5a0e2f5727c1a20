from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

import pytest
import torch
from torch import Tensor

from difffx.functional import ballistics, cascade, compiled, delays, dynamics, phaser
from difffx.functional.compiled import build
from difffx.functional.delay_network import delay_network

needs_compiler = pytest.mark.skipif(not compiled.available(), reason="no C compiler")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stable_sos(batch: int, sections: int, seed: int = 0) -> Tensor:
    """Poles of radius 0.5 to 0.999 at any angle; no coefficient is a convenient one. [B, S, 6]"""
    u = torch.rand(6, batch, sections, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    radius, angle = 1 - 10 ** (-0.3 - 2.7 * u[0]), torch.pi * u[1]
    a = torch.stack((torch.ones_like(radius), -2 * radius * angle.cos(), radius**2), -1)
    return torch.cat((u[2:5].movedim(0, -1) - 0.3, a), -1) * (0.5 + u[5, ..., None])


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 9])
def test_sosfilt_agrees_for_any_number_of_rows_and_threads(rows, threads, tiers_agree):
    tiers_agree(cascade.sosfilt, noise(rows, 1, 15_000), stable_sos(rows, 3))


@needs_compiler
@pytest.mark.parametrize("sections", [1, 2, 3, 4, 5, 8, 11])
def test_sosfilt_agrees_for_any_number_of_sections(sections, tiers_agree):
    x, sos = noise(2, 2, 777), stable_sos(2, sections)
    tiers_agree(cascade.sosfilt, x, sos)
    tiers_agree(cascade.sosfilt, x, sos[:1])
    tiers_agree(cascade.sosfilt, x.float(), sos.float(), rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["signal", "filters"])
def test_one_gradient_without_the_other_is_the_same(needs):
    x, sos, weight = noise(2, 1, 500), stable_sos(2, 4), noise(2, 1, 500, seed=1)
    both = torch.autograd.grad(cascade.sosfilt(x.requires_grad_(), sos.requires_grad_()), (x, sos), weight)
    inputs = [t.detach().requires_grad_(wanted) for t, wanted in zip((x, sos), needs, strict=True)]
    (one,) = torch.autograd.grad(cascade.sosfilt(*inputs), inputs[needs.index(True)], weight)
    assert torch.equal(one, both[needs.index(True)])


@needs_compiler
def test_audio_laid_out_otherwise_is_the_same_audio():
    x, sos, weight = noise(500, 2, 3).permute(2, 1, 0).requires_grad_(), stable_sos(3, 4), noise(1, 1, 500)
    assert torch.equal(cascade.sosfilt(x, sos), cascade.sosfilt(x.contiguous(), sos))
    (strided,) = torch.autograd.grad(cascade.sosfilt(x, sos), x, weight.expand(3, 2, -1))
    (straight,) = torch.autograd.grad(cascade.sosfilt(x, sos), x, weight.expand(3, 2, -1).contiguous())
    assert torch.equal(strided, straight)


@needs_compiler
def test_a_broken_row_leaves_the_others_alone():
    x, sos = noise(3, 1, 900).requires_grad_(), stable_sos(3, 2)
    clean = torch.autograd.grad(cascade.sosfilt(x, sos).sum(), x)[0]
    broken = x.detach().clone()
    broken[1, 0, 300] = torch.nan
    y = cascade.sosfilt(broken.requires_grad_(), sos)
    (gradient,) = torch.autograd.grad(y.sum(), broken)
    assert y[1, 0, 300:].isnan().all() and y[[0, 2]].isfinite().all()
    assert torch.equal(gradient[[0, 2]], clean[[0, 2]])


@needs_compiler
def test_a_filter_rings_out_into_zero_and_not_into_denormals():
    x = torch.zeros(1, 1, 4000, dtype=torch.float64)
    x[..., 0] = 1.0
    tail = cascade.sosfilt(x, torch.tensor([[[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]]]))[0, 0, 1100:]
    assert (tail == 0).all()
    assert torch.tensor(1e-310, dtype=torch.float64) / 2 > 0  # and the mode of this thread is as it was


@needs_compiler
def test_transforms_of_torch_func_pass_through_torch():
    x, sos = noise(3, 1, 40), stable_sos(1, 2)
    each = torch.vmap(lambda item: cascade.sosfilt(item[None], sos)[0])(x)
    torch.testing.assert_close(each, cascade.sosfilt(x, sos))
    _, moved = torch.func.jvp(lambda x: cascade.sosfilt(x, sos), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(moved, cascade.sosfilt(torch.ones_like(x), sos))
    by_x = torch.func.grad(lambda x: cascade.sosfilt(x, sos).square().sum())(x)
    assert by_x.isfinite().all() and by_x.abs().max() > 0


@needs_compiler
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_the_operators_keep_the_rules_of_torch():
    x, sos = noise(2, 1, 100).requires_grad_(), stable_sos(2, 2).requires_grad_()
    torch.library.opcheck(torch.ops.difffx.sosfilt.default, (x, sos, True))


@needs_compiler
def test_torch_compile_takes_the_kernels_into_its_graph(with_gradients):
    x, sos = noise(2, 1, 300), stable_sos(2, 3)
    fast = torch.compile(
        lambda x, sos: 2.0 * cascade.sosfilt(0.5 * x, sos), backend="aot_eager", fullgraph=True
    )
    for ours, theirs in zip(
        with_gradients(fast, x, sos), with_gradients(cascade.sosfilt, x, sos), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@needs_compiler
def test_autocast_does_not_touch_the_recursion():
    x, sos = noise(1, 1, 300).float(), stable_sos(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cascade.sosfilt(x, sos), cascade.sosfilt(x.detach(), sos))
        y = cascade.sosfilt(x, sos)
    assert torch.equal(y, cascade.sosfilt(x, sos))


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_runs_the_kernels(threads):
    x, sos = noise(8, 1, 3000), stable_sos(8, 2)  # short: torch's own threads do not survive a fork
    expected = cascade.sosfilt(x, sos)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if torch.equal(cascade.sosfilt(x, sos), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@needs_compiler
@pytest.mark.parametrize("threads", [3], indirect=True)
def test_with_the_threads_of_torch_and_with_its_own_the_sound_is_the_same(threads):
    x, sos = noise(20, 1, 3000), stable_sos(20, 3)
    team = ctypes.c_void_p.in_dll(compiled.library(), "difffx_team")
    shared = cascade.sosfilt(x, sos)
    before = team.value
    compiled.library().difffx_use_team(None)
    try:
        assert torch.equal(cascade.sosfilt(x, sos), shared)
    finally:
        compiled.library().difffx_use_team(before)
    if sys.platform == "linux":
        assert before


@needs_compiler
def test_many_threads_may_call_at_once():
    x, sos = noise(8, 1, 5000), stable_sos(8, 4)
    expected, found = cascade.sosfilt(x, sos), []
    callers = [threading.Thread(target=lambda: found.append(cascade.sosfilt(x, sos))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4 and all(torch.equal(y, expected) for y in found)


@needs_compiler
def test_switched_off_inside_the_context_and_on_after_it():
    with compiled.disabled():
        assert not compiled.available()
    assert compiled.available()


@pytest.mark.parametrize(
    "setting",
    [
        {"DIFFFX_COMPILED": "0"},
        {"CC": "no-such-compiler"},
        {"CC": "false"},
        {"XDG_CACHE_HOME": "/dev/null", "HOME": "/dev/null"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_without_the_library_the_pure_tier_runs_in_silence(setting, monkeypatch, capfd):
    x, sos = noise(2, 1, 200), stable_sos(2, 2)
    with compiled.disabled():
        expected = cascade.sosfilt(x, sos)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    build.library.cache_clear()
    try:
        assert not compiled.available()
        assert torch.equal(cascade.sosfilt(x, sos), expected)
    finally:
        build.library.cache_clear()
    assert capfd.readouterr() == ("", "")


@needs_compiler
def test_what_is_compiled_once_is_found_again(tmp_path):
    first = build.compiled(tmp_path / "new")
    before = first.stat().st_mtime_ns
    assert build.compiled(tmp_path / "new") == first and first.stat().st_mtime_ns == before
    assert list(first.parent.iterdir()) == [first]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_attack_release_agrees_for_any_number_of_rows_and_threads(rows, threads, tiers_agree):
    settings = torch.rand(2, rows, 1, 1, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    poles, u = 1.0 - 10.0 ** (-4.0 * settings), 10.0 * noise(rows, 1, 9001)
    tiers_agree(ballistics.attack_release, u, *poles, noise(rows, 1, 1, seed=1))
    tiers_agree(ballistics.attack_release, u.float(), *poles, rtol=1e-5)
    tiers_agree(ballistics.one_pole, u, poles[0])


@needs_compiler
def test_the_operator_of_attack_release_keeps_the_rules_of_torch():
    u, poles = noise(5, 100).requires_grad_(), torch.rand(3, 5, 1, dtype=torch.float64).requires_grad_()
    torch.library.opcheck(torch.ops.difffx.attack_release.default, (u, *poles.detach().unbind(), True))


COMPRESSORS = {
    "threshold_db": (-30.0, 0.0),
    "ratio": (1.0, 20.0),
    "attack_ms": (0.1, 30.0),
    "release_ms": (0.1, 300.0),
    "knee_db": (0.0, 12.0),
    "makeup_db": (-6.0, 12.0),
}


def compressor_settings(items: int, seed: int = 0) -> dict[str, Tensor]:
    """[B, 1, 1] each; the first item stands at the low end of every range: ratio 1, knee 0, ..."""
    u = torch.rand(6, items, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u[:, 0] = 0.0
    return {k: low + (high - low) * v for (k, (low, high)), v in zip(COMPRESSORS.items(), u, strict=True)}


def bursts(items: int, channels: int, samples: int, seed: int = 0) -> Tensor:
    """Loud, quiet, below the floor of the detector."""
    envelope = torch.tensor([0.5, 0.02, 1e-6]).repeat_interleave(max(samples // 7, 1))
    return noise(items, channels, samples, seed=seed) * envelope.repeat(3)[:samples]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("shape", [(1, 1, 5001), (5, 2, 3000), (8, 1, 2048), (2, 3, 1), (3, 1, 67)], ids=str)
def test_compressors_agree_in_sound_and_in_all_gradients(shape, threads, tiers_agree):
    x, settings = bursts(*shape), compressor_settings(shape[0])

    def run(x, *values):
        return dynamics.compressor(x, 44_100, **dict(zip(settings, values, strict=True)))

    tiers_agree(run, x, *settings.values(), rtol=1e-8)
    tiers_agree(run, x.float(), *(s.float() for s in settings.values()), rtol=1e-4)


@needs_compiler
@pytest.mark.parametrize("keys", [1, 3])
@pytest.mark.parametrize("lookahead", [0, 30])
def test_a_sidechain_agrees_in_sound_and_in_all_gradients(keys, lookahead, tiers_agree):
    x, key, settings = bursts(3, 2, 2000), bursts(3, keys, 2000, seed=1), compressor_settings(3)

    def run(x, key, *values):
        controls = dict(zip(settings, values, strict=True))
        return dynamics.compressor(x, 44_100, key=key, lookahead=lookahead, **controls)

    tiers_agree(run, x, key, *settings.values(), rtol=1e-8)


@needs_compiler
def test_the_gain_of_a_compressor_agrees_with_settings_shared_by_all_items(tiers_agree):
    x, settings = bursts(5, 2, 2000), {k: v[-1:] for k, v in compressor_settings(5).items()}
    del settings["makeup_db"]

    def run(x, *values):
        return dynamics.compressor_gain_db(x, 44_100, **dict(zip(settings, values, strict=True)))

    tiers_agree(run, x, *settings.values(), rtol=1e-8)


@needs_compiler
def test_channels_that_are_equally_loud_share_the_gradient(tiers_agree):
    x, settings = bursts(2, 1, 1000).repeat(1, 2, 1), compressor_settings(2)
    x[:, 1] *= -1.0
    tiers_agree(lambda x: dynamics.compressor(x, 44_100, **settings), x)


@needs_compiler
def test_simple_compressors_agree(tiers_agree):
    x, settings = bursts(4, 2, 3000), compressor_settings(4)
    settings["time_ms"] = settings.pop("attack_ms")
    del settings["release_ms"]

    def run(x, *values):
        return dynamics.simple_compressor(x, 44_100, **dict(zip(settings, values, strict=True)))

    tiers_agree(run, x, *settings.values(), rtol=1e-8)


@needs_compiler
def test_levels_are_right_from_the_floor_to_far_above_full_scale():
    level_db = torch.linspace(-100.0, 300.0, 4001, dtype=torch.float64)
    knobs = {
        k: torch.full((1, 1, 1), v, dtype=torch.float64)
        for k, v in dict(threshold_db=-200.0, ratio=2.0, attack_ms=1e-4, release_ms=1e-4, knee_db=0.0).items()
    }
    gain_db = dynamics.compressor_gain_db((10.0 ** (level_db / 20.0))[None, None], 44_100, **knobs)[0, 0]
    torch.testing.assert_close(gain_db, -0.5 * (level_db.clamp(min=-80.0) + 200.0), rtol=0.0, atol=1e-11)


@needs_compiler
def test_a_broken_item_of_a_compressor_leaves_the_others_alone():
    x, settings = bursts(3, 2, 900), compressor_settings(3, seed=1)
    clean = dynamics.compressor(x, 44_100, **settings)
    x[1, 1, 400] = torch.nan
    y = dynamics.compressor(x, 44_100, **settings)
    assert y[1, :, 400:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]]) and torch.equal(y[1, :, :400], clean[1, :, :400])


@needs_compiler
def test_the_operator_of_the_compressor_keeps_the_rules_of_torch():
    settings = torch.tensor([[-20.0, 0.75, 6.0, 0.9, 0.99, 3.0]], dtype=torch.float64).repeat(3, 1)
    for x, itself in ((noise(3, 2, 100), False), (None, True), (None, False)):
        inputs = noise(3, 1, 100, seed=1), x, settings.clone(), -80.0, itself, True
        torch.library.opcheck(torch.ops.difffx.compress.default, inputs)


def sweep(items: int, samples: int, seed: int = 0) -> Tensor:
    """log tan(pi f / sample rate) from 0.0005 to 0.45 of it, and back in jumps. [B, 1, T]"""
    u = torch.rand(items, 1, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    slow = (0.5 - 0.5 * torch.cos(torch.linspace(0.0, 20.0, samples, dtype=torch.float64))) * u[..., :1]
    return torch.log(torch.tan(torch.pi * 0.0005 * 900.0 ** (0.9 * slow + 0.1 * u)))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("shape", [(1, 1, 3000), (3, 2, 1001), (5, 1, 64), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("stages", [1, 4, 7])
def test_a_chain_of_all_passes_agrees_in_sound_and_all_gradients(shape, stages, threads, tiers_agree):
    x, log_g = noise(*shape), sweep(shape[0], shape[2])
    feedback = torch.linspace(-0.9, 0.95, shape[0], dtype=torch.float64).view(-1, 1, 1)
    tiers_agree(lambda *inputs: phaser.all_pass_chain(*inputs[:2], stages, inputs[2]), x, log_g, feedback)
    tiers_agree(lambda *inputs: phaser.all_pass_chain(*inputs, stages), x, log_g[:1])
    tiers_agree(lambda *inputs: phaser.all_pass_chain(*inputs, stages), x.float(), log_g, rtol=1e-5)


@needs_compiler
def test_the_operator_of_all_passes_keeps_the_rules_of_torch():
    x, log_g = noise(3, 2, 100), sweep(3, 100)
    inputs = x.requires_grad_(), log_g, noise(3, 1, 1).tanh(), 3, True
    torch.library.opcheck(torch.ops.difffx.all_pass_chain.default, inputs)


def network(items: int, lines: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """An orthogonal feedback, all else at random: matrix [B, N + C', N + C] and stable filters [B, N, 3]."""
    matrix, pole = (
        noise(items, lines + outputs, lines + inputs, seed=1),
        0.95 * noise(items, lines, seed=2).tanh(),
    )
    matrix[:, :lines, :lines] = torch.linalg.qr(matrix[:, :lines, :lines])[0]
    return matrix, torch.stack((0.6 * (1 - pole.abs()), 0.39 * (1 - pole.abs()), pole), -1)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("shape", [(1, 1, 6001), (3, 2, 2000), (5, 1, 64), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("delays", [[1], [31, 33, 70], [7, 101, 113, 139, 157, 5000]], ids=str)
def test_a_delay_network_agrees_in_sound_and_all_gradients(shape, delays, threads, tiers_agree):
    x, (matrix, filters) = noise(*shape), network(shape[0], len(delays), shape[1], 2)

    def run(*inputs):
        return delay_network(*inputs, delays)

    tiers_agree(run, x, matrix, filters)
    tiers_agree(run, x, matrix[:1], filters[:1])
    tiers_agree(run, x.float(), matrix, filters, rtol=1e-4)


@needs_compiler
def test_a_broken_item_of_a_delay_network_leaves_the_others_alone():
    x, (matrix, filters) = noise(3, 1, 900), network(3, 2, 1, 1)
    clean = delay_network(x, matrix, filters, [7, 11])
    x[1, 0, 300] = torch.nan
    y = delay_network(x, matrix, filters, [7, 11])
    assert y[1, 0, 320:].isnan().all() and torch.equal(y[[0, 2]], clean[[0, 2]])


@needs_compiler
def test_the_operator_of_the_delay_network_keeps_the_rules_of_torch():
    inputs = (t.requires_grad_() for t in (noise(3, 2, 100), *network(3, 2, 2, 1)))
    torch.library.opcheck(torch.ops.difffx.delay_network.default, (*inputs, [7, 11], True))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("shape", [(1, 1, 20_000), (3, 2, 1001), (5, 1, 64), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("interpolation", ["lagrange", "linear"])
def test_a_moving_delay_agrees_in_sound_and_both_gradients(shape, interpolation, threads, tiers_agree):
    x = noise(*shape)
    # below 0, below 1, at whole samples, and longer than the sound
    delay = 40.0 * noise(*shape, seed=1).abs() - 1.0
    delay[..., ::5], delay[..., 7::11] = delay[..., ::5].round(), 2.0 * shape[2] + 1.0

    def run(x, delay):
        return delays.fractional_delay(x, delay, interpolation)

    for by in (
        delay,
        delay[:1],
        delay[:, :1],
        delay[:1, :1],
        delay[..., 3:4].expand(shape) if shape[2] > 3 else delay,
    ):
        tiers_agree(run, x, by)
    tiers_agree(run, x.float(), delay, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_delay_that_is_no_number_spoils_its_own_sample_alone(broken):
    x, delay = noise(2, 1, 900), 30.0 * noise(2, 1, 900, seed=1).abs()
    clean = delays.fractional_delay(x, delay)
    delay[1, 0, 400] = broken
    y = delays.fractional_delay(x, delay)
    assert y[1, 0, 400].isnan()
    clean[1, 0, 400] = y[1, 0, 400] = 0.0
    assert torch.equal(y, clean)


@needs_compiler
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["signal", "delay"])
def test_the_operator_of_delay_lines_keeps_the_rules_of_torch(needs):
    x, delay = noise(3, 2, 100), 9.0 * noise(3, 1, 100, seed=1).abs()
    inputs = x.requires_grad_(needs[0]), delay.requires_grad_(needs[1]), 4
    torch.library.opcheck(torch.ops.difffx.delay_line.default, inputs)
