"""A link that is up and bad: each fifth packet is lost, so probes pass and users wait.

A booking of the first seconds may lose its answer as often as its connection may wait, and is then
told that its outcome is unknown (one in fifteen runs); every read has a second chance. Losses
alone, since a kernel without netem cannot delay; Toxiproxy sees no packets, so not there.
"""

from typing import Final

from chaos.demands import Leaves, NoneFails
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Heal, Lose

BAD: Final = "fibre loses 20 %"
STORY: Final = Story(
    name="brownout",
    sentence="The fibre loses each fifth packet; within 5 s what users ask has left it, "
             "no read fails, and the links are not switched to and fro.",
    phases=(
        Phase("normal", 3.0),
        Phase(BAD, 9.0, (Lose("fibre", 0.2),)),
        Phase("fibre well", 3.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=2.0,
    switches_max=2,
    demands=(NoneFails(unknown=1), Leaves(BAD, "fibre", after_s=5.0)),
    rigs=("namespaces", "relay"),
    wanted=Wanted(anchors=True))
