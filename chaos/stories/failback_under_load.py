"""The fibre heals in the middle of a busy morning and takes its traffic back, unnoticed."""

from typing import Final

from chaos.demands import Carries, NoneFails, Ramps
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Cut, Heal

RAMP: Final = "healed: hold and ramp"
BACK: Final = "all back on the fibre"
STORY: Final = Story(
    name="failback-under-load",
    sentence="The fibre dies and heals under 60 requests a second: it takes them back bit by bit, "
             "no read fails, and from the ramp's end on nothing is left on the backup.",
    phases=(
        Phase("normal", 2.0),
        Phase("fibre silent", 4.0, (Cut("fibre"),)),
        Phase(RAMP, 8.0, (Heal("fibre"),)),
        Phase(BACK, 4.0)),
    exercises=ALWAYS | {7},
    hold_s=2.0,
    reads_a_second=60.0,
    switches_max=2,
    demands=(NoneFails(unknown=1), Carries("fibre silent", "sim", times=50),
             Ramps(RAMP, "sim", "fibre", seconds=1.0), Carries(BACK, "fibre", times=180)),
    wanted=Wanted(anchors=True, step_s=0.5),
    failback_grace_s=0.5)
