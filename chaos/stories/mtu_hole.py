"""An MTU hole: large packets vanish on the fibre, small ones and all probes pass.

What is asked passes and its answer does not, unless our segments are kept below the hole. Only a
rig with packets of its own can dig one: namespaces.
"""

from typing import Final

from chaos.demands import Carries, NoneFails, Verdict
from chaos.story import ALWAYS, Phase, Story
from chaos.wanted import Wanted
from chaos.weather import Heal, MtuHole, Unplug

HOLE: Final = "a hole at 1,400 bytes"
STORY: Final = Story(
    name="mtu-hole",
    sentence="The fibre comes back and packets over 1,400 bytes vanish on it; the hole is named, "
             "and answers of 30 kB and more pass over the fibre all the same.",
    phases=(
        Phase("normal", 2.0),
        Phase("fibre unplugged", 2.0, (Unplug("fibre"),)),
        Phase("back, with a hole", 5.0, (Heal("fibre"), MtuHole("fibre", 1400))),
        Phase(HOLE, 5.0),
        Phase("filled", 1.0, (Heal("fibre"),))),
    exercises=ALWAYS,
    hold_s=2.0,
    reads_a_second=60.0,
    demands=(NoneFails(unknown=1), Verdict("MTU_HOLE", "fibre"),
             Carries(HOLE, "fibre", times=5, bytes=30_000)),
    rigs=("namespaces",),
    wanted=Wanted(anchors=True))
