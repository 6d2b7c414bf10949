"""What a class costs on each link, and when it leaves one for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import Mono
from gateway.core.steer import (
    BUCKETS,
    CLASSES,
    ClassMoved,
    Completion,
    Costs,
    CostTable,
    Figures,
    Reach,
    Sizes,
    SteerMemory,
    SteerRules,
    TrafficClass,
    Window,
    class_moves,
    class_of,
    duplicates,
    steer,
)

RULES = SteerRules()
BOTH = ("fibre", "sim")
FIBRE, SIM = Reach(0.020, 0.022), Reach(0.060, 0.070)
REACHES = {"fibre": FIBRE, "sim": SIM}
ON_FIBRE: dict[TrafficClass, str] = dict.fromkeys(CLASSES, "fibre")


def at(seconds: float) -> Mono:
    return Mono(10_000.0 + seconds)


def noted(costs: Costs, link: str, took_s: float, n: int, *, fails: int = 0, since: float = 0.0,
          upstream: str = "gpc", kind: TrafficClass = "small") -> None:
    """``n`` completions 10 ms apart, the first ``fails`` of them failures."""
    for number in range(n):
        costs.note(link, upstream, kind,
                   Completion(at(since + number * 0.01), took_s, number >= fails, 2000))


def table(costs: Costs, now: float, browned: tuple[str, ...] = (),
          reaches: dict[str, Reach] | None = None) -> CostTable:
    return costs.table(ON_FIBRE, reaches or REACHES, browned, {}, at(now))


# --- J

def test_the_cost_is_mean_spread_failures_and_bytes() -> None:
    figures = Figures(100, 10, 0.1, 0.08, 0.2, 1000.0)
    assert figures.cost() == pytest.approx(0.1 + 2 * 0.12 + 3 * 0.1)
    assert figures.cost(price=1e-6) - figures.cost() == pytest.approx(0.001)


@given(st.lists(st.floats(0.001, 60.0), min_size=1, max_size=200))
def test_a_windows_quantiles_are_right_within_five_per_cent(times: list[float]) -> None:
    window = Window(30.0, 10)
    for took in times:
        window.add(Completion(at(0), took, True))
    figures = window.figures(at(0))
    ranked = sorted(times)
    for share, told in ((0.5, figures.p50_s), (0.95, figures.p95_s)):
        exact = ranked[max(0, -int(-share * len(ranked) // 1) - 1)]
        assert told == pytest.approx(exact, rel=0.051)
    assert figures.mean_s == pytest.approx(sum(times) / len(times))


def test_a_window_forgets_what_is_older_than_it() -> None:
    window = Window(30.0, 10)
    window.add(Completion(at(0), 5.0, True))
    window.add(Completion(at(200), 0.1, False))
    assert window.figures(at(250)).n == 2
    late = window.figures(at(330))
    assert (late.n, late.fails, late.p95_s) == (1, 1, 0.0)
    assert window.figures(at(2000)) == Figures()


def test_a_window_is_bounded_however_much_it_sees() -> None:
    window = Window(0.5, 10)
    for number in range(5000):
        window.add(Completion(at(number * 0.01), 0.02, True))
    assert len(window._slices) <= 11
    assert len(window._counts) == BUCKETS
    assert window.figures(at(49.99)).n <= 500


def test_a_failure_costs_three_seconds_and_counts_no_time() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 100, fails=20)
    figures, _ = costs.figures("fibre", "small", at(1))
    assert figures.fail_share == pytest.approx(0.2)
    assert figures.cost() == pytest.approx(0.02 + 0.6, rel=0.02)


# --- a standby that has few completions

def test_a_standby_without_completions_costs_the_same_but_for_what_the_echoes_say() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.30, 100)
    told = table(costs, 1)
    difference = SIM.cost - FIBRE.cost
    assert told["sim", "small"] - told["fibre", "small"] == pytest.approx(difference)


def test_a_slow_upstream_costs_the_same_on_both_links() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 1000)
    noted(costs, "fibre", 3.0, 1000, since=20)
    told = table(costs, 31)
    assert told["fibre", "small"] > 1.0
    assert told["fibre", "small"] < RULES.away_factor * told["sim", "small"]


def test_a_lossy_link_costs_more_than_a_standby_that_nothing_was_sent_over() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 200, fails=50)
    told = table(costs, 2, ("fibre",), {"fibre": Reach(0.02, 0.02, 0.2), "sim": SIM})
    assert told["fibre", "small"] > RULES.away_factor * told["sim", "small"]
    assert told["fibre", "booking"] > RULES.away_factor * told["sim", "booking"]


def test_in_a_brown_out_what_a_class_costs_above_its_day_is_the_links_doing() -> None:
    """A reply of twenty packets nearly always loses one where an echo is lost in five."""
    costs = Costs()
    noted(costs, "fibre", 0.03, 2000)
    noted(costs, "fibre", 0.03, 100, fails=95, since=60)
    reaches = {"fibre": Reach(0.02, 0.02, 0.2), "sim": SIM}
    assert table(costs, 61, (), reaches)["sim", "small"] < 0.1  # of five minutes: 5 % failed
    told = table(costs, 61, ("fibre",), reaches)
    assert told["fibre", "small"] > 2.5
    assert told["sim", "small"] < 0.5


def test_a_standbys_own_completions_outweigh_what_is_presumed() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 200, fails=50)
    presumed = table(costs, 2)["sim", "small"]
    noted(costs, "sim", 0.06, 100, since=1)
    told = table(costs, 2.5)["sim", "small"]
    assert told == pytest.approx((100 * 0.06 + 10 * presumed) / 110, rel=0.05)


def test_upstreams_are_compared_each_with_itself() -> None:
    """A quick upstream alone on the other link makes this link no worse for a slow one."""
    costs = Costs()
    noted(costs, "fibre", 0.8, 100, upstream="gpc")
    noted(costs, "sim", 0.03, 500, upstream="bars")
    told = table(costs, 5)
    assert told["sim", "small"] > told["fibre", "small"]


def test_a_brown_out_is_judged_by_the_last_five_seconds() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 6000)
    noted(costs, "fibre", 0.02, 100, fails=40, since=65)
    assert table(costs, 66)["fibre", "small"] < 0.1
    assert table(costs, 66, ("fibre",))["fibre", "small"] > 1.0


def test_a_quiet_practice_is_judged_by_its_day() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.5, 50)
    costs.note("fibre", "gpc", "small", Completion(at(3000), 9.0, True))
    assert table(costs, 3001)["fibre", "small"] < 2.0


def test_bytes_over_a_metered_link_are_priced() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 100)
    dear = costs.table(ON_FIBRE, REACHES, (), {"sim": 1e-4}, at(2))
    assert dear["sim", "small"] - table(costs, 2)["sim", "small"] == pytest.approx(0.2)


def test_what_was_measured_before_a_link_died_says_nothing_afterwards() -> None:
    costs = Costs()
    noted(costs, "fibre", 0.02, 100, fails=100)
    costs.forget("fibre")
    assert costs.figures("fibre", "small", at(2)) == (Figures(), Figures())


# --- moving

BAD: CostTable = {("fibre", kind): 0.9 for kind in CLASSES} | {
    ("sim", kind): 0.1 for kind in CLASSES}
GOOD: CostTable = {(link, kind): 0.1 for kind in CLASSES for link in BOTH}


def run(memory: SteerMemory, costs: CostTable, begin: float, end: float, *,
        browned: tuple[str, ...] = (), usable: tuple[str, ...] = BOTH,
        metered: tuple[str, ...] = ("sim",), rules: SteerRules = RULES) -> SteerMemory:
    """Look four times a second from ``begin`` to ``end``."""
    for step in range(int((end - begin) * 4) + 1):
        memory = steer(memory, costs, usable, browned, metered, at(begin + step / 4), rules)
    return memory


def test_a_class_leaves_after_ten_seconds_and_after_two_in_a_brown_out() -> None:
    assert not run(SteerMemory(), BAD, 0, 9.75).impaired
    assert run(SteerMemory(), BAD, 0, 10).impaired == {"fibre"}
    assert not run(SteerMemory(), BAD, 0, 1.75, browned=("fibre",)).impaired
    after = run(SteerMemory(), BAD, 0, 2, browned=("fibre",))
    assert after.avoided("small") == {"fibre"}
    assert after.home("small", BOTH) == "sim"


def test_a_cost_that_is_high_for_a_moment_moves_nothing() -> None:
    memory = run(SteerMemory(), BAD, 0, 9)
    memory = run(memory, GOOD, 9.25, 9.25)
    assert not run(memory, BAD, 9.5, 19).impaired


def test_a_good_half_second_of_a_flagged_brown_out_does_not_begin_the_wait_anew() -> None:
    before = run(SteerMemory(), BAD, 0, 1.25, browned=("fibre",))
    dip = run(before, GOOD, 1.5, 1.75, browned=("fibre",))
    assert not dip.impaired
    assert run(dip, BAD, 2, 2, browned=("fibre",)).impaired == {"fibre"}
    assert not run(run(before, GOOD, 1.5, 1.75), BAD, 2, 2, browned=("fibre",)).impaired
    apart = run(before, GOOD, 1.5, 2.75, browned=("fibre",))
    assert not run(apart, BAD, 3, 3.5, browned=("fibre",)).impaired  # a burst by itself


def test_a_gain_of_milliseconds_moves_nothing_however_large_the_factor() -> None:
    tiny: CostTable = {("fibre", "small"): 0.06, ("sim", "small"): 0.02}
    assert not run(SteerMemory(), tiny, 0, 60).impaired


def test_small_reads_leave_first_then_bookings_and_bulk_never_for_a_metered_link() -> None:
    only_bookings: CostTable = {**GOOD, ("fibre", "booking"): 0.9}
    alone = run(SteerMemory(), only_bookings, 0, 60)
    assert alone.impaired == {"fibre"}
    assert not alone.avoided("booking")
    rules = SteerRules(moves_per_hour=3)
    memory = run(SteerMemory(), BAD, 0, 60, rules=rules)
    assert [bool(memory.avoided(kind)) for kind in CLASSES] == [True, True, False]
    memory = run(SteerMemory(), BAD, 0, 60, rules=rules, metered=())
    assert [bool(memory.avoided(kind)) for kind in CLASSES] == [True, True, True]


def test_bookings_follow_small_reads_out_of_a_brown_out_whatever_their_own_few_cost() -> None:
    """Twelve bookings in ten seconds at 20 % loss all arrived, so cost nothing; the next was told
    that its outcome is unknown."""
    costs: CostTable = {("fibre", "small"): 1.0, ("sim", "small"): 0.1,
                        ("fibre", "booking"): 0.1, ("sim", "booking"): 0.1}
    browned = run(SteerMemory(), costs, 0.0, 2.2, browned=("fibre",))
    assert browned.avoided("booking") == browned.avoided("small") == {"fibre"}
    slow = run(SteerMemory(), costs, 0.0, 30.0)
    assert slow.avoided("small") == {"fibre"}
    assert not slow.avoided("booking")
    cheap: CostTable = costs | {("fibre", "small"): 0.1}  # type: ignore[operator]  # a dict
    assert not run(SteerMemory(), cheap, 0.0, 30.0, browned=("fibre",)).leanings


def test_two_classes_may_leave_in_an_hour() -> None:
    memory = run(SteerMemory(), BAD, 0, 10)
    memory = run(memory, GOOD, 10.25, 80)
    assert not memory.impaired
    assert len(memory.moves) == 2
    again = run(memory, BAD, 81, 120)
    assert again.impaired == {"fibre"}
    assert not again.avoided("small")
    assert run(memory, BAD, 3611, 3640).avoided("small") == {"fibre"}


def test_a_class_comes_back_after_sixty_good_seconds() -> None:
    memory = run(SteerMemory(), BAD, 0, 10)
    assert run(memory, GOOD, 10.25, 70).avoided("small") == {"fibre"}
    assert run(memory, GOOD, 10.25, 70.25) == SteerMemory((), memory.moves)
    assert run(memory, GOOD, 10.25, 70.25, browned=("fibre",)).avoided("small") == {"fibre"}


def test_nothing_changes_while_no_other_link_is_usable() -> None:
    assert run(SteerMemory(), BAD, 0, 60, usable=("fibre",)) == SteerMemory()
    memory = run(SteerMemory(), BAD, 0, 10)
    assert run(memory, GOOD, 11, 300, usable=("fibre",)) == memory
    assert memory.home("small", ("fibre",)) == "fibre"


def test_a_link_that_is_not_usable_is_forgotten() -> None:
    memory = run(SteerMemory(), BAD, 0, 10)
    third = run(memory, GOOD, 11, 11, usable=("sim", "dsl"))
    assert not third.impaired


def test_a_move_is_told_once_with_both_costs() -> None:
    before = run(SteerMemory(), BAD, 0, 1.75, browned=("fibre",))
    after = run(before, BAD, 2, 2, browned=("fibre",))
    told = class_moves(before, after, BAD, BOTH, ("fibre",), at(2))
    assert told[0] == ClassMoved("small", "fibre", "sim", False, "BROWNOUT", at(2), 0.9, 0.1)
    assert [each.kind for each in told] == ["small", "booking"]
    back = class_moves(after, SteerMemory(), GOOD, BOTH, (), at(80))
    assert (back[0].before, back[0].after, back[0].back) == ("sim", "fibre", True)


@given(st.lists(st.tuples(st.sampled_from([0.02, 0.1, 0.5, 2.0]),
                          st.sampled_from([0.02, 0.1, 0.5, 2.0]), st.booleans()), max_size=60))
def test_in_any_weather_no_more_classes_leave_in_an_hour_than_allowed(
        weather: list[tuple[float, float, bool]]) -> None:
    memory, left = SteerMemory(), 0
    for number, (fibre, sim, is_browned) in enumerate(weather):
        costs: CostTable = {(link, kind): cost for kind in CLASSES
                            for link, cost in (("fibre", fibre), ("sim", sim))}
        before = memory
        memory = steer(memory, costs, BOTH, ("fibre",) if is_browned else (), ("sim",),
                       at(number * 30), RULES)
        left += sum(not each.back for each in class_moves(
            before, memory, costs, BOTH, (), at(number * 30)))
    assert left <= RULES.moves_per_hour


# --- classes and duplicates

def test_the_class_of_a_request_is_known_by_what_it_does_and_the_size_to_expect() -> None:
    assert class_of("read", None, RULES) == "small"
    assert class_of("read", 65536, RULES) == "small"
    assert class_of("read", 65537, RULES) == "bulk"
    assert class_of("booking", 100, RULES) == class_of("write", None, RULES) == "booking"
    assert class_of("stream", None, RULES) == class_of("tunnel", None, RULES) == "bulk"


def test_the_size_of_a_routes_replies_is_learned() -> None:
    sizes = Sizes()
    assert sizes.expected("gpc", "slots") is None
    for _ in range(40):
        sizes.note("gpc", "slots", 2000)
    assert sizes.expected("gpc", "slots") == 2000
    for _ in range(40):
        sizes.note("gpc", "slots", 8000)
    assert (sizes.expected("gpc", "slots") or 0) > 7500


def test_only_a_small_read_whose_own_link_works_badly_is_doubled() -> None:
    memory = run(SteerMemory(), BAD, 0, 10, rules=SteerRules(moves_per_hour=0))
    assert duplicates(BOTH, memory, (), "read", 4096, RULES)
    assert duplicates(BOTH, SteerMemory(), ("fibre",), "read", 4096, RULES)
    assert not duplicates(BOTH, memory, (), "read", 4097, RULES)
    assert not duplicates(BOTH, memory, (), "read", None, RULES)
    assert not duplicates(BOTH, memory, (), "booking", 100, RULES)
    assert not duplicates(("fibre",), memory, (), "read", 100, RULES)
    assert not duplicates(("sim", "fibre"), memory, (), "read", 100, RULES)
