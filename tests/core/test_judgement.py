"""Verdicts on upstreams and paths from what the detectors hold, and how long they stand."""

from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.judgement import Judgement
from gateway.core.link import Link, LinkMemory, LinkRules, LinkState, Probe, Sample

RULES = LinkRules()


class Bench:
    """Two links that are up, and one upstream, ``gpc``; ``provable`` unless told otherwise."""

    def __init__(self, provable: bool = True) -> None:
        self.now = 100.0
        self.judgement = Judgement(("gpc",), RULES)
        self.detectors = {link: Detector(
            Link(link, 1, probes=(Probe("north", "echo", "192.0.2.1:7007"),)), ("gpc",), RULES,
            LinkMemory(link, Mono(0.0), Mono(0.0), "UP")) for link in ("fibre", "sim")}
        self.provable = frozenset({"gpc"}) if provable else frozenset()

    def ask(self, link: str, detail: str, n: int = 1, took: float = 0.05) -> bool:
        """``n`` requests a fifth of a second apart; return whether the last one was news."""
        is_news = False
        for _ in range(n):
            ok = detail.isdigit()
            sample = Sample(link, "gpc", "request", ok, Mono(self.now), Mono(self.now + took),
                            rtt_ms=took * 1000 if ok else None, detail=detail)
            self.now += max(0.2, took)
            is_news = self.judgement.see(sample)
            self.detectors[link].see(sample)
        return is_news

    def judge(self) -> list[tuple[str, str, bool]]:
        told = self.judgement.judge(self.detectors, self.provable, Mono(self.now))
        return [(each.verdict.kind, each.verdict.link, each.over) for each in told]

    def state(self, link: str, state: LinkState) -> None:
        memory = self.detectors[link].memory
        self.detectors[link].memory = LinkMemory(link, memory.since, memory.clean_since, state)


def test_an_upstream_is_down_until_it_answers_and_what_failed_meanwhile_is_explained() -> None:
    it = Bench()
    it.ask("fibre", "200", 5)
    assert it.judge() == []
    it.ask("fibre", "503", 3)
    assert it.judge() == [("UPSTREAM_DOWN", "", False)]
    assert it.judgement.ails("gpc") == "UPSTREAM_DOWN"
    assert it.judgement.stands("UPSTREAM_DOWN", "", "gpc")
    assert not it.judgement.stands("UPSTREAM_DOWN", "fibre", "gpc")
    it.ask("fibre", "503", 3)
    it.ask("sim", "200")
    assert it.judge() == [("UPSTREAM_DOWN", "", True)]
    assert it.judge() == [], "what failed while it was down is no fault of the path"


def test_only_what_could_change_a_verdict_is_news() -> None:
    it = Bench()
    assert not it.ask("fibre", "200", 3)
    it.judge()
    assert not it.ask("fibre", "200")
    it.ask("fibre", "503")
    it.judge()
    assert it.ask("fibre", "200"), "it ends a doubt"
    it.judge()
    it.ask("fibre", "503", 3)
    it.judge()
    assert it.ask("sim", "200"), "it lifts the verdict"


def test_a_path_that_fails_where_another_works_is_faulty_and_doubtful_before() -> None:
    it = Bench()
    it.ask("sim", "200", 2)
    it.ask("fibre", "reset", 4)  # a fifth of a second apart: more than one gap
    it.ask("sim", "200")
    it.detectors["fibre"].heard = Mono(it.now)
    assert it.judge() == [("ROUTE_FAULT", "fibre", False)]
    assert it.judgement.faulty("gpc") == it.judgement.doubtful("gpc") == {"fibre"}
    assert it.judgement.faulty("bars") == it.judgement.doubtful("bars") == frozenset()
    it.state("fibre", "DOWN")
    assert it.judge() == [("ROUTE_FAULT", "fibre", True)], "a dead link has no faulty paths"


def test_an_interceptor_stands_while_its_link_is_out_if_a_canary_goes_on_looking() -> None:
    for provable in (True, False):
        it = Bench(provable)
        it.ask("fibre", "certificate")
        assert it.judge() == [("TLS_INTERCEPT", "fibre", False)]
        assert it.judgement.foreign("fibre") == "", "of one upstream only: the link itself is not"
        it.state("fibre", "QUARANTINED")
        assert it.judge() == ([] if provable else [("TLS_INTERCEPT", "fibre", True)])


def test_a_slow_upstream_is_not_named_while_a_link_that_brings_it_is_in_doubt() -> None:
    it = Bench()
    it.ask("fibre", "200", 30)
    it.ask("fibre", "200", 5, took=2.0)
    it.detectors["fibre"].reading = type(it.detectors["fibre"].reading)(None, 0, overdue=True)
    assert it.judge() == []
    it.detectors["fibre"].reading = type(it.detectors["fibre"].reading)(None, 0)
    assert it.judge() == [("UPSTREAM_SLOW", "", False)]
    it.ask("fibre", "200", 2)
    assert it.judge() == [("UPSTREAM_SLOW", "", True)]
