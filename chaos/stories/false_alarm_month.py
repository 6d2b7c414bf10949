"""What every line does all day, two hundred times: it falls silent for a moment. No reason to move.

A month cannot be played on a real gateway: this is one of its worst minutes, on a real network and
the real daemon: bursts of 0.2 s on average, drawn by seed (the longest 0.6 s), 15 a minute, where
200 a day are one in seven minutes. Many more would be no false alarm: a line that is silent for a
tenth of its time is a brown-out, and reads leave it. The month itself is simulated: ``python -m
tests.sim.days`` puts 30 days of 200 bursts, 20 seeds for each of 0.1, 0.2 and 0.4 s, through the
same detectors. A single burst of 1.2 s moves no link either, but reads may leave it for a minute.
"""

from typing import Final

from chaos.demands import Carries, NoneFails
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Bursts, Heal

BURSTS: Final = "bursts of silence"
STORY: Final = Story(
    name="false-alarm-month",
    sentence="The fibre falls silent for moments, 15 times a minute: no switch, no class "
             "leaves it, none fails (these are 15 s of it; the month is simulated: "
             "python -m tests.sim.days).",
    phases=(
        Phase("normal", 2.0),
        Phase(BURSTS, 15.0, (Bursts("fibre", a_minute=15.0, mean_s=0.2, seed=76),)),
        Phase("calm", 2.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    switches_max=0,
    demands=(NoneFails(), Carries(BURSTS, "fibre", times=350)),
    rigs=("namespaces", "relay"),
    wanted=Wanted(anchors=True))
