"""One readiness run a local day, and what it says of the morning."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.instant import Mono, Wall
from gateway.core.readiness import (
    DAY_S,
    UNDATED_FIRST_S,
    WORDS,
    Check,
    Found,
    Kind,
    ReadinessRules,
    Report,
    Result,
    day_due,
    day_of,
    findings,
    is_fit,
    is_undated_due,
    opening,
    words,
)

RULES = ReadinessRules()
LINKS = ("fibre", "sim")


def utc(text: str) -> Wall:
    return Wall(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(("wall", "due"), [
    ("2026-11-26T06:29:59", ""), ("2026-11-26T06:30:00", "2026-11-26"),
    ("2026-07-01T05:29:59", ""), ("2026-07-01T05:30:00", "2026-07-01"),  # 06:30 BST
    ("2026-11-26T06:45:00", "2026-11-26"), ("2026-11-26T23:59:59", "2026-11-26"),
    ("2026-11-28T06:30:00", "2026-11-28"),  # a closed Saturday too
    ("2026-10-25T06:29:00", ""), ("2026-10-25T06:30:00", "2026-10-25"),  # 25 hours
    ("2027-03-28T05:29:00", ""), ("2027-03-28T05:30:00", "2027-03-28"),  # 23 hours
])
def test_a_run_is_due_from_half_past_six_in_london(wall: str, due: str) -> None:
    assert day_due(RULES, "2026-01-01", utc(wall)) == due
    assert day_due(RULES, due or "2026-01-01", utc(wall)) == ""


@pytest.mark.parametrize("begin", ["2026-10-22T00:00", "2027-03-25T00:00"])
@pytest.mark.parametrize("lead_s", [5400.0, 21600.0, 23400.0 - 5400.0])
def test_there_is_exactly_one_run_a_day_across_both_clock_changes(begin: str, lead_s: float
                                                                  ) -> None:
    rules = ReadinessRules(lead_s=lead_s, sunday="07:00")  # up to 01:00: within the strange hour
    at, done = datetime.fromisoformat(begin).replace(tzinfo=UTC), ""
    runs: list[str] = []
    for _ in range(7 * 24 * 12):
        day = day_due(rules, done, Wall(at.timestamp()))
        if day:
            runs.append(day)
            done = day
        at += timedelta(minutes=5)
    assert len(runs) == len(set(runs)) == 7


def test_a_start_at_a_quarter_to_seven_runs_at_once_and_a_restart_does_not_again() -> None:
    assert day_due(RULES, "2026-11-25", utc("2026-11-26T06:45")) == "2026-11-26"
    assert day_due(RULES, "2026-11-26", utc("2026-11-26T06:50")) == ""


def test_without_a_trusted_clock_a_run_is_made_soon_and_then_daily() -> None:
    assert not is_undated_due(Mono(0.0), None, Mono(UNDATED_FIRST_S - 1))
    assert is_undated_due(Mono(0.0), None, Mono(UNDATED_FIRST_S))
    assert not is_undated_due(Mono(0.0), Mono(900.0), Mono(900.0 + DAY_S - 1))
    assert is_undated_due(Mono(0.0), Mono(900.0), Mono(900.0 + DAY_S))


def test_each_weekday_has_its_own_opening() -> None:
    rules = ReadinessRules(monday="07:15")
    assert opening(rules, utc("2026-11-23T00:00")) == (7.25, True)
    assert opening(rules, utc("2026-11-24T00:00")) == (8.0, True)
    assert opening(rules, utc("2026-11-28T00:00")) == (8.0, False)
    assert day_due(rules, "", utc("2026-11-23T05:44")) == ""
    assert day_due(rules, "", utc("2026-11-23T05:45")) == "2026-11-23"


def path(link: str, upstream: str, result: Result, kind: Kind = "tls") -> Check:
    return Check(kind, link, upstream, result)


def report(*checks: Check) -> Report:
    return Report("2026-11-26", "opening", Wall(0.0), 1.0, checks,
                  findings(checks, LINKS, ("gpc",)))


ECHO = (Check("echo", "fibre", "", "pass"), Check("echo", "sim", "", "pass"))


@pytest.mark.parametrize(("fibre", "sim", "found"), [
    ("pass", "pass", ()),
    ("fail", "fail", (Found("no_way", "", "gpc"),)),
    ("fail", "pass", (Found("backup_only", "fibre", "gpc"),)),
    ("pass", "fail", (Found("no_backup", "fibre", "gpc"),)),
    ("pass", "unknown", (Found("no_backup", "fibre", "gpc"),)),  # not known is not good
    ("unknown", "not_configured", (Found("no_way", "", "gpc"),)),
])
def test_what_will_not_work_is_found_per_upstream(fibre: Result, sim: Result,
                                                  found: tuple[Found, ...]) -> None:
    told = report(*ECHO, path("fibre", "gpc", fibre), path("sim", "gpc", sim))
    assert told.found == found
    assert told.is_ready == (not found)


def test_one_failed_part_of_a_path_spoils_it() -> None:
    told = report(path("fibre", "gpc", "pass"), path("fibre", "gpc", "fail", "canary"),
                  path("sim", "gpc", "pass"))
    assert told.found == (Found("backup_only", "fibre", "gpc"),)


@pytest.mark.parametrize(("check", "found"), [
    (Check("echo", "sim", "", "fail"), Found("dead_link", "sim")),
    (Check("dns", "fibre", "", "fail"), Found("no_names", "fibre")),
    (Check("size", "fibre", "", "fail"), Found("large_packets", "fibre")),
    (Check("quota", "sim", "", "fail"), Found("quota", "sim")),
    (Check("clock", "", "", "fail"), Found("clock")),
    (Check("disk", "", "", "fail"), Found("disk")),
    (Check("certificate", "fibre", "gpc", "fail"), Found("certificate", "", "gpc")),
])
def test_what_else_is_wrong_is_found_and_does_not_keep_the_surgery_shut(check: Check,
                                                                        found: Found) -> None:
    told = report(path("fibre", "gpc", "pass"), path("sim", "gpc", "pass"), check)
    assert told.found == (found,)
    assert told.is_ready


@pytest.mark.parametrize("skipped", ["unknown", "not_configured"])
def test_what_could_not_be_asked_is_not_called_bad(skipped: Result) -> None:
    told = report(path("fibre", "gpc", "pass"), path("sim", "gpc", "pass"),
                  Check("sip", "", "", skipped), Check("size", "sim", "", skipped))
    assert told.found == ()


@pytest.mark.parametrize(("fibre", "sim", "fit"), [
    ("pass", "pass", True), ("fail", "pass", False), ("unknown", "pass", False),
    ("fail", "fail", True),  # the upstream's own fault
])
def test_a_link_is_fit_when_it_reaches_what_any_link_reaches(fibre: Result, sim: Result,
                                                             fit: bool) -> None:
    told = report(*ECHO, path("fibre", "gpc", fibre), path("sim", "gpc", sim))
    assert is_fit(told, "fibre", LINKS) == fit


@pytest.mark.parametrize("kind", ["echo", "size"])
def test_a_link_without_echo_or_with_a_hole_is_not_fit(kind: Kind) -> None:
    told = report(path("fibre", "gpc", "pass"), path("sim", "gpc", "pass"),
                  Check(kind, "fibre", "", "fail"))
    assert not is_fit(told, "fibre", LINKS)
    assert is_fit(told, "sim", LINKS)


def test_nothing_asked_is_not_fit() -> None:
    assert not is_fit(report(), "fibre", LINKS)


def test_every_code_has_a_sentence_that_names_what_it_is_about() -> None:
    assert words(Found("no_way", "", "gpc")).startswith("gpc cannot be reached on any line")
    for code in WORDS:
        told = words(Found(code, "fibre", "gpc"))
        assert "{" not in told
        assert told.endswith(".")


def test_a_run_that_a_person_asked_for_does_not_take_the_mornings_place() -> None:
    assert day_of("asked", None, Wall(1_795_000_000.0)) == ""
    assert day_of("opening", None, Wall(1_795_000_000.0)) == "2026-11-18"
