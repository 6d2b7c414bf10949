"""The backup dies while nobody uses it: it must be known before it is needed.

In a practice an idle metered SIM is asked so seldom that its death may take an hour to be seen: 65
simulated minutes at most, tests/flow/test_canaries.py. Here it is asked every two seconds.
"""

from typing import Final

from chaos.demands import Carries, Dead, NoneFails
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Cut, Heal

DEAD: Final = "SIM dead"
STORY: Final = Story(
    name="dead-sim",
    sentence="The metered SIM dies unused, the fibre is well: its death is told within 8 s where "
             "it is asked every 2 s, no switch, none fails.",
    phases=(
        Phase("normal", 3.0),
        Phase(DEAD, 9.0, (Cut("sim"),)),
        Phase("SIM well", 2.0, (Heal("sim"),))),
    exercises=ALWAYS,
    switches_max=0,
    wanted=Wanted(sim="metered = true\n", judgement="probe_metered_every_s = 2.0\n"),
    demands=(NoneFails(), Dead(DEAD, "sim", within_s=8.0), Carries(DEAD, "fibre", times=200)))
