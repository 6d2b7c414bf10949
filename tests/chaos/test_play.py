"""What a play makes of what it saw: pure parts, each fed what must show."""

from dataclasses import replace
from typing import Any

from chaos.observed import Move, Sent
from chaos.picture import Span
from chaos.play import Watch, history, link_spans, mark, not_left, shortcomings, weather_spans
from chaos.story import ALWAYS, Phase, Story
from chaos.weather import (
    Cut,
    Flap,
    Heal,
    Slow,
    UpstreamGone,
    UpstreamHung,
    UpstreamStatus,
    Verb,
)

SENT = Sent(1, 10.0, 0.02, "normal", "B81001", "gpc-B81001", "gpc:B81001", "desk", "patient", "k1",
            "t1", is_read=True, opted_in=True, status=200, whole=True, answer_class="live",
            link="fibre")
STORY = Story("s", "A story.", (Phase("normal", 5.0), Phase("dark", 5.0, cut_off=True)), ALWAYS,
              switches_max=1)


def copy_of(sent: Sent, **changes: object) -> Sent:
    return replace(sent, **changes)  # type: ignore[arg-type]  # a test names the fields it means


def test_links_work_until_cut_and_again_once_healed() -> None:
    told = history([(10.0, Cut("fibre")), (20.0, Flap("sim", 1, 1)), (30.0, Heal("fibre"))])
    assert [sorted(part.links) for part in told] == [["fibre", "sim"], ["sim"], [], ["fibre"]]


def test_a_slow_link_still_works() -> None:
    assert history([(10.0, Slow("fibre", 0.3))])[-1].links == {"fibre", "sim"}


def test_an_upstream_is_down_while_any_of_its_faults_lasts() -> None:
    told = history([(1.0, UpstreamStatus("gpc", 503)), (2.0, UpstreamHung("gpc")),
                    (3.0, UpstreamStatus("gpc", 0)), (4.0, UpstreamHung("gpc", hung=False)),
                    (5.0, UpstreamGone("gpc:B81001"))])
    assert [sorted(part.down) for part in told[1:]] == [
        ["gpc"], ["gpc"], ["gpc"], [], ["gpc:B81001"]]


def test_weather_is_drawn_from_its_beginning_to_its_end_or_the_storys() -> None:
    changes: list[tuple[float, Verb]] = [
        (101.0, Cut("fibre")), (103.0, Heal("fibre")), (104.0, UpstreamStatus("gpc", 503))]
    assert weather_spans(changes, 100.0, 9.0) == (
        Span("weather: fibre", 1.0, 3.0, "cut silently"),
        Span("weather: gpc", 4.0, 9.0, "answers 503"))


def test_link_states_last_until_the_next_look_that_differs() -> None:
    states = [(99.0, "fibre", "UP"), (99.0, "sim", "UP"), (105.0, "fibre", "DOWN")]
    assert link_spans(states, 100.0, 9.0) == (
        Span("link fibre", 0.0, 5.0, "UP"), Span("link fibre", 5.0, 9.0, "DOWN"),
        Span("link sim", 0.0, 9.0, "UP"))


async def test_the_watch_notes_each_link_state_once_and_silence_is_no_change() -> None:
    def status(state: str, switches: int) -> dict[str, Any]:
        return {"links": [{"id": "fibre", "state": state, "active": state == "UP"},
                          {"id": "sim", "state": "UP", "active": state != "UP"}],
                "modes": [], "switches": switches, "last_switch": {"cause": "BLACKHOLE"}}

    says = iter(({}, status("UP", 0), {}, status("DOWN", 1), status("DOWN", 1)))

    async def ask() -> dict[str, Any]:
        return next(says)

    watch = Watch(ask)
    for _ in range(5):
        await watch.look()
    assert [state for _, link, state in watch.states if link == "fibre"] == ["UP", "DOWN"]
    assert [state for _, link, state in watch.states if link == "sim"] == ["UP"]
    assert watch.switches == 1


def test_answers_are_drawn_as_what_they_were() -> None:
    assert mark(SENT, 9.0).kind == "live"
    assert mark(copy_of(SENT, link="sim"), 9.0).kind == "backup"
    assert mark(copy_of(SENT, answer_class="as-of"), 9.0).kind == "copy"
    assert mark(copy_of(SENT, whole=False), 9.0).kind == "failed"
    assert mark(copy_of(SENT, status=503, answer_class="", transient=True), 9.0).kind == "refused"
    lost = copy_of(SENT, is_read=False, status=504, answer_class="")
    assert mark(lost, 9.0).kind == "unknown"
    assert mark(copy_of(lost, whole=False), 9.0).kind == "failed"
    assert (mark(SENT, 9.0).at, mark(SENT, 9.0).took_ms) == (1.0, 20.0)


def test_a_known_read_that_is_refused_while_cut_off_falls_short() -> None:
    dark = copy_of(SENT, n=2, at=16.0, phase="dark", status=503, answer_class="", transient=True)
    assert "1 of 1 known reads" in shortcomings(STORY, [SENT, dark], 0)[0]
    assert not shortcomings(STORY, [SENT, copy_of(dark, status=200, answer_class="as-of")], 0)


def test_what_was_never_read_or_has_no_leave_for_copies_is_not_owed() -> None:
    dark = copy_of(SENT, at=16.0, phase="dark", status=503, answer_class="", transient=True)
    for other in (copy_of(dark, key="k2"), copy_of(dark, opted_in=False)):
        assert shortcomings(STORY, [SENT, other], 0) == [
            "no known read was asked for while cut off"]


def test_a_list_that_a_booking_voided_is_not_owed_but_a_patient_is() -> None:
    booking = copy_of(SENT, at=12.0, is_read=False, key="b", status=201)
    for kind, owed in (("appointments", 0), ("slots", 0), ("patient", 1)):
        live = copy_of(SENT, kind=kind)
        dark = copy_of(live, at=16.0, phase="dark", status=503, answer_class="", transient=True)
        found = shortcomings(STORY, [live, booking, dark], 0)
        assert found[0].startswith("1 of 1") == bool(owed), kind
        elsewhere = copy_of(booking, tenant="A20047")
        assert shortcomings(STORY, [live, elsewhere, dark], 0)[0].startswith("1 of 1"), kind


def test_more_switches_than_the_story_allows_fall_short() -> None:
    dark = copy_of(SENT, at=16.0, phase="dark", answer_class="as-of")
    assert shortcomings(STORY, [SENT, dark], 2) == ["2 switches of links, at most 1 wanted"]


def test_a_story_of_announced_work_demands_that_traffic_left_before_the_first_cut() -> None:
    story = replace(STORY, leaves_before=True)
    cut = [(10.0, Cut("fibre"))]

    def moved(at: float, cause: str = "MAINTENANCE") -> list[Move]:
        return [Move(at, "switch", "fibre", "sim", cause=cause)]

    assert not not_left(story, moved(9.0), cut)
    assert not not_left(STORY, [], cut)
    for moves in ([], moved(11.0), moved(9.0, "BLACKHOLE")):
        assert not_left(story, moves, cut) == [
            "traffic had not left for the announced work before the link was cut"]
