"""One practice's clinical system fails; its neighbour on the same device sees no change at all."""

from typing import Final

from chaos.story import ALWAYS, Phase, Story
from chaos.weather import UpstreamGone, UpstreamHung, UpstreamStatus

STORY: Final = Story(
    name="one-tenant-down",
    sentence="The upstream of one tenant fails in three ways; the other tenant is answered live "
             "throughout.",
    phases=(
        Phase("normal", 3.0),
        Phase("B81001's upstream says 503", 5.0, (UpstreamStatus("gpc:B81001", 503),)),
        Phase("B81001's upstream hangs", 6.0,
              (UpstreamStatus("gpc:B81001", 0), UpstreamHung("gpc:B81001"))),
        Phase("B81001's upstream gone", 5.0,
              (UpstreamHung("gpc:B81001", hung=False), UpstreamGone("gpc:B81001"))),
        Phase("all back", 5.0, (UpstreamGone("gpc:B81001", gone=False),))),
    exercises=ALWAYS | {4, 6, 12},
    switches_max=0)
