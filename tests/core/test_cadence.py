"""How often each kind of question is asked, and what a standby costs a month."""

import pytest

from gateway.core.cadence import (
    ASKS,
    COST_BYTES,
    MONTH_S,
    Ask,
    CadenceRules,
    Pace,
    every_s,
)
from gateway.core.link import LinkRules

RULES, LINKS = CadenceRules(), LinkRules()


@pytest.mark.parametrize(("ask", "pace", "seconds"), [
    ("anchor", "fast", 0.2), ("anchor", "busy", 0.5), ("anchor", "idle", 10.0),
    ("connect", "fast", 15.0), ("connect", "busy", 15.0), ("connect", "idle", 900.0),
    ("canary", "busy", 60.0), ("canary", "idle", 3500.0),
    ("names", "busy", 5.0), ("names", "idle", 900.0), ("size", "busy", 3600.0)])
def test_each_kind_has_its_own_time(ask: Ask, pace: Pace, seconds: float) -> None:
    assert every_s(ask, pace, RULES, LINKS) == seconds


def test_a_small_plan_is_asked_a_third_as_often_and_only_where_it_stands_by() -> None:
    assert every_s("anchor", "idle", RULES, LINKS, metered=True, small=True) == 30.0
    assert every_s("anchor", "busy", RULES, LINKS, metered=True, small=True) == 0.5
    assert every_s("size", "busy", RULES, LINKS, metered=True) == 86_400.0


@pytest.mark.parametrize("ask", ASKS)
def test_an_idle_standby_is_never_asked_more_often_than_a_link_at_work(ask: Ask) -> None:
    assert every_s(ask, "idle", RULES, LINKS, metered=True) >= every_s(ask, "busy", RULES, LINKS)


def month_bytes(rules: CadenceRules, links: LinkRules, *, small: bool, upstreams: int, warm: int,
                page_bytes: int = 0) -> dict[str, float]:
    """Return what an idle metered standby carries in 30 days by kind, where nothing goes wrong.

    ``upstreams`` are asked each by themselves; ``warm`` connections are kept alive every 300 s;
    ``page_bytes`` is the canary's body.
    """
    asked = {ask: MONTH_S / every_s(ask, "idle", rules, links, metered=True, small=small)
             for ask in ASKS}
    many = {"connect": upstreams, "canary": upstreams}
    found: dict[str, float] = {ask: count * many.get(ask, 1) * (
        COST_BYTES[ask] + (page_bytes if ask == "canary" else 0)) for ask, count in asked.items()}
    found["keepalive"] = warm * MONTH_S / 300.0 * COST_BYTES["keepalive"]
    return found


def test_a_small_plan_stays_below_65_megabytes_a_month() -> None:
    small = month_bytes(RULES, LINKS, small=True, upstreams=3, warm=2, page_bytes=10_000)
    large = month_bytes(RULES, LINKS, small=False, upstreams=3, warm=5, page_bytes=10_000)
    assert set(small) == {*ASKS, "keepalive"}
    assert sum(small.values()) < 65e6
    assert sum(large.values()) < 120e6
