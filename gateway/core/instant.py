"""Time in two types that must not mix: durations and dates.

``Mono`` counts seconds from an arbitrary start and never steps back; it dies with the
process. ``Wall`` is seconds since the Unix epoch in UTC: a claim that may be wrong, so
whoever relies on it also asks the clock port ``wall_is_trusted()``.
"""

from typing import NewType

Mono = NewType("Mono", float)
Wall = NewType("Wall", float)
