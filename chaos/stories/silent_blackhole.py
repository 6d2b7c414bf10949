"""The preferred link goes silent without notice: no reset, no ICMP, no loss of carrier.

The second time only replies are lost: bookings arrive and nobody is told, so none is sent again.
"""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Cut, Heal, Reset, SwallowReplies

STORY: Final = Story(
    name="silent-blackhole",
    sentence="The fibre goes silent, then loses replies; reads are rescued and no user sees it.",
    phases=(
        Phase("normal", 3.0),
        Phase("fibre silent", 5.0, (Cut("fibre"),)),
        Phase("healed", 6.0, (Heal("fibre"),)),
        Phase("fibre loses every reply", 2.0, (SwallowReplies("fibre"),)),
        Phase("and resets", 3.0, (Reset("fibre"),)),
        Phase("healed again", 5.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=2.0,
    switches_max=4)
