"""What happens in a campaign and when: a pure function of its seed and size."""

from __future__ import annotations

import random
from dataclasses import dataclass

USERS = 24
SERVERS = ("", "a", "b")
STORM_S, CALM_S = 22.0, 14.0
"""Seconds in which a storm's faults begin and end, and seconds of calm after it, for the looks."""
PER_STORM = (6, 9)
GPU_SHARE = 0.6

PROCESSES = ("hub", "service", "idle", "proxy")
KINDS: tuple[tuple[str, int], ...] = (
    *((f"kill {name}", 3) for name in PROCESSES),
    *((f"stop {name}", 2) for name in PROCESSES),
    ("kill engine, sessions live", 2),
    ("kill engine, sessions end", 1),
    ("stop engine", 2),
    ("engine answers 500", 2),
    ("engine hangs", 2),
    ("container killed", 3),
    ("container removed", 3),
    ("container stopped", 2),
    ("container paused", 2),
    ("network taken from a session", 1),
    ("network down", 1),
    ("store locked", 2),
    ("store deleted", 1),
    ("store read-only", 1),
    ("store corrupt", 1),
    ("state disk full", 1),
    ("workspace disk full", 1),
    ("engine disk full", 1),
    ("claim lock held", 2),
    ("claim lock deleted", 2),
    ("card lost", 2),
    ("slices remade", 2),
    ("driver hangs", 1),
    ("clock ahead", 1),
    ("clock behind", 1),
)
"""Every fault, with how often it is drawn."""

APART: tuple[frozenset[str], ...] = (
    frozenset({"clock ahead", "clock behind"}),
    frozenset({"engine disk full", "kill engine, sessions live", "kill engine, sessions end"}),
)
"""Of which kinds a storm has one at most. There is one clock; and an engine that starts while its disk is
full forgets containers that run on, which none who asks the engine can know of."""
ENDS: tuple[tuple[str, int], ...] = (
    ("owner", 6),
    ("service", 2),
    ("admin", 2),
    ("exit", 3),
    ("memory", 2),
    ("kill", 2),
)
"""How a session ends when its time is over, with how often."""


@dataclass(frozen=True)
class Life:
    """One session: when it is asked for, as whom, how it behaves and how it ends. Times in seconds."""

    number: int
    at: float
    user: str
    server: str
    gpu: str
    lasts: float
    end: str
    code: int = 0
    boots: float = 0.0
    deaf: bool = False
    """Whether its server ignores the request to end."""

    @property
    def project(self) -> str:
        """A project of its own for each server, so that files have one writer."""
        return f"p-{self.server or 'main'}"


@dataclass(frozen=True)
class Fault:
    """``chance`` picks the victim among those that are there when it begins."""

    number: int
    storm: int
    at: float
    kind: str
    lasts: float
    chance: float


@dataclass(frozen=True)
class Storm:
    """A time of faults, and the calm after it in which everything is looked at."""

    number: int
    begins: float
    faults: tuple[Fault, ...]

    @property
    def ends(self) -> float:
        """When the last fault is over."""
        return max(f.at + f.lasts for f in self.faults)


@dataclass(frozen=True)
class Plan:
    """A whole campaign."""

    seed: int
    lives: tuple[Life, ...]
    storms: tuple[Storm, ...]

    @property
    def faults(self) -> int:
        """How many faults there are."""
        return sum(len(s.faults) for s in self.storms)


def make(seed: int, minutes: float, lives_a_minute: float = 40, kinds: tuple[str, ...] = ()) -> Plan:
    """The plan for a seed; a longer one with the same seed begins like a shorter one."""
    storms = _storms(random.Random(f"storms {seed}"), minutes * 60, kinds)
    lives = _lives(random.Random(f"lives {seed}"), minutes * 60, lives_a_minute)
    return Plan(seed, lives, storms)


def _storms(chance: random.Random, seconds: float, kinds: tuple[str, ...]) -> tuple[Storm, ...]:
    chosen = [(k, w) for k, w in KINDS if not kinds or k in kinds]
    bag: list[str] = []
    storms: list[Storm] = []
    begins, number = 6.0, 0
    while begins + STORM_S + CALM_S <= seconds:
        faults = []
        for _ in range(chance.randint(*PER_STORM)):
            if not bag:  # every kind comes up in its share, whatever the seed
                bag = [k for k, weight in chosen for _ in range(weight)]
                chance.shuffle(bag)
            kind = bag.pop()
            if any(kind in apart and any(f.kind in apart for f in faults) for apart in APART):
                continue
            lasts = round(chance.uniform(2, 8), 1)
            at = round(begins + chance.uniform(0, STORM_S - lasts), 1)
            faults.append(Fault(number, len(storms), at, kind, lasts, chance.random()))
            number += 1
        faults.sort(key=lambda f: f.at)
        storms.append(Storm(len(storms), begins, tuple(faults)))
        begins += STORM_S + CALM_S
    return tuple(storms)


def _lives(chance: random.Random, seconds: float, a_minute: float) -> tuple[Life, ...]:
    """People ask in bursts; a server that is still in use at that time is simply asked for again."""
    lives: list[Life] = []
    now = 1.0
    while now < seconds - 5:
        burst = min(1 + int(chance.expovariate(1 / 4)), 12)
        for _ in range(burst):
            end = _draw(chance, ENDS)
            lives.append(
                Life(
                    number=len(lives),
                    at=round(now + chance.uniform(0, 1.5), 2),
                    user=f"u{chance.randrange(USERS):02d}",
                    server=chance.choice(SERVERS),
                    gpu="1g.10gb" if chance.random() < GPU_SHARE else "none",
                    lasts=round(min(0.5 + chance.expovariate(1 / 7), 40), 1),
                    end=end,
                    code=chance.randint(1, 120) if end == "exit" else 0,
                    boots=round(chance.uniform(2, 6), 1) if chance.random() < 0.06 else 0.0,
                    deaf=chance.random() < 0.05,
                )
            )
        now += burst * 60 / a_minute * chance.uniform(0.6, 1.4)
    return tuple(lives)


def _draw(chance: random.Random, weighted: tuple[tuple[str, int], ...]) -> str:
    return chance.choices([k for k, _ in weighted], [w for _, w in weighted])[0]


def show(plan: Plan) -> str:
    """A plan for people: what begins when."""
    faults = [(f.at, f"{f.kind} for {f.lasts:g} s") for s in plan.storms for f in s.faults]
    lives = [(v.at, f"{v.user}/{v.server} {v.gpu} for {v.lasts:g} s, ends by {v.end}") for v in plan.lives]
    return "\n".join(f"{at:8.2f} {text}" for at, text in sorted(faults + lives))
