"""A run that saves its state after every epoch and goes on from there."""

import argparse
import json
import os
from pathlib import Path

CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "last.json"


def load() -> dict:
    """The state of the last run, or that of a new one."""
    return json.loads(CHECKPOINT.read_text()) if CHECKPOINT.exists() else {"epoch": 0, "weight": 0.0}


def save(state: dict) -> None:
    """Write the state whole or not at all: a run can end at any moment."""
    temporary = CHECKPOINT.with_suffix(".tmp")
    temporary.write_text(json.dumps(state))
    os.replace(temporary, CHECKPOINT)


def step(state: dict) -> dict:
    """One epoch: here, a step towards 1."""
    return {"epoch": state["epoch"] + 1, "weight": state["weight"] + 0.1 * (1 - state["weight"])}


def main() -> None:
    """Train up to the epoch that is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    wanted = parser.parse_args().epochs
    state = load()
    if state["epoch"]:
        print(f"going on after epoch {state['epoch']}")
    while state["epoch"] < wanted:
        state = step(state)
        save(state)
        print(f"epoch {state['epoch']}: weight {state['weight']:.3f}", flush=True)


if __name__ == "__main__":
    main()
