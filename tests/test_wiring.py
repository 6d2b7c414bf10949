"""The gateway as it is put together: what each room is handed, by what it then does.

Every room has its tests; these hold that ``build`` gives it what the configuration says. The real
gateway starts on loopback, and only what happens outside (a verdict, a death) is told by hand.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.build import GAPS, Gateway
from gateway.core.instant import Mono
from gateway.core.silence import Learned
from gateway.core.verdict import Judged, Verdict
from gateway.edge import link_memory
from tests.config.test_load import GOOD, read
from tests.kit.gateway import free_port

PLANNED = (
    GOOD.replace("metered = true", "metered = true\nplan = { month_bytes = 1_000_000_000 }")
    .replace('pack = "gp-connect-stu3"', 'pack = "gp-connect-stu3"\nissuer = "NHS Level 1D"')
    .replace("http://127.0.0.1:808", "https://127.0.0.1:808")) + """
[readiness]
distrust_most_s = 1234.0
[admin]
port = 0
"""


@asynccontextmanager
async def started(home: Path, text: str = PLANNED) -> AsyncIterator[Gateway]:
    gateway = Gateway(read(home, text))
    async with AsyncExitStack() as stack:
        await gateway.start(stack)
        yield gateway


def hole(passes: int, over: bool = False) -> Judged:
    verdict = Verdict("MTU_HOLE", "fibre", "", Mono(1.0), (("passes_bytes", passes),))
    return Judged(verdict, over, Mono(2.0))


async def test_a_hole_caps_its_link_and_connections_made_before_are_not_used_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(tmp_path) as it:
        renewed: list[str] = []
        for link, sender in it._senders.items():
            monkeypatch.setattr(sender, "renew", lambda link=link: renewed.append(link))
        it._transition(hole(1400))
        assert it._senders["fibre"].dialler.packet_cap == 1400
        assert it._senders["sim"].dialler.packet_cap is None
        assert renewed == ["fibre"]
        it._transition(hole(1400, over=True))
        assert it._senders["fibre"].dialler.packet_cap is None
        assert renewed == ["fibre", "fibre"]


async def test_each_sender_knows_who_must_have_issued_a_certificate(tmp_path: Path) -> None:
    async with started(tmp_path) as it:
        for sender in it._senders.values():
            assert sender._upstreams["gpc"].issuer == "NHS Level 1D"


async def test_second_sends_and_plans_know_which_link_is_metered(tmp_path: Path) -> None:
    async with started(tmp_path) as it:
        serve = it._serve()
        assert serve._forwarder._budget._metered == {"sim"}
        assert serve._barred == it._quota.barred
        assert serve._forwarder._spent == it._quota.spent


async def test_what_the_gaps_taught_is_read_at_the_next_start(tmp_path: Path) -> None:
    config = read(tmp_path, PLANNED)
    config.state_dir.mkdir(exist_ok=True)
    taught = replace(Learned(), loss=0.031)
    link_memory.write_learned(config.state_dir / GAPS, {"fibre": taught, "sim": Learned()})
    it = Gateway(config)
    assert it._board.learned()["fibre"].loss == 0.031
    assert it._board.learned()["sim"].loss != 0.031


async def test_a_link_is_distrusted_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    async with started(tmp_path) as it:
        assert it._maintenance._most_s == 1234.0


async def test_a_dead_link_loses_its_pool_and_its_tunnels_if_another_takes_over(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tunnels = f'\n[tunnel]\nport = {free_port()}\nallow = ["127.0.0.1:9"]\n'
    async with started(tmp_path, PLANNED + tunnels) as it:
        lost: list[str] = []
        assert it._tunnels is not None
        monkeypatch.setattr(it._senders["fibre"], "renew", lambda: lost.append("pool"))
        monkeypatch.setattr(it._tunnels, "reset_link", lambda link: lost.append(link))
        monkeypatch.setattr(it._board, "active", lambda: "fibre")
        it._link_lost("fibre")
        assert lost == [], "there is nowhere to go"
        monkeypatch.setattr(it._board, "active", lambda: "sim")
        it._link_lost("fibre")
        assert lost == ["pool", "fibre"]
