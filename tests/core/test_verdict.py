"""From samples to verdicts: each row of the table by the facts that make it, and what vetoes it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.echo import LADDER
from gateway.core.instant import Mono
from gateway.core.likelihood import LOSS_LIMIT, RTT_LIMIT, Sums
from gateway.core.link import Layer, LinkRules, Sample
from gateway.core.verdict import (
    TOO_LONG,
    Asked,
    Measure,
    PathReading,
    Seen,
    Verdict,
    changes,
    dead_link,
    is_captive,
    is_doubted,
    is_heard,
    judge,
    link_faults,
    read_link,
    read_path,
    silent_resolver,
)

RULES = LinkRules()
NOW = Mono(100.0)
BOTH = frozenset({"echo", "broker"})


def probe(target: str, sent_at: float, ok: bool = False, layer: Layer = "http", detail: str = ""
          ) -> Sample:
    at = Mono(sent_at + (0.03 if ok else 0.8))
    return Sample("fibre", target, layer, ok, Mono(sent_at), at, True, detail=detail)


def sent(at: float, detail: str = "200", ok: bool | None = None, layer: Layer = "request",
         took: float = 0.05, link: str = "fibre") -> Sample:
    good = detail.isdigit() if ok is None else ok
    return Sample(link, "gpc", layer, good, Mono(at), Mono(at + took), detail=detail)


SILENCE = tuple(probe(target, at) for at in (98.1, 98.3, 98.5, 98.7)
                for target in ("echo", "broker"))


def test_silence_on_two_targets_long_enough_is_a_black_hole() -> None:
    reading = read_link(Seen(SILENCE, heard=Mono(98.0), proven=BOTH), (), RULES, NOW)
    assert (reading.dead, reading.targets, reading.unanswered) == ("BLACKHOLE", 2, 8)
    verdict = dead_link("fibre", reading, NOW)
    assert verdict == Verdict("BLACKHOLE", "fibre", "", NOW, (
        ("silence_s", 1.9), ("unanswered", 8), ("targets", 2), ("likelihood", 27.5),
        ("age_s", 1.5)))


@given(st.integers(0, len(SILENCE)))
def test_any_success_vetoes_wherever_it_comes(place: int) -> None:
    for good in (probe("echo", 99.5, ok=True), sent(99.5), sent(99.5, "503", ok=False),
                 sent(99.5, "bad_reply", ok=False)):
        samples = (*SILENCE[:place], good, *SILENCE[place:])
        reading = read_link(Seen(samples, heard=good.at, proven=BOTH), (), RULES, NOW)
        assert reading.dead == ""


def test_one_silent_target_kills_no_link_however_long() -> None:
    alone = tuple(probe("echo", 95.0 + n / 5) for n in range(20))
    reading = read_link(Seen(alone, heard=Mono(94.0), proven=BOTH), (), RULES, NOW)
    assert (reading.dead, reading.overdue) == ("", True)


def test_a_shorter_silence_or_fewer_misses_are_no_death() -> None:
    late = tuple(probe(target, at) for at in (98.6, 98.8, 99.0) for target in BOTH)
    assert read_link(Seen(late, heard=Mono(98.5), proven=BOTH), (), RULES, NOW).dead == ""
    few = (probe("echo", 97.0), probe("broker", 97.0), probe("echo", 97.2))
    assert read_link(Seen(few, heard=Mono(96.0), proven=BOTH), (), RULES, NOW).dead == ""


def test_questions_under_way_count_when_they_are_late() -> None:
    open_now = [Asked(target, Mono(at)) for at in (98.3, 98.45, 98.6) for target in BOTH]
    reading = read_link(Seen((), open_now, Mono(98.2), proven=BOTH), (), RULES, NOW)
    assert reading.dead == "BLACKHOLE"
    fresh = [Asked("echo", Mono(99.8))]
    assert not read_link(Seen((), fresh, Mono(99.7), proven=BOTH), (), RULES, NOW).unanswered


def test_a_question_of_before_the_last_success_is_no_evidence() -> None:
    reading = read_link(Seen(SILENCE, heard=Mono(98.9), proven=BOTH), (), RULES, NOW)
    assert (reading.unanswered, reading.overdue) == (0, False)


def test_what_never_answered_on_this_link_is_no_evidence_once_something_did() -> None:
    with_one = Seen(SILENCE, heard=Mono(98.0), proven=frozenset({"other", "echo"}))
    assert read_link(with_one, (), RULES, NOW).dead == ""
    never = Seen(SILENCE, heard=None, proven=frozenset())
    assert read_link(never, (), RULES, NOW).dead == "BLACKHOLE"


@pytest.mark.parametrize("detail", ["busy", "link_down", "stale", "certificate"])
def test_ends_that_tell_nothing_of_the_link_count_for_nothing(detail: str) -> None:
    samples = tuple(sent(95.0 + n / 5, detail, ok=False) for n in range(20))
    reading = read_link(Seen(samples, heard=Mono(94.0), proven=frozenset({"gpc"})), (), RULES, NOW)
    assert reading.unanswered == 0


def test_names_without_address_are_no_silence_of_the_link() -> None:
    samples = tuple(probe(t, 98.0 + n / 5, detail="resolve") for n in range(8) for t in BOTH)
    assert not read_link(Seen(samples, heard=Mono(97.0), proven=BOTH), (), RULES, NOW).unanswered


def test_a_connection_accepted_proves_nothing_unless_an_anchor_was_asked() -> None:
    assert not is_heard(sent(99.0, "", ok=True, layer="connect"))
    assert not is_heard(sent(99.0, "", ok=True, layer="dns"))
    assert is_heard(sent(99.0, "", ok=True, layer="tls"))
    assert is_heard(probe("echo", 99.0, ok=True, layer="connect"))


def test_our_own_stall_is_taken_out_of_every_wait() -> None:
    stall = ((Mono(98.2), Mono(99.9)),)
    asked = [Asked(target, Mono(98.15)) for target in BOTH]
    reading = read_link(Seen((), asked, Mono(98.1), proven=BOTH), stall, RULES, NOW)
    assert reading.unanswered == 0
    assert read_link(Seen(SILENCE, (), Mono(98.0), proven=BOTH), stall, RULES, NOW).dead == ""


def test_a_question_asked_before_a_stall_was_never_listened_to() -> None:
    asked = tuple(probe(t, at) for at in (96.9, 96.92, 96.95) for t in ("echo", "broker"))
    seen = Seen(asked, heard=Mono(96.8), proven=BOTH)
    assert read_link(seen, (), RULES, NOW).dead == "BLACKHOLE"
    assert read_link(seen, ((Mono(97.0), Mono(98.0)),), RULES, NOW).dead == ""


def test_two_sends_given_up_unacknowledged_make_a_link_suspect_and_blame_no_upstream() -> None:
    unacked = tuple(sent(99.7 + n / 100, "abandoned", ok=False, took=0.2) for n in range(4))
    seen = Seen(unacked, heard=Mono(99.6), proven=frozenset({"gpc", *BOTH}))
    assert read_link(seen, (), RULES, NOW).overdue
    one = Seen(unacked[:1], heard=Mono(99.6), proven=frozenset({"gpc", *BOTH}))
    assert not read_link(one, (), RULES, NOW).overdue
    assert (path(unacked).failures, path(unacked).doubts) == (0, 0)


def test_a_carrier_that_is_gone_is_dead_at_once() -> None:
    gone = Sample("fibre", "eth1", "carrier", False, NOW, NOW)
    seen = Seen((probe("echo", 99.9, ok=True),), heard=Mono(99.93), carrier=gone, proven=BOTH)
    assert read_link(seen, (), RULES, NOW).dead == "LINK_DOWN"


def test_an_upstream_that_refuses_at_once_makes_no_link_suspect() -> None:
    refused = tuple(sent(99.0 + n / 10, "connect", False, "connect", 0.01) for n in range(9))
    seen = Seen(refused, heard=Mono(98.9), proven=frozenset({"gpc", *BOTH}))
    reading = read_link(seen, (), RULES, NOW)
    assert (reading.overdue, reading.unanswered) == (False, 9)


def test_a_doubted_anchor_is_no_first_sign_of_trouble() -> None:
    ring = [probe("echo", at) for at in (97.0, 97.5, 98.0)]
    assert is_doubted(ring, Mono(98.4))
    assert not is_doubted(ring, Mono(97.7))
    assert not is_doubted(ring[1:], Mono(98.4))
    seen = Seen([probe("echo", 99.0)], (), Mono(98.9), None, BOTH, frozenset({"echo"}))
    assert not read_link(seen, (), RULES, NOW).overdue


def test_wrong_content_twice_from_an_anchor_is_a_portal_until_right_content_comes() -> None:
    wrong = [probe("echo", at, detail="not_the_api") for at in (98.0, 98.5)]
    assert is_captive([wrong])
    assert not is_captive([wrong[:1]])
    assert not is_captive([[*wrong, probe("echo", 99.5, ok=True)]])
    assert not is_captive([wrong, [probe("other", 99.5, ok=True)]])
    assert is_captive([wrong, [probe("broker", 99.5, ok=True, layer="tls")]])


def path(samples: tuple[Sample, ...], heard: float = 99.9, since: float = 0.0) -> PathReading:
    return read_path(samples, Mono(heard), Mono(since), RULES, NOW)


def test_failures_are_blamed_only_if_the_link_was_heard_after_they_left() -> None:
    hung = tuple(sent(at, "timeout", took=1.0) for at in (97.0, 98.0, 98.5))
    assert path(hung).failures == 3
    assert path(hung, heard=98.2).failures == 2
    assert path(hung, heard=96.0).failures == 0
    assert path(hung, heard=96.0).doubts == 3
    assert path(hung, since=97.5).failures == 2


def test_a_burst_of_silent_failures_may_be_one_gap_but_503s_may_not() -> None:
    burst = tuple(sent(98.0 + n / 10, "timeout", took=0.5) for n in range(5))
    assert path(burst).failures == 0
    unwell = tuple(sent(98.0 + n / 10, "503") for n in range(5))
    assert (path(unwell).failures, path(unwell).unwell) == (5, 5)


def test_any_answer_that_is_not_unwell_ends_the_row() -> None:
    for detail in ("200", "404", "400", "500", "429"):
        reading = path((sent(97.0, "503"), sent(98.0, detail), sent(99.0, "503")))
        assert (reading.failures, reading.good_at) == (1, 98.05)


def test_a_status_that_came_with_a_page_is_no_answer_and_others_are() -> None:
    def page(at: float) -> tuple[Sample, ...]:
        return (sent(at, "200", took=0.02),
                sent(at - 0.001, "not_the_api", False, "http", took=0.022))

    pages = tuple(sample for n in range(5) for sample in page(98.0 + n / 10))
    reading = path(pages)
    assert (reading.failures, reading.foreign, reading.good_at) == (5, True, None)
    mixed = path((*pages, sent(98.6, "200")))
    assert (mixed.failures, mixed.foreign) == (0, False)
    assert mixed.good_at == pytest.approx(98.65)
    unlike = path((*pages, sent(98.6, "503")))
    assert (unlike.failures, unlike.foreign) == (6, False)


def test_old_failures_do_not_count_and_two_samples_of_one_send_count_once() -> None:
    assert path(tuple(sent(80.0 + n, "503") for n in range(5))).failures == 0
    twice = (sent(99.0, "connect", False, "connect"), sent(99.0, "connect", False, "request"))
    assert path(twice).doubts == 1


GOOD = PathReading(good_at=Mono(99.5), tried_at=Mono(99.5))
FAILING = PathReading(tried_at=Mono(99.5), failures=3, doubts=3)
UNWELL = PathReading(tried_at=Mono(99.5), failures=3, unwell=3, doubts=3)


def judged(fibre: PathReading, sim: PathReading, before: tuple[Verdict, ...] = (),
           links: tuple[str, ...] = ("fibre", "sim")) -> list[tuple[str, str]]:
    paths = {("fibre", "gpc"): fibre, ("sim", "gpc"): sim}
    found = judge(before, ("gpc",), links, paths, RULES, NOW)
    return [(verdict.kind, verdict.link) for verdict in found]


def test_the_table_of_path_verdicts() -> None:
    assert judged(GOOD, GOOD) == []
    assert judged(PathReading(), PathReading()) == []
    assert judged(FAILING, FAILING) == [("UPSTREAM_DOWN", "")]
    assert judged(UNWELL, PathReading()) == [("UPSTREAM_DOWN", "")]
    assert judged(FAILING, PathReading()) == []  # the other path is asked first
    assert judged(FAILING, PathReading(), links=("fibre",)) == [("UPSTREAM_DOWN", "")]
    assert judged(FAILING, GOOD) == [("ROUTE_FAULT", "fibre")]
    assert judged(GOOD, FAILING) == [("ROUTE_FAULT", "sim")]
    nameless = PathReading(tried_at=Mono(99.5), failures=3, doubts=3, nameless=True)
    assert judged(nameless, GOOD) == [("DNS_FAULT", "fibre")]
    assert judged(nameless, PathReading(), links=("fibre",)) == []  # its resolvers are in trouble
    assert judged(nameless, nameless) == [("UPSTREAM_DOWN", "")]
    page = PathReading(tried_at=Mono(99.5), failures=3, doubts=3, foreign=True)
    assert judged(page, GOOD) == [("CAPTIVE", "fibre")]
    assert judged(page, page) == [("UPSTREAM_DOWN", "")]
    forged = PathReading(tried_at=Mono(99.5), doubts=1, wrong_peer=True)
    assert judged(forged, GOOD) == [("TLS_INTERCEPT", "fibre")]
    assert judged(forged, forged) == [("TLS_INTERCEPT", "fibre"), ("TLS_INTERCEPT", "sim")]


def test_no_verdict_is_reached_where_no_link_is_left() -> None:
    assert judged(FAILING, FAILING, links=()) == []


def test_a_verdict_stands_until_a_success_after_it() -> None:
    down = Verdict("UPSTREAM_DOWN", "", "gpc", Mono(99.0))
    assert judged(PathReading(), PathReading(), (down,)) == [("UPSTREAM_DOWN", "")]
    before = PathReading(good_at=Mono(98.0))
    assert judged(before, PathReading(), (down,)) == [("UPSTREAM_DOWN", "")]
    assert judged(GOOD, PathReading(), (down,)) == []
    portal = Verdict("CAPTIVE", "fibre", "gpc", Mono(99.0))
    assert judged(PathReading(), GOOD, (portal,)) == [("CAPTIVE", "fibre")]
    assert judged(GOOD, GOOD, (portal,)) == []
    fault = Verdict("ROUTE_FAULT", "fibre", "gpc", Mono(99.0))
    assert judged(PathReading(), GOOD, (fault,)) == [("ROUTE_FAULT", "fibre")]
    assert judged(GOOD, GOOD, (fault,)) == []
    assert judged(PathReading(), GOOD, (fault,), links=("sim",)) == []


def test_each_verdict_is_told_once_when_it_is_reached_and_once_when_it_is_over() -> None:
    fault = Verdict("ROUTE_FAULT", "fibre", "gpc", Mono(90.0))
    (new,) = changes((), (fault,), NOW)
    assert (new.over, changes((fault,), (fault,), NOW)) == (False, ())
    (over,) = changes((fault,), (), NOW)
    assert (over.over, over.lasted_s) == (True, 10.0)


def test_a_silent_resolver_on_a_link_that_is_heard_is_a_dns_fault_until_it_answers() -> None:
    def lookup(at: float, ok: bool) -> Sample:
        return Sample("fibre", "own", "dns", ok, Mono(at), Mono(at + 0.8), detail="resolve")

    row = [lookup(97.0, False), lookup(98.0, False), lookup(99.0, False)]
    fault = silent_resolver((), "fibre", {"own": row}, Mono(99.1))
    assert fault == Verdict("DNS_FAULT", "fibre", "", Mono(99.8), (("lookups", 3),))
    assert silent_resolver((), "fibre", {"own": row}, Mono(98.9)) is None
    assert silent_resolver((), "fibre", {"own": row[1:]}, Mono(99.1)) is None
    later = [*row[1:], lookup(99.5, False)]
    assert silent_resolver((fault,), "fibre", {"own": later}, Mono(99.1)) is fault
    assert silent_resolver((fault,), "fibre", {"own": [*row, lookup(99.6, True)]},
                           Mono(99.7)) is None


def other(at: float, ok: bool) -> Sample:
    return Sample("fibre", "other", "dns", ok, Mono(at), Mono(at + 0.05))


def test_where_another_resolver_is_silent_over_the_link_too_names_are_not_its_own_resolvers_fault(
        ) -> None:
    own = [Sample("fibre", "own", "dns", False, Mono(at), Mono(at + 0.8), detail="resolve")
           for at in (97.0, 98.0, 99.0)]
    both = {"own": own, "other": [other(99.0, False)]}
    assert silent_resolver((), "fibre", both, Mono(99.9)) is None
    assert silent_resolver((), "fibre", {"own": own, "other": [other(99.0, True)]}, Mono(99.9))


def test_where_no_name_comes_over_a_link_that_is_heard_and_one_does_over_another_it_is_its_fault(
        ) -> None:
    """Somebody swallows port 53 on it. An answer from before the trouble proves nothing."""
    own = [Sample("fibre", "own", "dns", False, Mono(at), Mono(at + 0.8), detail="resolve")
           for at in (97.0, 98.0, 99.0)]
    both = {"own": own, "other": [other(99.0, False)]}
    assert silent_resolver((), "fibre", both, Mono(99.9), Mono(97.5))
    assert silent_resolver((), "fibre", both, Mono(99.9), Mono(96.9)) is None
    assert silent_resolver((), "fibre", both, Mono(98.9), Mono(97.5)) is None


def faults(rungs: dict[int, Sample] | None = None, sums: Sums | None = None,
           paths: tuple[Verdict, ...] = (), before: tuple[Verdict, ...] = ()) -> list[str]:
    found = link_faults(before, "fibre", {}, rungs or {}, sums or Sums(), NOW, paths, NOW)
    return [verdict.kind for verdict in found]


def rung(size: int, ok: bool) -> tuple[int, Sample]:
    return size, Sample("fibre", "echo", "size", ok, Mono(99.0), Mono(99.1), True, size=size)


def test_small_packets_pass_and_large_ones_do_not_is_a_hole() -> None:
    assert faults(dict([rung(64, True), rung(1200, True), rung(1400, False)])) == ["MTU_HOLE"]
    assert faults(dict([rung(64, True), rung(1200, False), rung(1400, True)])) == []
    assert faults(dict([rung(64, False), rung(1400, False)])) == []
    assert faults(dict([rung(64, True), rung(1472, True)])) == []


def holes(*rungs: tuple[int, Sample], before: tuple[Verdict, ...] = (), at: float = 100.0
          ) -> tuple[Verdict, ...]:
    return tuple(verdict for verdict in link_faults(
        before, "fibre", {}, dict(rungs), Sums(), NOW, (), Mono(at)) if verdict.kind == "MTU_HOLE")


def test_a_hole_that_grows_is_told_anew_with_what_passes_now() -> None:
    first = holes(rung(64, True), rung(1200, True), rung(1400, False), rung(1500, False))
    assert dict(first[0].evidence) == {"passes_bytes": 1200, "lost_bytes": 1400}
    same = holes(rung(64, True), rung(1200, True), rung(1400, False), rung(1500, False),
                 before=first, at=160.0)
    assert same == first
    grown = holes(rung(64, True), rung(1200, False), rung(1400, False), rung(1500, False),
                  before=first, at=220.0)
    assert dict(grown[0].evidence) == {"passes_bytes": 64, "lost_bytes": 1200}
    assert [(each.over, dict(each.verdict.evidence)["passes_bytes"])
            for each in changes(first, grown, Mono(220.0))] == [(True, 1200), (False, 64)]
    assert changes(first, same, Mono(160.0)) == ()


def test_a_hole_as_pppoe_makes_is_found_and_a_small_device_is_none() -> None:
    pppoe = holes(*(rung(size, size <= 1492) for size in LADDER))
    assert dict(pppoe[0].evidence) == {"passes_bytes": 1472, "lost_bytes": 1500}
    known = {size: rung(size, size <= 1428)[1] for size in LADDER}
    assert holes(*((size, each if each.ok else replace(each, detail=TOO_LONG))
                   for size, each in known.items())) == ()


def test_a_wrong_certificate_for_two_upstreams_is_the_links_and_for_one_the_paths() -> None:
    one = Verdict("TLS_INTERCEPT", "fibre", "gpc", NOW)
    two = Verdict("TLS_INTERCEPT", "fibre", "bars", NOW)
    elsewhere = Verdict("TLS_INTERCEPT", "sim", "bars", NOW)
    assert faults(paths=(one, elsewhere)) == []
    assert faults(paths=(one, two)) == ["TLS_INTERCEPT"]
    # The same two over the other link: their certificates are wrong, or our clock is; no link is.
    assert faults(paths=(one, two, elsewhere)) == ["TLS_INTERCEPT"]
    assert faults(paths=(one, two, elsewhere, replace(one, link="sim"))) == []


def test_a_brown_out_stands_until_both_sums_are_low_again() -> None:
    assert faults(sums=Sums(loss=LOSS_LIMIT)) == ["BROWNOUT"]
    assert faults(sums=Sums(rtt=RTT_LIMIT)) == ["BROWNOUT"]
    assert faults(sums=Sums(loss=LOSS_LIMIT - 0.1)) == []
    standing = (Verdict("BROWNOUT", "fibre", "", Mono(90.0)),)
    assert faults(sums=Sums(loss=LOSS_LIMIT - 0.1), before=standing) == ["BROWNOUT"]
    assert faults(sums=Sums(loss=LOSS_LIMIT / 2 - 0.1), before=standing) == []


def echo(at: float) -> Sample:
    return Sample("fibre", "echo", "echo", False, Mono(at), Mono(at + 0.15), True,
                  detail="timeout")


def test_one_missed_echo_makes_a_link_suspect_and_two_where_loss_is_everyday() -> None:
    seen = Seen((echo(99.5),), heard=Mono(99.4), proven=BOTH)
    assert read_link(seen, (), RULES, NOW, Measure()).overdue
    assert not read_link(seen, (), RULES, NOW, Measure(in_a_row=2)).overdue
    two = Seen((echo(99.5), echo(99.6)), heard=Mono(99.4), proven=BOTH)
    assert read_link(two, (), RULES, NOW, Measure(in_a_row=2)).overdue
    under_way = Seen((), [Asked("echo", Mono(99.84), layer="echo")], Mono(99.8), proven=BOTH)
    assert read_link(under_way, (), RULES, NOW, Measure()).overdue
    assert not read_link(under_way, (), RULES, NOW, Measure(echo_late_s=0.2)).overdue


def test_a_gate_that_fired_makes_a_link_suspect_and_is_no_probe_of_its_own() -> None:
    fired = Sample("fibre", "gpc", "ack", False, Mono(99.8), Mono(99.9), detail="unacked")
    seen = Seen((fired,), heard=Mono(99.7), proven=frozenset({"gpc", *BOTH}))
    reading = read_link(seen, (), RULES, NOW, Measure())
    assert (reading.overdue, reading.unanswered) == (True, 0)
    acked = Sample("fibre", "gpc", "ack", True, Mono(99.8), Mono(99.95))
    assert is_heard(acked)


@pytest.mark.parametrize("by", [
    Measure(age_s=2.0), Measure(loss=0.4), Measure(age_s=1.5, loss=0.4, burst_s=5.0)])
def test_death_needs_the_silence_and_the_likelihood_alike(by: Measure) -> None:
    seen = Seen(SILENCE, heard=Mono(98.0), proven=BOTH)
    assert read_link(seen, (), RULES, NOW, Measure()).dead == "BLACKHOLE"
    assert read_link(seen, (), RULES, NOW, by).dead == ""


def test_a_prior_brings_the_likelihood_forward_and_never_the_silence() -> None:
    seen = Seen(SILENCE, heard=Mono(98.0), proven=BOTH)
    assert read_link(seen, (), RULES, NOW, Measure(loss=0.4, carried=10.0)).dead == "BLACKHOLE"
    assert read_link(seen, (), RULES, NOW, Measure(age_s=2.0, carried=100.0)).dead == ""


def test_an_echo_that_is_forged_is_a_portals_and_no_silence() -> None:
    forged = tuple(Sample("fibre", "echo", "echo", False, Mono(at), Mono(at + 0.1), True,
                          detail="forged") for at in (99.0, 99.3))
    assert is_captive([forged])
    assert not is_captive([forged[:1]])
    assert not read_link(Seen(forged, heard=Mono(98.0), proven=BOTH), (), RULES, NOW).unanswered


def test_two_slow_upstreams_alone_make_no_link_suspect() -> None:
    asked = [Asked("gpc", Mono(99.0), False), Asked("bars", Mono(99.0), False)]
    proven = frozenset({"gpc", "bars", *BOTH})
    reading = read_link(Seen((), asked, Mono(98.9), proven=proven), (), RULES, NOW)
    assert (reading.overdue, reading.unanswered) == (False, 2)
    with_anchor = [*asked, Asked("echo", Mono(99.7))]
    assert read_link(Seen((), with_anchor, Mono(98.9), proven=proven), (), RULES, NOW).overdue
