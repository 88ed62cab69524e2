"""Starts take turns: a machine boots a few sessions at a time, in the order in which people asked.

Sixty sessions that boot side by side are all ready at the end; a few at a time, the first is ready at once
and the last no later. A start holds its turn from before its container runs until its server answers. It has
its devices already then: a start that cannot get one is told at once, and none overtakes by booting faster.

What comes before takes turns as well: the hub's own work on a request one at a time (`Turns.arrive`), then
checks, image and project a few at a time. Otherwise the first would boot only when all sixty are through
with theirs, and the hub would answer no request meanwhile.

Lives on the hub's event loop; nothing here blocks or may be called from a thread.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from ..core.lag import Lag, watch
from .pace import Pace

PER_CPU = 1.5
"""Boots at once for each processor: it computes most of the time, and waits for disk the rest."""
MOST_PER_CPU = 2
PATIENCE_S = 1.0
"""So long a start that is ready waits for one that was asked for before it and still prepares."""
PREPARES_S = 5.0
"""A start that prepares longer (an image is fetched, say) is not waited for."""
HOLDS_S = 60.0
"""A start that boots longer is let be, and the next one goes: one that never answers holds up no other."""
ARRIVES_S = 0.05
"""Between two requests that the hub goes on with: more than it computes for one, so others get an answer."""
PREPARE_AT_ONCE = 2
"""Starts that prepare side by side: most of it is short work in the hub's own process."""


def pace_for(cpus: int, fixed: int = 0) -> Pace:
    """The pace of a machine with ``cpus`` processors; ``fixed`` above 0 is exactly so many boots at once."""
    if fixed > 0:
        return Pace(fixed, least=fixed, most=fixed)
    cpus = max(1, cpus)
    return Pace(max(2, math.ceil(cpus * PER_CPU)), least=max(2, cpus), most=max(3, cpus * MOST_PER_CPU))


@dataclass(order=True)
class Turn:
    """One start's place. ``waited`` seconds were spent before its turn came (0 while it never waited)."""

    number: int
    _turns: Turns = field(compare=False, repr=False)
    _tell: Callable[[int], None] = field(compare=False, repr=False)
    _tell_desk: Callable[[int], None] = field(compare=False, repr=False)
    _came: asyncio.Future[None] | None = field(default=None, compare=False, repr=False)
    _asked_at: float | None = field(default=None, compare=False)
    _came_at: float | None = field(default=None, compare=False)
    _told: int = field(default=0, compare=False)
    _over: bool = field(default=False, compare=False)
    _late: float = field(default=0.0, compare=False)
    _desk_from: float | None = field(default=None, compare=False)
    _desk_at: float | None = field(default=None, compare=False)

    @property
    def waited(self) -> float:
        """Seconds waited so far for others: to prepare, and for the turn to come."""
        return self._between(self._desk_from, self._desk_at) + self._between(self._asked_at, self._came_at)

    @property
    def came(self) -> bool:
        """Whether the turn has come."""
        return self._came_at is not None

    @property
    def waiting(self) -> bool:
        """Whether it waits for others now."""
        booting = self._asked_at is not None and self._came_at is None
        return booting or (self._desk_from is not None and self._desk_at is None)

    def _between(self, begun: float | None, over: float | None) -> float:
        if begun is None:
            return 0.0
        return (self._turns.clock() if over is None else over) - begun

    async def prepare(self) -> None:
        """Return when this start may prepare. Cancelling gives the place up."""
        await self._turns._prepare(self)

    def aside(self) -> None:
        """Let others prepare meanwhile: what comes now takes long, and not the hub's processor time."""
        self._turns._prepared(self)

    async def come(self) -> None:
        """Return when the turn has come; at once when it has already. Cancelling gives the place up."""
        await self._turns._enter(self)

    def end(self, *, answered: bool = False) -> None:
        """Let the next one go. Idempotent, also for a turn that never came; ``answered`` teaches the pace."""
        self._turns._leave(self, answered)

    def tell(self, before: int) -> None:
        """Say how many starts are before this one, where that has changed."""
        if before != self._told:
            self._told = before
            (self._tell_desk if self._asked_at is None else self._tell)(before)


