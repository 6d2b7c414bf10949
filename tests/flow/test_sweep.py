"""The sweep on a simulated clock: what it counts, what it ends, and what it leaves alone."""

import asyncio

from gateway.core.failback import Clearing, Flows, TunnelEnd
from gateway.core.instant import Mono
from gateway.flow.sweep import EVERY_S, Sweep
from tests.kit.clock import SimClock

PATHS = (("B81001", "gpc"), ("B81002", "gpc"))


class Backup:
    """A link's sender and its tunnels."""

    def __init__(self) -> None:
        self.idle = dict.fromkeys(PATHS, 2)
        self.old = 0
        self.sticky = False
        self.tunnels = 0
        self.resets: list[str] = []

    def trim(self, tenant: str, upstream: str, keep: int) -> int:
        were = self.idle[tenant, upstream]
        if not self.sticky:
            self.idle[tenant, upstream] = min(were, keep)
        return were

    def begun_before(self, at: Mono) -> int:
        return self.old

    def count(self, link: str | None = None) -> int:
        return self.tunnels

    def reset_link(self, link: str) -> int:
        self.resets.append(f"all on {link}")
        return self.tunnels

    def reset_idle(self, link: str, gap_s: float) -> int:
        self.resets.append(f"idle {gap_s} s on {link}")
        return 0


class Board:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.links: tuple[str, ...] = ("sim",)
        self.ends: TunnelEnd = "none"
        self.counted: list[Flows] = []

    def clearing(self) -> tuple[Clearing, ...]:
        return tuple(Clearing(link, Mono(0.0)) for link in self.links)

    def swept(self, link: str, flows: Flows) -> TunnelEnd:
        self.counted.append(flows)
        return self.ends


async def look(board: Board, backup: Backup, times: int, *, tunnels: bool = True) -> None:
    clock = SimClock()
    sweep = Sweep(board, {"sim": backup}, lambda: backup if tunnels else None,
                  lambda link: tuple((path, 2) for path in PATHS), 15.0, clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sweep.run())
        await clock.advance(EVERY_S * (times - 0.5))
        task.cancel()


async def test_a_backup_with_its_declared_connections_only_has_no_wrong_flow() -> None:
    board, backup = Board(), Backup()
    await look(board, backup, 2)
    assert board.counted == [Flows(), Flows()]
    assert backup.resets == []


async def test_what_a_rescue_left_behind_is_closed_and_counts_only_if_it_stays() -> None:
    board, backup = Board(), Backup()
    backup.idle[PATHS[0]] = 5
    await look(board, backup, 2)
    assert [each.idle for each in board.counted] == [0, 0]
    assert backup.idle[PATHS[0]] == 2

    backup.idle[PATHS[0]], backup.sticky = 5, True
    board.counted.clear()
    await look(board, backup, 3)
    assert [each.idle for each in board.counted] == [0, 3, 3]


async def test_old_requests_and_tunnels_are_counted_and_tunnels_ended_as_told() -> None:
    board, backup = Board(), Backup()
    backup.old, backup.tunnels, board.ends = 3, 2, "idle"
    await look(board, backup, 1)
    assert board.counted == [Flows(3, 0, 2)]
    board.ends = "all"
    await look(board, backup, 1)
    assert backup.resets == ["idle 15.0 s on sim", "all on sim"]


async def test_without_a_tunnel_port_there_are_no_tunnels() -> None:
    board, backup = Board(), Backup()
    backup.tunnels, board.ends = 2, "all"
    await look(board, backup, 1, tunnels=False)
    assert board.counted == [Flows()]
    assert backup.resets == []


async def test_a_link_that_is_not_cleared_is_left_alone() -> None:
    board, backup = Board(), Backup()
    board.links = ()
    backup.idle[PATHS[0]] = 9
    await look(board, backup, 3)
    assert board.counted == []
    assert backup.idle[PATHS[0]] == 9
