"""Players: each reads the score and returns its track, [T] float32 of RMS about 1 while it plays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, lfilter

from difffx.data import instruments as ins
from difffx.data.instruments import HOP, Studio, add, db, note_hz, unit_rms
from difffx.data.score import Score, lengths, melody, near, rhythm

# chance of a hit, in ninths, on each of 16 steps
GROOVES = {
    "rock": "kick 9000006090300000 snare 0000900000009001 hat 9090909090909090 cymbal 1000000000000000",
    "four": "kick 9000900090009000 clap 0000900000009000 hat 5353535353535353 open_hat 0080008000800080",
    "hiphop": "kick 9002000600960010 snare 0000900100009002 hat 9494949494949699 perc 0010001000100010",
    "break": "kick 9090000000930000 snare 0000900302009004 hat 9090909090909090 open_hat 0000000000300000",
    "latin": "kick 9002900290029002 perc 9009009000909000 shaker 9494949494949494 tom 0000001000000033",
    "half": "kick 9000000000600000 snare 0000000090000000 cymbal 3000300030003000 tom 0000000000000032",
    "metal": "kick 9999999999999999 snare 0000900000009000 cymbal 9000900090009000 tom 0000000000000022",
    "jazz": "kick 3000300030003000 snare 0020003000020030 hat 0000900000009000 cymbal 9000900690009006",
    "sparse": "kick 8000000030000000 perc 5003002000501000 clap 0000000020000000 shaker 6000600060006000",
}


def drums(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """A kit and a groove; levels of the drums differ from kit to kit, strokes from hit to hit."""
    out = np.zeros(score.length, np.float32)
    names = list(GROOVES)
    words = GROOVES[names[rng.integers(len(names))]].split()
    groove = dict(zip(words[::2], words[1::2], strict=True))
    extra = ins.DRUMS[rng.integers(len(ins.DRUMS))]
    groove.setdefault(extra, "".join(str(d) for d in rng.integers(0, 10, 16) * (rng.random(16) < 0.25)))
    usual = {
        "kick": 0,
        "snare": -1,
        "clap": -6,
        "hat": -15,
        "open_hat": -15,
        "tom": -4,
        "perc": -10,
        "shaker": -17,
        "cymbal": -15,
    }
    human = rng.uniform(0.0, 0.008) * here.sample_rate
    for kind, pattern in groove.items():
        if kind not in ("kick", "snare") and rng.random() < 0.2:
            continue
        shot = here.drums[kind][rng.integers(ins.SHOTS)]
        level, dynamics = usual[kind] + rng.normal(0.0, 4.0), rng.uniform(0.5, 5.0)
        chance = np.array([int(c) / 9.0 for c in pattern])[score.places % 16]
        for i in np.flatnonzero(rng.random(len(chance)) < chance):
            stroke = -dynamics * rng.random() - (4.0 if score.places[i] % 2 else 0.0)
            add(out, shot, int(score.steps[i] + human * rng.standard_normal()), db(level + stroke))
    return out


def bass(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Fingered, picked or synthetic; roots, fifths and octaves."""
    out = np.zeros(score.length, np.float32)
    kind = rng.integers(4)
    tone = ins.timbre(
        rng,
        ((0.7, 1.3), (0.5, 1.0), (0.9, 1.1), (1.2, 2.4))[kind],
        ((250.0, 1200.0), (600.0, 3500.0), (200.0, 2500.0), (100.0, 500.0))[kind],
        pluck=(rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.2), 0.0, 0.0)[kind],
    )
    center, darker = rng.uniform(26.0, 39.0), rng.uniform(1.5, 8.0)
    decay, gate = np.exp(rng.uniform(np.log(0.15), np.log(4.0))), rng.uniform(0.3, 1.0)
    hits = rhythm(rng, score, rng.uniform(0.2, 0.9))
    made: dict[int, list[np.ndarray]] = {}
    for i, room in zip(hits, lengths(hits, score), strict=True):
        chord = score.chords[score.bars[i]]
        pick = rng.random()
        midi = near(chord[0], center) + (12 if pick > 0.9 else 0)
        midi = near(chord[-1], center) if 0.75 < pick < 0.85 else midi
        if midi not in made:
            made[midi] = ins.tables(rng, tone, note_hz(midi), here.sample_rate, darker)
        add(
            out,
            pluck_note(rng, made[midi], note_hz(midi), room * gate / here.sample_rate, decay, here),
            int(score.steps[i]),
            db(-rng.uniform(0, 4)),
        )
    return out


