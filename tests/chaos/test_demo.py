"""The demo as a person meets it: it starts, its curl lines work as they stand, Ctrl-C ends it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.demo import BAD_USAGE, document_of, main, order, summary
from chaos.picture import Mark, Span, Told
from chaos.report import Judged, Telling
from chaos.weather import CaptivePortal, Cut, Heal, Reset, Slow, UpstreamGone, Verb

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("words", "verb"), [
    (["cut", "fibre"], Cut("fibre")), (["heal", "sim"], Heal("sim")),
    (["reset", "sim"], Reset("sim")), (["slow", "sim"], Slow("sim", 0.3)),
    (["portal", "sim"], CaptivePortal("sim")), (["supplier", "gone"], UpstreamGone("gpc")),
    (["supplier", "back"], UpstreamGone("gpc", False)), (["cut", "moon"], None), ([""], None),
    (["supplier", "maybe"], None)])
def test_the_control_port_knows_its_orders(words: list[str], verb: Verb | None) -> None:
    assert order(words) == verb


def test_an_unknown_story_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--story", "atlantis"]) == BAD_USAGE
    assert "kent" in capsys.readouterr().err


def test_a_story_whose_rig_cannot_be_had_is_bad_usage_and_says_why(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("chaos.demo.why_not",
                        lambda rig: "" if rig == "relay" else f"no {rig} here")
    assert main(["--story", "mtu-hole"]) == BAD_USAGE
    assert "mtu-hole cannot be told here: namespaces: no namespaces here" in (
        capsys.readouterr().err)


def test_a_telling_becomes_a_document_with_figures_by_phase() -> None:
    marks = (Mark(0.5, 2.0, "live", "fibre"), Mark(1.5, 4.0, "backup", "sim"),
             Mark(1.6, 900.0, "unknown", ""))
    told = Told(2.0, (Span("phase", 0.0, 1.0, "normal"), Span("phase", 1.0, 2.0, "bad")), (), (),
                marks)
    judged = (Judged(1, "held", 3), Judged(2, "broken", 1, "twice"), Judged(3, "not exercised", 0))
    found = document_of(Telling("s", "A story.", "relay", told, judged, trouble="too little"), 9.0)
    assert [one["sent"] for one in found["phases"]] == [1, 2]
    bad = found["phases"][1]
    assert (bad["live"], bad["backup"], bad["unknown"], bad["max_ms"]) == (1, 1, 1, 900.0)
    assert {number: one["held"] for number, one in found["promises"].items()} == {
        "1": True, "2": False, "3": "not exercised"}
    assert not found["good"]
    page = summary(found)
    assert "BROKEN" in page
    assert "twice" in page
    assert "fell short: too little" in page


@pytest.mark.full
def test_a_story_is_played_by_the_command_that_a_person_types() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--story", "dead-sim", "--json"], cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    told = json.loads(played.stdout)
    assert told["good"]
    assert sum(one["failed"] for one in told["phases"]) == 0


def test_a_summary_names_what_was_broken_and_why() -> None:
    page = summary({"story": "kent", "good": False, "took_s": 50.0, "phases": [
        {"phase": "normal", "sent": 3, "live": 2, "copy": 0, "refused": 0, "failed": 1,
         "p50_ms": 1.0, "p99_ms": None, "max_ms": 2.0}],
        "promises": {"1": {"held": False, "observations": 3, "evidence": ["request 2: failed"]},
                     "3": {"held": "not exercised", "observations": 0}}})
    assert "NOT GOOD" in page
    assert re.search(r"promise +1: BROKEN +3 observations\n +request 2: failed", page)


@dataclass(frozen=True, slots=True)
class Running:
    """A demo at work, and the lines to copy that it printed, in order."""

    child: asyncio.subprocess.Process
    lines: list[str]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert child.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        line = ""
        while "/metrics" not in line:
            line = (await child.stdout.readline()).decode()
            assert line, "the demo ended before it said what to try"
            lines += [line.strip()] if line.startswith("    ") else []
    yield Running(child, lines)
    if child.returncode is None:
        child.kill()
        await child.wait()


async def type_in(line: str) -> str:
    """Run a line as a person would paste it; it was made by our own demo."""
    done = await asyncio.to_thread(subprocess.run, ["bash", "-c", line], capture_output=True,
                                   text=True, timeout=60, check=True)
    return done.stdout


async def test_each_line_shows_what_it_says_and_ctrl_c_ends_everything(running: Running) -> None:
    read, cut_fibre, cut_sim, unseen, strict, heal, _, status, metrics = running.lines[:9]
    assert "class=live; link=fibre" in await type_in(read)
    await type_in(cut_fibre)
    assert "class=live; link=sim" in await type_in(read)
    await type_in(cut_sim)
    assert "class=as-of" in await type_in(read)
    for line in (unseen, strict):
        answer = await type_in(line)
        assert answer.startswith("HTTP/1.1 503")
        assert '"transient"' in answer
    assert '"BLACKHOLE"' in await type_in(status)
    assert "gateway_requests_total" in await type_in(metrics)
    await type_in(heal)
    children = await asyncio.to_thread(_children, running.child.pid)
    assert len(children) >= 4, "gateway, clinical system, anchor, broker"
    running.child.send_signal(signal.SIGINT)
    async with asyncio.timeout(45):
        assert await running.child.wait() == 0
    assert [_parent(pid) for pid in children] == [0] * len(children), "all are gone"


def _children(pid: int) -> list[int]:
    found = [int(one) for one in os.listdir("/proc") if one.isdigit()]
    return [one for one in found if _parent(one) == pid]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def test_a_story_that_is_stopped_ends_everything_it_started() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--story", "kent", cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        children: list[int] = []
        for _ in range(600):
            children = await asyncio.to_thread(_children, child.pid)
            if len(children) >= 4:
                break
            await asyncio.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        said = await child.stderr.read()
        assert await child.wait() == 1
    assert b"stopped before the end" in said
    assert [_parent(pid) for pid in children] == [0] * len(children), "all are gone"
