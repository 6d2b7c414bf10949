"""Every story that can be told, by name. ``kent`` joins several and belongs to the demo."""

from typing import Final

from chaos.stories import (
    adastra_isolation,
    brownout,
    captive_portal,
    dead_sim,
    demand_surge,
    dns_dead,
    failback_under_load,
    false_alarm_month,
    flapping,
    kent_both_links,
    kent_maintenance,
    mtu_hole,
    one_tenant_down,
    silent_blackhole,
)
from chaos.story import Story

STORIES: Final[dict[str, Story]] = {story.name: story for story in (
    kent_maintenance.STORY, silent_blackhole.STORY, kent_both_links.STORY,
    adastra_isolation.STORY, one_tenant_down.STORY, flapping.STORY, brownout.STORY,
    mtu_hole.STORY, failback_under_load.STORY, false_alarm_month.STORY,
    captive_portal.STORY, dns_dead.STORY, demand_surge.STORY, dead_sim.STORY)}
