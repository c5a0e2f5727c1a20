"""Every processor with its knobs: python scripts/list_processors.py [--markdown]."""

from __future__ import annotations

import argparse
import re
from inspect import signature

from rich.console import Console
from rich.table import Table

from difffx import processors
from difffx.params import Param
from difffx.processors import HybridProxy, NeuralProxy, Processor

HEADER = ("processor", "knob", "range", "default", "what it does")


def described() -> list[tuple[str, str, list[Param], str, str]]:
    """(family, name, knobs, what other knobs there are, first line of the docstring) of every effect."""
    found = []
    for name in processors.__all__:
        kind = getattr(processors, name)
        if kind is Processor:
            continue
        proxy = issubclass(kind, NeuralProxy | HybridProxy)
        combines = not proxy and "sample_rate" not in signature(kind).parameters
        params = kind.params if proxy or combines else kind(44_100).params
        others = "those of its target" if proxy else "those of what it holds" if combines else ""
        first = (kind.__doc__ or "").strip().splitlines()[0]
        found.append((kind.__module__.rpartition(".")[2], name, list(params), others, first))
    return sorted(found, key=lambda row: row[:2])


def rows() -> list[tuple[str, ...]]:
    """One row a knob; the name and the first line of the docstring on the first."""
    found = []
    for _, name, params, others, first in described():
        knobs = [(label(p), span(p), default(p)) for p in params] + [(others, "", "")] * bool(others)
        knobs = knobs or [("none", "", "")]
        found += [(name, *knobs[0], first), *(("", *knob, "") for knob in knobs[1:])]
    return found


def label(param: Param) -> str:
    return param.name + (f" x {param.size}" if param.size > 1 else "")


def span(param: Param) -> str:
    return f"{param.low:g}..{param.high:g} {param.unit}".rstrip() + (" (log)" if param.scale == "log" else "")


def default(param: Param) -> str:
    return f"{param.default:g}" if isinstance(param.default, float) else "identity"


def markdown() -> str:
    """The table of README: one row an effect, family by family."""
    lines, before = ["| effect | knobs | what it does |", "|---|---|---|"], ""
    for family, name, params, others, first in described():
        if family != before:
            lines.append(f"| *{family}* | | |")
        knobs = [*alike(params), *[others] * bool(others)]
        lines.append(f"| {name} | {', '.join(knobs)} | {first} |")
        before = family
    return "\n".join(lines)


def alike(params: list[Param]) -> list[str]:
    """Knobs with their ranges; those that differ in a number alone are one: band_1..3_width 0..2."""
    groups: dict[tuple[str, str], list[Param]] = {}
    for p in params:
        groups.setdefault((re.sub(r"_\d+_", "_#_", label(p)), f"{p.low:g}..{p.high:g}"), []).append(p)
    found = []
    for (name, limits), group in groups.items():
        numbers = re.findall(r"_(\d+)_", " ".join(p.name for p in group))
        ends = dict.fromkeys((numbers[0], numbers[-1])) if numbers else ()
        found.append(f"{name.replace('#', '..'.join(ends))} {limits}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="as it stands in README.md")
    if parser.parse_args().markdown:
        print(markdown())
        return
    table = Table(*HEADER)
    for row in rows():
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