def pluck_note(
    rng: np.random.Generator, pair: list[np.ndarray], hz: float, seconds: float, decay: float, here: Studio
) -> np.ndarray:
    """A note that begins bright and ends dark."""
    seconds = min(seconds, 3.0 * decay + 0.1)
    t = ins.block_times(int((seconds + 0.03) * here.sample_rate), here.sample_rate)
    place = ins.phase_steps(np.full(len(t) - 1, hz), here.sample_rate)
    bright = ins.at_audio_rate(ins.envelope(t, 0.002, 0.25 * decay, seconds, 0.03))
    dark = ins.at_audio_rate(ins.envelope(t, 0.003, decay, seconds, 0.03))
    return bright * pair[0].take(place) + dark * pair[1].take(place)


def strummed(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Guitar, piano, electric piano, harp, bells: chords struck in a rhythm, or broken into single notes."""
    out = np.zeros(score.length, np.float32)
    stretch = rng.choice([0.0, 2e-4, 6e-4, 3e-3])
    pluck = rng.uniform(0.05, 0.3) * (rng.random() < 0.7)
    tone = ins.timbre(rng, (0.1, 1.1), (800.0, 6000.0), pluck=pluck, stretch=stretch)
    decay = np.exp(rng.uniform(np.log(0.12), np.log(2.0)))
    center, voices = rng.uniform(50.0, 70.0), int(rng.integers(3, 7))
    broken, longest = rng.random() < 0.35, here.loop_length / here.sample_rate - 0.1
    hits = rhythm(rng, score, rng.uniform(0.1, 0.65))
    made: dict[tuple[int, ...], list[np.ndarray]] = {}
    for i, room in zip(hits, lengths(hits, score), strict=True):
        chord = score.chords[score.bars[i]]
        notes = sorted(near(chord[v % len(chord)], center + 5.0 * (v - voices / 2)) for v in range(voices))
        notes = [notes[int(rng.integers(voices))]] if broken else notes
        key = tuple(notes)
        if key not in made:
            made[key] = [ins.loop(rng, tone, notes, here, 1 + (stretch > 0), 3e-4, d) for d in (1.0, 4.0)]
        seconds = min(longest, 2.5 * decay, longest if broken else room / here.sample_rate)
        t = ins.block_times(int((seconds + 0.06) * here.sample_rate), here.sample_rate)
        bright = ins.at_audio_rate(ins.envelope(t, 0.001, 0.3 * decay, seconds, 0.06))
        dark = ins.at_audio_rate(ins.envelope(t, 0.002, decay, seconds, 0.06))
        sound = bright * made[key][0][: len(bright)] + dark * made[key][1][: len(bright)]
        add(out, sound, int(score.steps[i]), db(-rng.uniform(0.0, 6.0)))
    return out


def sustained(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Strings, winds, organ, choir, synthetic pads: chords held for a bar, swelling or not."""
    out = np.zeros(score.length, np.float32)
    kind = rng.integers(4)
    spread = (
        rng.uniform(0.001, 0.005),
        rng.uniform(0.0, 4e-4),
        rng.uniform(0.002, 0.01),
        rng.uniform(5e-4, 3e-3),
    )[kind]
    tone = ins.timbre(rng, ((0.3, 1.2), (0.1, 1.2), (0.4, 1.4), (0.5, 1.6))[kind], (800.0, 5500.0))
    center, voices = rng.uniform(54.0, 74.0), int(rng.integers(3, 6))
    attack, release = (rng.uniform(0.03, 0.4), 0.3) if kind != 1 else (0.02, 0.06)
    low = rng.random() < 0.35  # with the basses or the pedal
    made: dict[tuple[int, ...], np.ndarray] = {}
    for start, chord in score.bar_starts():
        span = int(score.per_bar * score.step)
        if start + span + release * here.sample_rate < 0 or start > score.length:
            continue
        key = tuple(chord)
        if key not in made:
            notes = [near(chord[v % len(chord)], center + 5.5 * (v - voices / 2)) for v in range(voices)]
            made[key] = ins.loop(rng, tone, notes + [near(chord[0], 38.0)] * low, here, 6, spread)
        begin = max(start, 0)  # what lies before the segment is not made
        t = ins.block_times(
            min(span, score.length - start) + int(release * here.sample_rate), here.sample_rate
        )
        curve = ins.envelope(t, attack, 1e9, span / here.sample_rate, release)
        curve = curve * db(1.0) ** (
            rng.uniform(-7.0, 3.0) * np.sin(np.pi * np.clip(t * here.sample_rate / span, 0, 1))
        )
        skip = (begin - start) // HOP
        sound = ins.at_audio_rate(curve[skip:])
        add(out, sound * np.resize(made[key], len(sound)), start + skip * HOP, 1.0)
    return out


def lead(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """One voice in front: synthesizer, flute, violin, trumpet, saxophone, with vibrato and glides."""
    out = np.zeros(score.length, np.float32)
    tone = ins.timbre(rng, (0.5, 1.8), (700.0, 6000.0), even=rng.choice([0.05, 0.5, 1.0, 1.0]))
    center, rate = rng.uniform(52.0, 72.0), here.sample_rate
    vibrato, speed, attack = (
        rng.uniform(0.0, 0.5) * (rng.random() < 0.7),
        rng.uniform(4.5, 6.5),
        np.exp(rng.uniform(np.log(0.004), np.log(0.12))),
    )
    breath = db(rng.uniform(-45.0, -20.0))
    made: dict[float, np.ndarray] = {}
    before = center
    for start, room, midi in melody(rng, score, center, rng.uniform(0.15, 0.7)):
        if start + room < 0:
            continue
        t = ins.block_times(room, rate)
        bend = (before - midi) * np.exp(-t / 0.025) * (abs(before - midi) < 4)
        bend = bend + vibrato * np.sin(2 * np.pi * speed * t) * np.clip(t / 0.4, 0, 1)
        if midi not in made:
            made[midi] = ins.tables(rng, tone, note_hz(midi), rate, 1.0)[0]
        place = ins.phase_steps(note_hz(midi + bend[:-1]), rate)
        curve = ins.at_audio_rate(ins.envelope(t, attack, rng.uniform(0.3, 8.0), room / rate - 0.05, 0.05))
        sound = made[midi].take(place) + np.float32(breath) * here.slice_of("f", rng, len(place))
        add(out, curve * sound, start, db(-rng.uniform(0, 5)))
        before = midi
    return out


def distorted(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Electric guitar through a loud amplifier and its speaker: fifths, damped or held."""
    clean = np.zeros(score.length, np.float32)
    tone = ins.timbre(rng, (0.5, 1.1), (1500.0, 5000.0), pluck=rng.uniform(0.05, 0.2))
    center, damped = rng.uniform(40.0, 52.0), rng.random() < 0.4
    hits = rhythm(rng, score, rng.uniform(0.15, 1.0))
    made: dict[int, np.ndarray] = {}
    for i, room in zip(hits, lengths(hits, score), strict=True):
        root = near(score.chords[score.bars[i]][0], center)
        if root not in made:
            made[root] = ins.loop(rng, tone, [root, root + 7, root + 12], here, 1, 0.0)
        seconds = min(room / here.sample_rate, 2.5)
        t = ins.block_times(int((seconds + 0.02) * here.sample_rate), here.sample_rate)
        decay = 0.07 if damped and rng.random() < 0.8 else 2.0
        curve = ins.at_audio_rate(ins.envelope(t, 0.001, decay, seconds, 0.02))
        add(clean, curve * np.resize(made[root], len(curve)), int(score.steps[i]), 1.0)
    bias = rng.uniform(0.0, 0.3)
    driven = np.tanh(db(rng.uniform(3.0, 26.0)) * clean + np.float32(bias)) - np.float32(np.tanh(bias))
    nyquist = here.sample_rate / 2.0
    cabinet = (
        butter(3, min(0.9, rng.uniform(3000.0, 6000.0) / nyquist)),
        butter(1, rng.uniform(70.0, 160.0) / nyquist, "high"),
    )
    for b, a in cabinet:
        driven = lfilter(b.astype(np.float32), a.astype(np.float32), driven)
    return driven


def sung(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Singing or rapping: the syllables of a tune."""
    high = rng.random() < 0.5
    center = rng.uniform(57.0, 69.0) if high else rng.uniform(45.0, 59.0)
    notes = melody(rng, score, center, rng.uniform(0.2, 0.8))
    return voice(
        rng,
        notes,
        rng.uniform(1.05, 1.25) if high else rng.uniform(0.9, 1.08),
        rng.uniform(0.1, 0.5),
        score.length,
        here,
    )


def spoken(rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """Speech: three to six syllables a second, a falling tune, pauses between the phrases."""
    rate, high = here.sample_rate, rng.random() < 0.5
    center, tempo = rng.uniform(52.0, 59.0) if high else rng.uniform(40.0, 49.0), rng.uniform(3.0, 6.0)
    now, notes, phrase = -rng.uniform(0.0, 0.5) * rate, [], 0
    while now < score.length:
        span = rate / tempo * rng.uniform(0.5, 1.7)
        notes.append((int(now), int(span), center + rng.normal(0.0, 1.6) - 0.35 * phrase))
        now, phrase = now + span, phrase + 1
        if phrase > 3 and rng.random() < 0.2:
            now, phrase = now + rate * rng.uniform(0.2, 0.7), 0
    return voice(
        rng, notes, rng.uniform(1.05, 1.25) if high else rng.uniform(0.9, 1.08), 0.0, score.length, here
    )


def voice(
    rng: np.random.Generator,
    notes: list[tuple[int, int, float]],
    tract: float,
    vibrato: float,
    length: int,
    here: Studio,
) -> np.ndarray:
    """Glottal pulses through gliding formants, with consonants of noise before many syllables."""
    out, rate = np.zeros(length, np.float32), here.sample_rate
    effort, speed = rng.uniform(0.5, 1.5), rng.uniform(4.8, 6.3)
    breath, hissing, jitter = db(rng.uniform(-38.0, -20.0)), rng.normal(-13.0, 5.0), rng.uniform(0.02, 0.15)
    before = notes[0][2]
    for start, room, midi in notes:
        if start + room < 0 or start > length:
            continue
        t = ins.block_times(room, rate)
        bend = (before - midi) * np.exp(-t / 0.04) + jitter * lfilter(
            [0.3], [1, -0.95], rng.standard_normal(len(t))
        )
        bend = bend + vibrato * np.sin(2 * np.pi * speed * t) * np.clip((t - 0.15) / 0.3, 0, 1)
        first, last = ins.voice_tables(rng, note_hz(midi), tract, effort, rate)
        place = ins.phase_steps(note_hz(midi + bend[:-1]), rate)
        glide = ins.at_audio_rate(np.clip((t / t[-1] - rng.uniform(0, 0.5)) * 3.0, 0.0, 1.0))
        sound = first.take(place) * (1.0 - glide) + last.take(place) * glide
        sound += np.float32(breath) * here.slice_of("h", rng, len(sound))
        seconds = room / rate
        curve = ins.at_audio_rate(ins.envelope(t, rng.uniform(0.01, 0.04), 3.0, seconds - 0.06, 0.06))
        add(out, sound * curve, start, db(-rng.uniform(0.0, 6.0)))
        if rng.random() < 0.6:
            kind = ("s", "sh", "f", "h", "f", "sh", "s")[rng.integers(7)]
            stop = rng.random() < 0.5
            span = rng.uniform(0.01, 0.035) if stop else rng.uniform(0.05, 0.13)
            tc = ins.block_times(int(span * rate), rate)
            burst = ins.envelope(tc, 0.002 if stop else 0.03, 0.02 if stop else 1.0, 0.8 * span, 0.2 * span)
            level = hissing + rng.normal(0.0, 4.0) + (3.0 if stop else 0.0)
            add(
                out,
                ins.at_audio_rate(burst) * here.slice_of(kind, rng, (len(tc) - 1) * HOP),
                start - int(0.7 * span * rate),
                db(level),
            )
        before = midi
    return out


Player = Callable[[np.random.Generator, Score, Studio], np.ndarray]
PLAYERS: dict[str, Player] = {
    "drums": drums, "bass": bass, "strummed": strummed, "sustained": sustained, "lead": lead,
    "distorted": distorted, "sung": sung, "spoken": spoken,
}  # fmt: skip


def play(name: str, rng: np.random.Generator, score: Score, here: Studio) -> np.ndarray:
    """A player's track at RMS 1; silence where it rests for the whole segment."""
    track = PLAYERS[name](rng, score, here)
    level = np.sqrt(np.mean(np.square(track)))
    return unit_rms(track) if level > 1e-6 else track
