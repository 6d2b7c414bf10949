"""A SIM out of credit, then a hotel's sign-in page on the fibre: somebody else answers.

The upstreams have certificates here, as they do in a practice: nothing is asked of whoever cannot
show one, so no credential is ever sent into an intercepted link. Plain HTTP could not promise that
for the moment until the interception is seen. Toxiproxy gives no answers of its own.
"""

from typing import Final

from chaos.demands import Carries, NeverActive, NoneFails, NothingTold, Verdict
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import CaptivePortal, Heal

FIBRE: Final = "a portal on the fibre"
SIM: Final = "a portal on the SIM"
STORY: Final = Story(
    name="captive-portal",
    sentence="A portal answers on the SIM, then on the fibre: it is named, never made the active "
             "link, no credential is sent into it, and no user sees its page.",
    phases=(
        Phase("normal", 2.0),
        Phase(SIM, 4.0, (CaptivePortal("sim"),)),
        Phase("SIM paid for", 3.0, (Heal("sim"),)),
        Phase(FIBRE, 5.0, (CaptivePortal("fibre"),)),
        Phase("signed in", 3.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=2.0,
    switches_max=2,
    wanted=Wanted(tls=True),
    demands=(NoneFails(unknown=1), NeverActive(SIM, "sim"), NeverActive(FIBRE, "fibre"),
             NothingTold("sim"), NothingTold("fibre"), Verdict("CAPTIVE", "sim"),
             Verdict("CAPTIVE", "fibre"), Carries(FIBRE, "sim", times=90)),
    rigs=("namespaces", "relay"))
