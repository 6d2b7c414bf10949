"""Advanced, 4 August 2022: the application is gone on purpose, and the network is fine."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import UpstreamGone, UpstreamHung, UpstreamStatus

STORY: Final = Story(
    name="adastra-isolation",
    sentence="The upstream refuses, then fails, then hangs, with both links well: "
             "copies are served and no link is switched.",
    phases=(
        Phase("normal", 3.0),
        Phase("upstream gone", 6.0, (UpstreamGone("gpc"),), unread=True, cut_off=True),
        Phase("upstream back", 4.0, (UpstreamGone("gpc", gone=False),)),
        Phase("upstream says 503", 5.0, (UpstreamStatus("gpc", 503),), unread=True,
              cut_off=True),
        Phase("upstream hangs", 5.0, (UpstreamStatus("gpc", 0), UpstreamHung("gpc"))),
        Phase("upstream back for good", 5.0, (UpstreamHung("gpc", hung=False),))),
    exercises=ALWAYS | {4, 5, 6},
    switches_max=0)
