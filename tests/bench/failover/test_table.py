"""What the parties are judged by: failures, percentiles, spreads, and the dark."""

import pytest

from tests.bench.failover.table import Sitting, as_json, lines, score, was_kept
from tests.bench.rig.records import Kind, Record


def one(party: str, number: int, due: float, took_s: float = 0.02, kind: Kind = "live",
        status: int = 200) -> Record:
    return Record(party, number, due, 0.0, took_s, kind, "a", status)


def steady(party: str, since: float, until: float, first: int = 0) -> list[Record]:
    """Ten live answers a second, 20 ms each."""
    return [one(party, first + n, since + n / 10) for n in range(round((until - since) * 10))]


def test_each_party_is_judged_by_its_own_records() -> None:
    slow = one("nginx", 900, 10.0, 0.5)
    sitting = Sitting((*steady("ours", 0, 20), *steady("nginx", 0, 20), slow), (10.0,), (15.0,))
    ours, nginx = score("ours", [sitting]), score("nginx", [sitting])
    assert (ours.requests, nginx.requests) == (200, 201)
    assert ours.pooled_max_ms == pytest.approx(20)
    assert nginx.pooled_max_ms == pytest.approx(500)
    assert nginx.onsets[0].max_ms == pytest.approx(500)


def test_failed_counts_the_whole_run_and_a_plain_no_with_a_link_up_is_a_failure() -> None:
    lost = one("envoy", 900, 2.0, 0.1, "failed", 503)
    early = Sitting((*steady("envoy", 0, 20), lost), (10.0,), (15.0,))
    assert score("envoy", [early]).failed == 1
    assert score("envoy", [early]).onsets[0].max_ms == pytest.approx(20)  # outside the window


def test_the_stalls_are_of_those_that_waited_and_no_calm_one_hides_them() -> None:
    waited = [one("nginx", 900 + n, 10.0 + n / 10, took) for n, took in enumerate((0.1, 0.3, 0.5))]
    found = score("nginx", [Sitting((*steady("nginx", 0, 20), *waited), (10.0,), (15.0,))])
    assert found.stalled == 3
    assert found.stalls_ms == pytest.approx((300, 500, 500))
    assert "300/500/500" in lines([found])[-1]


def test_sittings_have_their_own_numbers_and_their_onsets_stay_apart() -> None:
    """The same numbers come again in every sitting: no record may hide another."""
    calm = Sitting(tuple(steady("ours", 0, 20)), (10.0,), (15.0,))
    slow = Sitting((*steady("ours", 0, 20)[:100], one("ours", 100, 10.0, 0.3)), (10.0,), (15.0,))
    found = score("ours", [calm, slow])
    assert [each.max_ms for each in found.onsets] == [pytest.approx(20), pytest.approx(300)]
    assert found.pooled_max_ms == pytest.approx(300)
    assert found.requests == 301


def test_who_was_not_on_the_primary_was_not_tried_but_its_failures_count() -> None:
    lost = one("ours", 900, 10.0, 0.4, "failed", 503)
    sitting = Sitting((*steady("ours", 0, 40), lost), (10.0, 30.0), (15.0, 35.0),
                      (frozenset({"ours"}), frozenset({"nginx"})))
    found = score("ours", [sitting])
    assert (len(found.onsets), found.failed) == (1, 1)
    assert found.pooled_max_ms == pytest.approx(20)
    assert score("nginx", [sitting]).onsets[0].near == 0  # it was tried once, by the first


def test_a_party_that_was_never_tried_has_no_figures() -> None:
    sitting = Sitting(tuple(steady("ours", 0, 20)), (10.0,), (15.0,), (frozenset({"ours"}),))
    found = score("ours", [sitting])
    assert [cell.strip() for cell in lines([found])[2].split("|")] == [
        "ours", "0", "0 of 200", "-", "-", "-", "-", "-", "-", "-", "-"]


def test_the_next_outage_ends_the_look_after_a_heal() -> None:
    soon = one("ours", 900, 19.995, 0.05, "refused", 503)  # in flight when the next one began
    sitting = Sitting((*steady("ours", 0, 10), *steady("ours", 18, 20, 300), soon),
                      (10.0, 20.0), (18.0, 28.0))
    assert score("ours", [sitting], dark=True).dark[0].last_no_s == 0.0


def test_the_steps_of_one_strike_give_one_figure() -> None:
    records = (*steady("ours", 0, 40), one("ours", 900, 18.0, 0.4))
    sitting = Sitting(records, (10.0,), (30.0,))
    assert score("ours", [sitting]).onsets[0].max_ms == pytest.approx(20)
    stepped = score("ours", [sitting], (0.0, 4.0, 8.0))
    assert len(stepped.onsets) == 1
    assert stepped.onsets[0].max_ms == pytest.approx(400)


