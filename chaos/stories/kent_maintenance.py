"""Kent, 26 August: the supplier's announced work goes wrong, and nobody in the practice notices."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import Cut, Heal

STORY: Final = Story(
    name="kent-maintenance",
    sentence="The fibre dies silently inside an announced window; traffic had left it before.",
    phases=(
        Phase("normal", 2.0),
        Phase("draining", 3.0),
        Phase("window: fibre dead", 6.0, (Cut("fibre"),)),
        Phase("fibre mended, window open", 3.0, (Heal("fibre"),)),
        Phase("window closed", 8.0)),
    exercises=ALWAYS,
    hold_s=2.0,
    windows=(("fibre", 5.0, 14.0, 3.0),),
    switches_max=2,
    leaves_before=True)