class Turns:
    """The line of one hub's starts; see the module's text."""

    def __init__(
        self, pace: Pace, clock: Callable[[], float] | None = None, lag: Callable[[], Lag] = watch
    ) -> None:
        """``clock`` counts seconds; the running loop's own by default. ``lag`` is that loop's."""
        self.pace = pace
        self._lag = lag
        self._clock = clock
        self._numbers = count()
        self._waiting: list[Turn] = []
        self._booting: set[int] = set()
        self._preparing: dict[int, float] = {}
        self._door = asyncio.Lock()
        self._next_arrival = 0.0
        self._desk = asyncio.Semaphore(PREPARE_AT_ONCE)
        self._before_desk: list[Turn] = []
        self._at_desk: dict[int, asyncio.TimerHandle] = {}
        self._rolling = False
        self._overdue: dict[int, asyncio.TimerHandle] = {}

    def clock(self) -> float:
        """Seconds, monotonic."""
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    @property
    def booting(self) -> int:
        """Starts whose turn it is."""
        return len(self._booting)

    @property
    def waiting(self) -> int:
        """Starts that wait for their turn."""
        return len(self._waiting)

    async def arrive(self) -> None:
        """Return when the hub may go on with a request; everything else on the loop is served in between.

        What the hub does for a start before it calls the spawner takes some hundredths of a second at a
        time. One start is not noticed; sixty in a row would stop the loop for seconds.
        """
        async with self._door:
            await asyncio.sleep(max(0.0, self._next_arrival - self.clock()))
            self._next_arrival = self.clock() + ARRIVES_S

    def draw(
        self,
        tell: Callable[[int], None] = lambda before: None,
        tell_desk: Callable[[int], None] = lambda before: None,
    ) -> Turn:
        """A number, drawn when a start is asked for: the order is that of asking, whoever prepares faster.

        ``tell_desk`` is called with the number of starts before this one while it waits to prepare, ``tell``
        while it waits to boot, whenever that changes.
        """
        turn = Turn(next(self._numbers), self, tell, tell_desk)
        self._preparing[turn.number] = self.clock()
        return turn

    async def _prepare(self, turn: Turn) -> None:
        if turn._over or turn._desk_from is not None:
            return
        turn._desk_from = self.clock()
        self._before_desk.append(turn)
        try:
            self._call_desk()
            await self._desk.acquire()
        finally:
            self._before_desk.remove(turn)
            self._call_desk()
        turn._desk_at = self.clock()
        if turn._over:
            self._desk.release()
            return
        later = asyncio.get_running_loop().call_later
        self._at_desk[turn.number] = later(PREPARES_S, self._prepared, turn)
        self._preparing[turn.number] = self.clock()

    def _call_desk(self) -> None:
        """Tell those who wait to prepare how many are before them."""
        if self._desk.locked():
            for before, turn in enumerate(self._before_desk, start=PREPARE_AT_ONCE):
                turn.tell(before)

    def _prepared(self, turn: Turn) -> None:
        """Let the next one prepare."""
        timer = self._at_desk.pop(turn.number, None)
        if timer is not None:
            timer.cancel()
            self._desk.release()

    async def _enter(self, turn: Turn) -> None:
        if turn._over or turn._came_at is not None:
            return
        self._prepared(turn)
        turn._asked_at, turn._told = self.clock(), 0
        self._preparing.pop(turn.number, None)
        turn._came = asyncio.get_running_loop().create_future()
        insort(self._waiting, turn)
        self._call()
        try:
            await turn._came
        except asyncio.CancelledError:
            self._leave(turn, False)
            raise

    def _leave(self, turn: Turn, answered: bool) -> None:
        if turn._over:
            return
        turn._over = True
        self._prepared(turn)
        self._preparing.pop(turn.number, None)
        if turn in self._waiting:
            self._waiting.remove(turn)
        if (timer := self._overdue.pop(turn.number, None)) is not None:
            timer.cancel()
        if turn.number in self._booting:
            self._booting.discard(turn.number)
            if answered and turn._came_at is not None:
                self._rolling = True
                self.pace.started(self.clock() - turn._came_at)
        self._call()

    def _call(self) -> None:
        """Let through whose turn it is, and tell the others how many are before them."""
        self._rolling = self._rolling and bool(self._booting or self._waiting)
        while self._waiting and self._room() > 0:
            if (patience := self._patience(self._waiting[0])) > 0:
                asyncio.get_running_loop().call_later(patience, self._call)
                break
            turn = self._waiting.pop(0)
            self._booting.add(turn.number)
            turn._came_at, turn._late = self.clock(), self._lag().behind
            later = asyncio.get_running_loop().call_later
            self._overdue[turn.number] = later(HOLDS_S, self._let_be, turn)
            if turn._came is not None and not turn._came.done():
                turn._came.set_result(None)
        for before, turn in enumerate(self._waiting, start=1):
            turn.tell(before)

    def _let_be(self, turn: Turn) -> None:
        self._overdue.pop(turn.number, None)
        behind = self._lag().behind
        if (late := behind - turn._late) > 1:
            # So long this process did not look whether it answers; more at once would only add to that.
            turn._late = behind
            self._overdue[turn.number] = asyncio.get_running_loop().call_later(late, self._let_be, turn)
            return
        self._booting.discard(turn.number)
        self._call()

    def _room(self) -> int:
        """How many more may boot. After a lull only as many as boot at full speed, until one answers: then
        people see soon that it goes on, and the machine is filled from there."""
        at_once = self.pace.free(len(self._booting))
        return at_once if self._rolling else min(at_once, self.pace.least - len(self._booting))

    def _patience(self, turn: Turn) -> float:
        """Seconds that this one waits at most for those before it who still prepare."""
        now = self.clock()
        if not any(n < turn.number and now - at < PREPARES_S for n, at in self._preparing.items()):
            return 0.0
        return PATIENCE_S - (now - (turn._asked_at or now))