def test_in_the_dark_a_no_counts_by_how_soon_it_is_said_and_when_it_ends() -> None:
    refusals = [one("haproxy", 300 + n, 10.0 + n / 10, 0.5, "failed", 503) for n in range(90)]
    silent = one("haproxy", 900, 12.05, 10.0, "failed", 0)
    after = steady("haproxy", 19.0, 30.0, 500)
    sitting = Sitting((*steady("haproxy", 0, 10), *refusals, silent, *after), (10.0,), (18.0,))
    dark = score("haproxy", [sitting], dark=True).dark[0]
    assert len(dark.no) == 80  # the ten after the heal are no part of the dark
    assert dark.no[0] == pytest.approx(500)
    assert dark.silent == 1
    assert dark.live_s == pytest.approx(1.02)
    assert dark.last_no_s == pytest.approx(0.9)


def test_a_party_that_never_comes_back_shows_it() -> None:
    sitting = Sitting((one("envoy", 1, 11.0, 0.01, "failed", 503),), (10.0,), (18.0,))
    assert score("envoy", [sitting], dark=True).dark[0].live_s == 99.0


def test_the_table_has_a_head_and_a_line_for_each_party_in_columns() -> None:
    sitting = Sitting((*steady("ours", 0, 20), *steady("nginx", 0, 20)), (10.0,), (15.0,))
    head, rule, ours, nginx = lines([score("ours", [sitting]), score("nginx", [sitting])])
    assert [cell.strip() for cell in head.split("|")] == [
        "party", "onsets", "failed of all", "p50 ms", "p99 ms", "max ms", "longest gap ms",
        "stalled", "stall p50/p99/max ms", "all p99", "all max"]
    assert [cell.strip() for cell in ours.split("|")] == [
        "ours", "1", "0 of 200", "20", "20", "20", "100", "0", "-", "20", "20"]
    assert nginx.startswith("nginx ")
    bars = {place for place, sign in enumerate(head) if sign == "|"}
    assert bars == {place for place, sign in enumerate(rule) if sign == "+"}
    assert bars == {place for place, sign in enumerate(ours) if sign == "|"}


def test_the_dark_has_columns_of_its_own_and_json_leaves_out_the_single_noes() -> None:
    sitting = Sitting((one("envoy", 1, 11.0, 0.01, "failed", 503), one("envoy", 2, 18.2)),
                      (10.0,), (18.0,))
    found = score("envoy", [sitting], dark=True)
    assert '"no" p99 ms' in lines([found], dark=True)[0]
    assert as_json(found)["dark"] == [{
        "silent": 0, "no_p50_ms": pytest.approx(10), "no_p99_ms": pytest.approx(10),
        "no_max_ms": pytest.approx(10), "live_s": pytest.approx(0.22), "last_no_s": 0.0,
        "sent": 1, "given": 0, "marked": 0, "early_max_ms": 0.0, "later_p99_ms": 0.0,
        "later_max_ms": 0.0}]


def test_what_was_kept_counts_by_when_it_was_asked_and_whether_it_says_so() -> None:
    early, later = one("ours", 1, 10.1, 0.2, "copy"), one("ours", 2, 12.0, 0.004, "copy")
    unmarked, refused = one("ours", 3, 13.0, 0.005), one("ours", 4, 14.0, 0.01, "failed", 503)
    late = one("ours", 5, 17.9, 0.2)  # waited until the heal: not from what was kept
    found = score("ours", [Sitting((early, later, unmarked, refused, late), (10.0,), (18.0,))],
                  dark=True)
    head, _, said = lines([found], dark=True, keep=True)
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (head, said)),
                     strict=True))
    assert cells["answered in the dark"] == "60 %"
    assert cells["marked as copies"] == "67 %"
    assert (cells["first 0.3 s max ms"], cells["later max ms"]) == ("200", "5")


def test_at_the_edges_of_the_dark_only_what_no_origin_can_be_so_quick_at_is_old() -> None:
    fresh, quick = one("nginx", 1, 10.1, 0.021), one("nginx", 2, 10.1, 0.001)
    stalled, healing = one("nginx", 3, 10.1, 0.5), one("nginx", 4, 17.8, 0.03)
    before, waited = one("nginx", 5, 9.9, 0.001), one("nginx", 6, 17.0, 1.5)
    told = [was_kept(each, 10.0, 18.0)
            for each in (fresh, quick, stalled, healing, before, waited)]
    assert told == [False, True, True, False, False, False]


def test_who_keeps_nothing_has_no_figures_of_copies() -> None:
    refused = one("envoy", 1, 12.0, 0.01, "failed", 503)
    found = score("envoy", [Sitting((refused,), (10.0,), (18.0,))], dark=True)
    assert [cell.strip() for cell in lines([found], True, True)[2].split("|")[2:8]] == [
        "0 %", "-", "-", "-", "-", "-"]
