"""The preferred link comes and goes; a practice must not come and go with it."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Flap, Heal, Reset

STORY: Final = Story(
    name="flapping",
    sentence="The fibre is dead and well by turns, 2 s each, and then resets; no read fails.",
    phases=(
        Phase("normal", 3.0),
        Phase("fibre flaps", 14.0, (Flap("fibre", 2.0, 2.0),)),
        Phase("fibre well", 5.0, (Heal("fibre"),)),
        Phase("fibre resets", 3.0, (Reset("fibre"),)),
        Phase("fibre well again", 2.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=3.0,
    switches_max=5)
