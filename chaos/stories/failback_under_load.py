"""The fibre heals in the middle of a busy morning and takes its traffic back, unnoticed."""

from typing import Final

from chaos.demands import Carries, NoneFails
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Cut, Heal

BACK: Final = "all back on the fibre"
STORY: Final = Story(
    name="failback-under-load",
    sentence="The fibre dies and heals under 60 requests a second: no read fails, and from the "
             "ramp's end on nothing is left on the backup.",
    phases=(
        Phase("normal", 2.0),
        Phase("fibre silent", 4.0, (Cut("fibre"),)),
        Phase("healed: hold and ramp", 8.0, (Heal("fibre"),)),
        Phase(BACK, 4.0)),
    exercises=ALWAYS | {7},
    hold_s=2.0,
    reads_a_second=60.0,
    switches_max=2,
    demands=(NoneFails(unknown=1), Carries("fibre silent", "sim", times=50),
             Carries(BACK, "fibre", times=180)),
    wanted=Wanted(anchors=True),
    failback_grace_s=0.5)
