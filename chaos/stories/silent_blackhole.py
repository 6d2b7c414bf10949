"""The preferred link goes silent without notice: no reset, no ICMP, no loss of carrier."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Cut, Heal

STORY: Final = Story(
    name="silent-blackhole",
    sentence="The fibre goes silent, twice; reads are rescued over the SIM and no user sees it.",
    phases=(
        Phase("normal", 3.0),
        Phase("fibre silent", 5.0, (Cut("fibre"),)),
        Phase("healed", 6.0, (Heal("fibre"),)),
        Phase("fibre silent again", 5.0, (Cut("fibre"),)),
        Phase("healed again", 5.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=2.0,
    switches_max=4)
