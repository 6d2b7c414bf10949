"""Announced work against the running daemon: a calendar's file and a window by hand, really left
and really returned from, and only after a readiness run."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.kit.gateway import Site, link, one_link_tables
from tests.kit.raw_origin import RawOrigin

CALENDAR = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//supplier//works//EN\r
BEGIN:VEVENT\r
UID:1@supplier\r
DTSTAMP:20260101T000000Z\r
DTSTART:{start:%Y%m%dT%H%M%SZ}\r
DTEND:{end:%Y%m%dT%H%M%SZ}\r
SUMMARY:Planned work\r
END:VEVENT\r
END:VCALENDAR\r
"""


def tables(origin: int, anchor: int, works: Path) -> dict[str, Any]:
    made = one_link_tables(origin, (anchor, origin))
    address = f"http://127.0.0.1:{origin}/base"
    made["links"] = [link("fibre", 1, (anchor, anchor), source="127.0.0.1"),
                     link("sim", 2, (anchor, anchor), source="127.0.0.2")]
    for each in made["links"]:
        for n, probe in enumerate(each["probes"]):
            probe["target"] = f"127.0.0.{n + 1}:{anchor}"
    made["upstreams"][0] |= {"base_url": address, "base_urls": {}}
    made["judgement"] = {"hold_s": 1.0, "hold_most_s": 1.0}
    made["failback"] = {"step_s": 0.1, "wait_most_s": 0.0}
    made["readiness"] = {"again_s": 1.0}
    made["calendars"] = [{"id": "north", "link": "fibre", "file": str(works), "drain_s": 2.0,
                          "refresh_s": 1.0}]
    return made


async def until(site: Site, is_so: Callable[[dict[str, Any]], bool], within_s: float
                ) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for _ in range(int(within_s / 0.1)):
        told = await site.status()
        if is_so(told):
            return told
        await asyncio.sleep(0.1)
    raise AssertionError({key: told.get(key) for key in ("links", "maintenance", "readiness")})


def active(told: dict[str, Any]) -> str:
    return next((str(each["id"]) for each in told["links"] if each["active"]), "")


def state(told: dict[str, Any], name: str) -> str:
    return next(str(each["state"]) for each in told["links"] if each["id"] == name)


async def test_a_link_is_left_for_its_work_and_returns_after_a_passed_run(tmp_path: Path) -> None:
    works = tmp_path / "works.ics"
    async with RawOrigin() as origin, RawOrigin(host="0.0.0.0") as anchor:
        site = Site(tmp_path / "gw", tables(origin.port, anchor.port, works))
        async with site.running():
            await until(site, lambda told: active(told) == "fibre", 10.0)
            now = datetime.now(UTC)
            works.write_text(CALENDAR.format(start=now + timedelta(seconds=6),
                                             end=now + timedelta(seconds=9)))
            told = await until(site, lambda told: state(told, "fibre") == "DRAINING", 8.0)
            (window,) = told["maintenance"]["windows"]
            assert (window["link"], window["source"]) == ("fibre", "calendar")
            assert told["maintenance"]["refresh_wanted"] is not None
            await until(site, lambda told: active(told) == "sim", 5.0)
            soon = datetime.now(UTC)
            code, said = await site.run_verb(
                "maintenance", "add", "--config", str(site.config), "--link", "sim", "--yes",
                "--start", f"{now + timedelta(seconds=7):%Y-%m-%dT%H:%M:%SZ}",
                "--end", f"{now + timedelta(seconds=8):%Y-%m-%dT%H:%M:%SZ}", "--drain", "0")
            assert (code, "last path" in said) == (1, True), said
            code, said = await site.run_verb(
                "maintenance", "add", "--config", str(site.config), "--link", "fibre", "--yes",
                "--start", f"{soon + timedelta(seconds=7):%Y-%m-%dT%H:%M:%SZ}",
                "--end", f"{soon + timedelta(seconds=9):%Y-%m-%dT%H:%M:%SZ}", "--drain", "1",
                "--id", "CHG1")
            assert code == 0, said
            told = await until(site, lambda told: len(told["maintenance"]["windows"]) == 2, 3.0)
            assert {each["source"] for each in told["maintenance"]["windows"]} == {
                "added", "calendar"}
            told = await until(site, lambda told: told["maintenance"]["distrusted"] == ["fibre"],
                               15.0)
            assert active(told) == "sim"
            told = await until(site, lambda told: active(told) == "fibre", 40.0)
            assert told["maintenance"]["distrusted"] == []
            assert told["readiness"]["ready"], told["readiness"]
