"""Names are asked of each link at its own pace, in turn, and of no dead one."""

import asyncio
from dataclasses import dataclass, field

from gateway.core.cadence import CadenceRules, Pace
from gateway.core.instant import Mono
from gateway.core.link import LinkMemory, LinkRules, LinkState
from gateway.flow.names import Names
from tests.kit.clock import SimClock


@dataclass
class Resolver:
    clock: SimClock
    needs: bool = True
    asked: list[str] = field(default_factory=list)

    async def check(self, host: str) -> bool:
        self.asked.append(host)
        await self.clock.sleep(0.02)
        return self.needs


@dataclass
class Standing:
    states: dict[str, LinkState]

    def state(self, link: str) -> LinkMemory:
        return LinkMemory(link, Mono(0.0), Mono(0.0), self.states[link])

    def pace(self, link: str) -> Pace:
        return "idle" if link == "sim" else "busy"


async def asked(hosts: tuple[str, ...], states: dict[str, LinkState], needs: bool = True
                ) -> tuple[dict[str, list[str]], list[str]]:
    clock = SimClock()
    resolvers = {link: Resolver(clock, needs) for link in states}
    counted: list[str] = []
    names = Names(Standing(states), resolvers, hosts, CadenceRules(), LinkRules(), clock,
                  counted.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(names.run())
        await clock.advance(1000.0)
        task.cancel()
    return {link: each.asked for link, each in resolvers.items()}, counted


async def test_a_free_link_is_asked_each_five_seconds_and_a_standby_each_quarter_of_an_hour(
        ) -> None:
    found, counted = await asked(("a.nhs.uk", "b.nhs.uk"), {"fibre": "UP", "sim": "UP"})
    assert 160 <= len(found["fibre"]) <= 201
    assert found["fibre"][:4] == ["a.nhs.uk", "b.nhs.uk"] * 2
    assert found["sim"] == ["a.nhs.uk", "b.nhs.uk"]
    assert counted.count("sim") == 2


async def test_a_dead_link_is_not_asked_and_an_address_is_counted_as_no_lookup() -> None:
    found, counted = await asked(("192.0.2.1",), {"fibre": "UP", "sim": "DOWN"}, needs=False)
    assert found["sim"] == []
    assert found["fibre"]
    assert counted == []
    assert (await asked((), {"fibre": "UP"}))[0] == {"fibre": []}
