"""``ds01 simulate``: what each placement strategy would cost on a machine like this."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from ..placement import load_simulator
from ..placement.devices import Inventory
from ..placement.strategies import STRATEGIES
from .common import Json, console, emit, refuse, table


class Comparison(TypedDict):
    """The document of ``--json``. Shares are fractions of one."""

    load: float
    seeds: int
    arrivals: int
    devices: int
    rules: dict[str, dict[str, float]]
    offline_bound: dict[str, float]
    """What a strategy that knows the future would have to refuse at least."""


def compare(
    inventory: Inventory, load: float, seeds: int, arrivals: int = load_simulator.ARRIVALS
) -> Comparison:
    """Every strategy over the same arrivals."""
    runs = [load_simulator.arrivals(len(inventory.devices), load, seed, arrivals) for seed in range(seeds)]
    rules = {
        name: asdict(load_simulator.mean([load_simulator.simulate(inventory, key, run) for run in runs]))
        for name, key in STRATEGIES.items()
    }
    bound = sum(load_simulator.offline_bound(inventory, run) for run in runs) / len(runs)
    return {
        "load": load,
        "seeds": seeds,
        "arrivals": arrivals,
        "devices": len(inventory.devices),
        "rules": {name: {k: round(v, 5) for k, v in numbers.items()} for name, numbers in rules.items()},
        "offline_bound": {"refused": round(bound, 5)},
    }


def simulate(
    load: Annotated[
        float, typer.Option(help="Sessions wanted at a time, as a share of the devices.", min=0.01, max=5)
    ] = load_simulator.LOAD,
    seeds: Annotated[int, typer.Option(help="How many random histories to average over.", min=1)] = (
        load_simulator.SEEDS
    ),
    arrivals: Annotated[
        int, typer.Option(help="Sessions in each history.", min=100)
    ] = load_simulator.ARRIVALS,
    inventory: Annotated[
        Path | None, typer.Option(help="A YAML inventory to use instead of four 80 GB cards.")
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Compare the rules of the queue instead.")] = False,
    full: Annotated[bool, typer.Option("--full", help="With --queue: every load from 0.55 to 0.95.")] = False,
    chart: Annotated[Path | None, typer.Option(help="With --queue: write an SVG chart.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the placement strategies on random load: refusals, and those a better choice would avoid."""
    if queue:
        from . import simulate_queue as waiting

        found = waiting.report(full)
        if chart is not None:
            chart.write_text(waiting.chart(found))
        emit(found, as_json, waiting.print_report)
        return
    layout = load_simulator.reference_layout()
    if inventory is not None:
        from ..gpu.simulated import read_simulated

        layout = read_simulated(inventory).inventory
    if not layout.devices:
        refuse("The inventory has no devices to simulate.", as_json)
    emit(compare(layout, load, seeds, arrivals), as_json, _show)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def _show(found: Comparison) -> None:
    rows = [
        (
            name,
            f"{numbers['refused']:.1%}",
            f"{numbers['avoidable']:.1%}",
            f"{numbers['big_refused']:.1%}",
            f"{numbers['wasted_gib']:.1f}",
            f"{numbers['idle_cards']:.2f}",
        )
        for name, numbers in found["rules"].items()
    ]
    rows.append(("offline bound", f"≥ {found['offline_bound']['refused']:.1%}", "", "", "", ""))
    table(("strategy", "refused", "avoidable", "≥ 40 GiB refused", "GiB wasted", "idle cards"), rows)
    console.print(
        f"{found['devices']} devices, load {found['load']:g}, "
        f"{found['arrivals']} sessions × {found['seeds']} histories",
        markup=False,
    )
