"""Kent through the 8 am peak: both links dead, and the day's list still on the screen."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Cut, Heal

STORY: Final = Story(
    name="kent-both-links",
    sentence="Both links die; what was read before is answered marked with its age, "
             "the rest refused as not known.",
    phases=(
        Phase("normal", 3.0),
        Phase("fibre silent", 3.0, (Cut("fibre"),)),
        Phase("both links dead", 10.0, (Cut("sim"),), unread=True, cut_off=True),
        Phase("SIM back", 4.0, (Heal("sim"),)),
        Phase("all back", 5.0, (Heal("fibre"),))),
    exercises=ALWAYS | {4, 5},
    hold_s=2.0)
