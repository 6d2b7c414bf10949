"""The fibre's resolvers fall silent, and the fibre is well: names are no reason to move.

A rig with resolvers of its own is needed: namespaces. The clinical system ends each connection
after a hundred answers, so names are really needed again.
"""

from typing import Final

from chaos.demands import Carries, NoneFails, Verdict
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import DnsLie, Heal

DEAD: Final = "no names on the fibre"
STORY: Final = Story(
    name="dns-dead",
    sentence="No name is answered on the fibre: the fault is named, no link is switched, none "
             "fails, and the fibre goes on carrying what is asked.",
    phases=(
        Phase("normal", 2.0),
        Phase(DEAD, 14.0, (DnsLie("fibre", ""),)),
        Phase("names are back", 2.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    reads_a_second=60.0,
    switches_max=0,
    wanted=Wanted(tls=True, names=True, anchors=True),
    demands=(NoneFails(), Verdict("DNS_FAULT", "fibre"),
             Carries(DEAD, "fibre", times=400)),
    rigs=("namespaces",))
