"""The preferred link comes and goes; a practice must not come and go with it."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Flap, Heal

STORY: Final = Story(
    name="flapping",
    sentence="The fibre is dead for 2 s and well for 2 s, over and over; no read fails.",
    phases=(
        Phase("normal", 3.0),
        Phase("fibre flaps", 14.0, (Flap("fibre", 2.0, 2.0),)),
        Phase("fibre well", 6.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=3.0,
    switches_max=3)
