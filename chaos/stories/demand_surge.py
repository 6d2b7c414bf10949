"""An overnight failure elsewhere, and everybody asks at once: overload is shed by priority.

incidents.md 3: the service went on answering at high demand. A practice has so many places; what is
not needed to book or to treat is told to come again, and nothing waits in a queue.
"""

from typing import Final

from chaos.demands import Carries, Sheds
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import UpstreamSlow

SURGE: Final = "surge"
STORY: Final = Story(
    name="demand-surge",
    sentence="The upstreams slow down and one practice asks five times as much: what no pack names "
             "is told to come again, bookings and records are answered, nobody waits long.",
    phases=(
        Phase("normal", 2.0),
        Phase("upstreams slow", 2.0, (UpstreamSlow("gpc", 0.3), UpstreamSlow("r4", 0.3))),
        Phase(SURGE, 7.0, surge_a_second=120.0),
        Phase("calm", 2.0, (UpstreamSlow("gpc", 0.0), UpstreamSlow("r4", 0.0)))),
    exercises=ALWAYS,
    wanted=Wanted(requests_max=28),
    switches_max=0,
    demands=(Sheds(SURGE, sheds=("codes", "slots", "appointments"), p99_s=2.0,
                   spares=("book", "record", "patient", "find", "r4-patient")),
             Carries(SURGE, "fibre", times=200)))
