"""Every story, played against the real daemon: all promises held, nothing fell short.

On namespaces where this machine can make them, else on relays; one more on each other rig. About
25 s each.
"""

from pathlib import Path
from typing import Final

import pytest

from chaos.__main__ import best_rig, main, parser, summary, why_not
from chaos.picture import Told
from chaos.play import play
from chaos.report import Judged, Telling
from chaos.rig.namespaces import Namespaces
from chaos.rig.relay import Relay, RelayRig
from chaos.rig.toxiproxy import Toxiproxies
from chaos.stories import STORIES
from chaos.story import ALWAYS, Story
from chaos.weather import Rig, Verb
from chaos.world import LINKS, UPSTREAM_VERBS, RigName

SECONDS_MAX: Final = 45.0
TOGETHER_MAX: Final = 285.0
WANTED: Final = {"kent-maintenance", "silent-blackhole", "kent-both-links", "adastra-isolation",
                 "one-tenant-down", "flapping", "mtu-hole", "failback-under-load",
                 "brownout", "false-alarm-month", "captive-portal", "dns-dead", "demand-surge",
                 "dead-sim"}


@pytest.mark.parametrize("name", sorted(STORIES))
async def test_the_story_is_told_and_every_promise_held(name: str, tmp_path: Path) -> None:
    rig = best_rig()
    if rig not in STORIES[name].rigs:
        pytest.skip(f"{name.upper()} NOT TOLD: only {' or '.join(STORIES[name].rigs)} can")
    telling = await play(STORIES[name], rig, tmp_path)
    assert telling.is_whole(), summary(telling)


@pytest.mark.parametrize("rig", [  # kent is played on the relay in every run
    pytest.param("relay", marks=pytest.mark.full), "toxiproxy"])
async def test_a_silent_blackhole_is_told_on_the_other_rigs_too(
        rig: RigName, tmp_path: Path) -> None:
    if why_not(rig):
        pytest.skip(f"{rig.upper()} STORY NOT TOLD: {why_not(rig)}")
    telling = await play(STORIES["silent-blackhole"], rig, tmp_path)
    assert telling.is_whole(), summary(telling)


def test_the_stories_of_this_order_are_there_and_short_enough() -> None:
    assert set(STORIES) >= WANTED
    assert all(story.seconds <= SECONDS_MAX for story in STORIES.values())
    assert sum(story.seconds for story in STORIES.values()) <= TOGETHER_MAX


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_story_says_what_it_is_and_exercises_the_common_promises(name: str) -> None:
    story: Story = STORIES[name]
    verbs: list[Verb] = [verb for phase in story.phases for verb in phase.verbs]
    assert story.name == name
    assert story.sentence.endswith(".")
    assert verbs
    assert story.exercises >= ALWAYS


@pytest.mark.parametrize("name", sorted(STORIES))
def test_the_rigs_of_a_story_know_all_its_weather_and_the_others_do_not(name: str) -> None:
    story = STORIES[name]
    rigs: dict[str, Rig] = {
        "relay": RelayRig([Relay(link, []) for link in LINKS]),
        "toxiproxy": Toxiproxies(dict.fromkeys(LINKS, ())), "namespaces": Namespaces(*LINKS)}
    verbs = [verb for phase in story.phases for verb in phase.verbs
             if not isinstance(verb, UPSTREAM_VERBS)]
    able = {rig for rig, made in rigs.items() if all(made.can(verb) for verb in verbs)}
    assert set(story.rigs) == able


def test_a_story_that_the_rig_cannot_tell_is_bad_usage_and_says_which_rig_can(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("chaos.__main__.why_not", lambda rig: "")
    assert main(["--story", "mtu-hole", "--rig", "relay"]) == 2
    assert "mtu-hole: relay cannot make its weather; namespaces can" in capsys.readouterr().err


def test_an_unknown_story_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser().parse_args(["--story", "nobody-knows"])
    assert left.value.code == 2


def test_a_rig_that_cannot_be_had_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.__main__.why_not", lambda rig: "no root")
    assert main(["--rig", "namespaces"]) == 2


def test_a_broken_promise_exits_3_and_stands_in_page_and_junit(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(story: Story, rig: RigName, home: Path) -> Telling:
        return Telling(story.name, story.sentence, rig, Told(1.0, (), (), (), ()),
                       (Judged(1, "broken", 7, "request 3 failed while sim worked"),))

    monkeypatch.setattr("chaos.__main__.play", broken)
    assert main(["--story", "flapping", "--rig", "relay", "--to", str(tmp_path)]) == 3
    assert "request 3 failed" in capsys.readouterr().out
    for name in ("index.html", "junit.xml"):
        assert "request 3 failed while sim worked" in (tmp_path / name).read_text("utf-8")
