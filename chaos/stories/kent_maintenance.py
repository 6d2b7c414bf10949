"""Kent, 26 August: the supplier's announced work goes wrong, and nobody in the practice notices."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Cut, Heal

STORY: Final = Story(
    name="kent-maintenance",
    sentence="The fibre dies silently inside an announced window; traffic had left it before.",
    phases=(
        Phase("normal", 3.0),
        Phase("draining", 4.0),
        Phase("window: fibre dead", 8.0, (Cut("fibre"),)),
        Phase("fibre mended, window open", 4.0, (Heal("fibre"),)),
        Phase("window closed", 9.0)),
    exercises=ALWAYS,
    hold_s=2.0,
    windows=(("fibre", 6.0, 19.0, 3.0),),
    switches_max=2)
