"""Every processor with its knobs: python scripts/list_processors.py [--markdown]."""

from __future__ import annotations

import argparse
from inspect import signature

from rich.console import Console
from rich.table import Table

from difffx import processors
from difffx.params import Param
from difffx.processors import HybridProxy, NeuralProxy, Processor

HEADER = ("processor", "knob", "range", "default", "what it does")


def rows() -> list[tuple[str, ...]]:
    """One row a knob; the name and the first line of the docstring on the first."""
    found = []
    for name in processors.__all__:
        kind = getattr(processors, name)
        if kind is Processor:
            continue
        proxy = issubclass(kind, NeuralProxy | HybridProxy)
        combines = not proxy and "sample_rate" not in signature(kind).parameters
        params = kind.params if proxy or combines else kind(44_100).params
        knobs = [(p.name + (f" x {p.size}" if p.size > 1 else ""), span(p), default(p)) for p in params]
        knobs += [("those of what it holds", "", "")] if combines else []
        knobs = knobs or [("those of its target" if proxy else "none", "", "")]
        first = (kind.__doc__ or "").strip().splitlines()[0]
        found += [(name, *knobs[0], first), *(("", *knob, "") for knob in knobs[1:])]
    return found


def span(param: Param) -> str:
    return f"{param.low:g}..{param.high:g} {param.unit}".rstrip() + (" (log)" if param.scale == "log" else "")


def default(param: Param) -> str:
    return f"{param.default:g}" if isinstance(param.default, float) else "identity"


def markdown() -> str:
    """The table of README."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows()])


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
