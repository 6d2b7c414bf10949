"""One link's detector on echoes alone: how soon it judges a death, what it learns and holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.link import Circumstances, Link, LinkRules, LinkTurned, Probe, Sample, resumed
from gateway.core.silence import Learned
from gateway.core.verdict import Stalls

ANCHORS = tuple(Probe(name, "echo", "192.0.2.1:7007") for name in ("north", "south", "hscn"))
LINK = Link("fibre", 1, probes=ANCHORS)
RTT_S = 0.02


@dataclass
class Play:
    """Echoes over a link that ``passes`` at a given time; judged at each piece of news and tick."""

    rules: LinkRules = field(default_factory=lambda: LinkRules(site_jitter_s=0.0))
    link: Link = LINK
    passes: Callable[[float], bool] = lambda at: True
    around: Circumstances = field(default_factory=Circumstances)
    learned: Learned | None = None

    def __post_init__(self) -> None:
        self.now = 0.0
        self.detector = Detector(self.link, ("gpc",), self.rules,
                                 resumed("fibre", "", "", Mono(0.0)), self.learned)
        self.told: list[LinkTurned] = []
        self._next, self._n = 0.0, 0
        self._due: list[tuple[float, int, Sample]] = []

    @property
    def state(self) -> str:
        return self.detector.memory.state

    def run(self, until: float) -> "Play":
        while self.now < until:
            self.now = round(self.now + 0.01, 6)
            self._receive()
            if self.now >= self._next:
                self._ask()
            if round(self.now * 100) % 5 == 0:
                self.judge()
        return self

    def _ask(self) -> None:
        calm = self.state == "UP" and not self.detector.reading.unanswered
        self._next = self.now + (0.25 if calm else 0.1)
        name = ANCHORS[self._n % len(ANCHORS)].id
        token, sent = self.detector.asked(name, Mono(self.now)), self.now
        ok = self.passes(sent) and self.passes(sent + RTT_S / 2)
        at = sent + (RTT_S if ok else 0.8)
        self._n += 1
        self._due.append((at, token, Sample("fibre", name, "echo", ok, Mono(sent), Mono(at), True,
                                            RTT_S * 1000 if ok else None,
                                            "" if ok else "timeout", self._n)))

    def _receive(self) -> None:
        for each in [one for one in self._due if one[0] <= self.now]:
            self._due.remove(each)
            self.detector.answered(each[1])
            if self.detector.see(each[2]):
                self.judge()

    def judge(self) -> None:
        turned = self.detector.judge(self.around, (), Mono(self.now))
        if turned is not None:
            self.told.append(turned)

    def turned_to(self, state: str) -> float:
        return next(turned.at for turned in self.told if turned.after == state)


def test_a_link_is_validated_by_each_kind_of_probe_that_it_has() -> None:
    play = Play().run(1.0)
    assert [turned.after for turned in play.told] == ["VALIDATING", "UP"]
    pinned = Link("fibre", 1, probes=(*ANCHORS, Probe("broker", "tls", "192.0.2.2:8883")))
    unproved = Play(link=pinned).run(5.0)
    assert unproved.state == "VALIDATING"
    unproved.detector.see(Sample("fibre", "broker", "tls", True, Mono(5.0), Mono(5.0), True))
    assert unproved.run(5.2).state == "UP"


def test_a_link_that_is_all_there_is_carries_at_its_first_signed_echo() -> None:
    play = Play(around=Circumstances(alone=True)).run(0.2)
    assert [turned.after for turned in play.told] == ["UP"]


@pytest.mark.parametrize("cut", [10.0 + n * 0.017 for n in range(20)])
def test_a_black_hole_is_judged_within_the_silence_and_half_a_second(cut: float) -> None:
    fresh = Play(passes=lambda at: at < cut).run(cut + 3.0)
    assert 1.5 <= fresh.turned_to("DOWN") - cut + 0.3 < 2.2
    told = LinkRules(gap_mean_s=0.1, gaps_a_day=200.0, site_jitter_s=0.0)
    learned = Play(rules=told, passes=lambda at: at < cut).run(cut + 3.0)
    assert learned.turned_to("DOWN") - cut < 1.35
    assert learned.turned_to("SUSPECT") - cut < 0.45


def test_every_silence_shorter_than_its_age_is_a_gap_that_is_learned() -> None:
    play = Play(passes=lambda at: not 10.0 <= at % 30.0 < 11.0).run(301.0)
    assert "DOWN" not in [turned.after for turned in play.told]
    day = play.detector.learned.days[-1]
    assert day.gaps == 10
    assert day.tails == 10
    assert (day.from_s + day.lost_s) / day.tails == pytest.approx(0.9, abs=0.15)
    assert day.watched_s == pytest.approx(300.0, abs=61.0)


def test_the_site_jitter_and_what_the_comb_adds_make_a_silence_longer() -> None:
    plain = Detector(LINK, (), LinkRules(), resumed("fibre", "", "", Mono(0.0)))
    late = Detector(LINK, (), LinkRules(), resumed("fibre", "", "", Mono(0.0)), extra_s=0.2)
    assert plain.measure().age_s == pytest.approx(1.5 + LinkRules().probe_suspect_every_s / 2)
    assert late.measure().age_s == pytest.approx(plain.measure().age_s + 0.2)


def test_a_hold_counts_answers_and_ends_with_a_gap() -> None:
    play = Play(passes=lambda at: not 10.0 <= at < 14.0 and not 40.0 <= at < 42.5).run(76.0)
    assert [turned.after for turned in play.told][2:] == [
        "SUSPECT", "DOWN", "PROBATION", "DOWN", "PROBATION"]
    assert play.detector.memory.episodes == (play.turned_to("DOWN"),)
    play.run(110.0)
    assert play.state == "UP"


def test_a_hold_with_losses_is_not_good() -> None:
    lossy = Play(passes=lambda at: not 10.0 <= at < 14.0 and not (at > 14.0 and int(at * 10) % 9
                                                                   == 0)).run(120.0)
    assert lossy.state != "UP"


def test_what_a_death_swallowed_makes_no_brown_out() -> None:
    play, sums = Play(passes=lambda at: not 10.0 <= at < 16.0), set()
    for tenth in range(300):
        play.run(tenth / 10)
        if play.now > 10.0 and play.state in ("DOWN", "PROBATION"):
            sums.add(play.detector.sums.loss)
    assert [turned.after for turned in play.told][2:5] == ["SUSPECT", "DOWN", "PROBATION"]
    assert sums == {0.0}


def test_carrier_loss_is_death_at_once_and_nothing_else_is() -> None:
    play = Play().run(5.0)
    gone = Sample("fibre", "fibre", "carrier", False, Mono(5.0), Mono(5.0), detail="carrier")
    assert play.detector.see(gone)
    play.judge()
    assert (play.state, play.told[-1].cause) == ("DOWN", "LINK_DOWN")
    assert dict(play.told[-1].evidence)["unanswered"] == 0


def test_a_death_brings_its_evidence() -> None:
    play = Play(passes=lambda at: at < 10.0).run(14.0)
    evidence = dict(play.told[-1].evidence)
    assert evidence.keys() >= {"silence_s", "unanswered", "targets", "likelihood", "age_s",
                               "mean_gap_s", "gaps_a_day", "loss"}
    assert float(evidence["likelihood"]) >= 12.0
    assert float(evidence["unanswered"]) >= 6


def test_forged_echoes_quarantine_a_link_until_it_signs_again() -> None:
    play = Play().run(5.0)
    for n in range(2):
        at = Mono(5.1 + n / 10)
        play.detector.see(Sample("fibre", "north", "echo", False, at, at, True, detail="forged"))
    play.judge()
    assert (play.state, play.told[-1].cause) == ("QUARANTINED", "CAPTIVE")
    play.run(6.0)
    assert play.state == "PROBATION"


def test_an_echo_is_late_after_four_usual_round_trips() -> None:
    detector = Detector(LINK, (), LinkRules(), resumed("fibre", "", "", Mono(0.0)))
    assert detector.echo_late_s == 0.15
    for n in range(64):
        at = Mono(float(n))
        detector.see(Sample("fibre", "north", "echo", True, at, at, True, 90.0))
    assert detector.echo_late_s == pytest.approx(0.36)


class Unhurried(Detector):
    """Reads everything at each judgement, also where nothing was seen since the last one."""

    def judge(self, around: Circumstances, stalls: Stalls, now: Mono, prior: float = 0.0,
              foreign: str = "") -> LinkTurned | None:
        self._judged = None
        return super().judge(around, stalls, now, prior, foreign)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_skipped_while_nothing_happens_changes_no_turn_and_nothing_learned(seed: int
                                                                               ) -> None:
    """Two minutes with bursts of 0.1 to 3 s and some lone losses, and at least one death."""
    rng = Random(seed)
    cuts = [(7.0, 10.0), *((at, at + rng.choice((0.1, 0.3, 0.9, 3.0)))
                           for at in range(18, 120, 11))]

    def passes(at: float) -> bool:
        lone = hash((seed, round(at, 2))) % 97 == 0
        return not lone and not any(begin <= at < end for begin, end in cuts)

    rules = LinkRules(site_jitter_s=0.0, hold_s=4.0, quiet_s=1.33)  # both end between two ticks
    quick, whole = Play(rules, passes=passes), Play(rules, passes=passes)
    whole.detector = Unhurried(LINK, ("gpc",), whole.rules, resumed("fibre", "", "", Mono(0.0)))
    quick.run(120.0)
    whole.run(120.0)
    assert quick.told == whole.told
    assert {turned.after for turned in quick.told} >= {"SUSPECT", "UP", "PROBATION"}
    assert quick.detector.learned == whole.detector.learned


def test_round_trips_from_before_the_hold_do_not_lengthen_it() -> None:
    play = Play(LinkRules(site_jitter_s=0.0, hold_s=5.0),
                passes=lambda at: not 10.0 <= at < 14.0).run(14.2)
    for n in range(6):  # they waited out the silence and came all at once
        play.detector.see(Sample("fibre", ANCHORS[0].id, "echo", True, Mono(13.0), Mono(14.1), True,
                                 1100.0, seq=n))
    assert play.state == "DOWN"
    assert play.run(14.2 + 5.0 + 0.5).state == "UP"


def test_answers_that_are_counted_and_not_seen_are_signs_of_life_too() -> None:
    play = Play().run(61.0)
    before = play.detector.learned.interval_s
    play.detector.quiet(240)
    play.detector.judge(Circumstances(), (), Mono(121.5))
    assert play.detector.learned.interval_s == pytest.approx(before, abs=0.001)


def test_a_link_is_mute_from_a_gate_that_fired_until_anything_is_heard() -> None:
    play = Play(passes=lambda at: at < 5.0 or at > 6.0).run(5.05)
    assert not play.detector.is_mute
    play.detector.see(Sample("fibre", "gpc", "ack", False, Mono(5.01), Mono(5.1), detail="unacked"))
    assert play.run(5.9).detector.is_mute
    assert not play.run(6.3).detector.is_mute
    # Bytes that left before the last answer came are no sign that the link went silent after it.
    play.detector.see(Sample("fibre", "gpc", "ack", False, Mono(5.5), Mono(6.3), detail="unacked"))
    assert not play.detector.is_mute


@pytest.mark.parametrize(("usual_ms", "now_ms", "brown"), [
    (3.0, 12.0, False), (3.0, 45.0, True), (20.0, 30.0, False), (20.0, 80.0, True)])
def test_a_round_trip_three_times_its_usual_is_a_brown_out_if_anybody_could_feel_it(
        usual_ms: float, now_ms: float, brown: bool) -> None:
    detector = Play().detector
    for n in range(200):
        took, at = (usual_ms if n < 150 else now_ms), n * 0.1
        detector.see(Sample("fibre", "north", "echo", True, Mono(at), Mono(at + took / 1000), True,
                            took, seq=n))
    assert detector.sums.is_brown is brown
