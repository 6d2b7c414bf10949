"""What a row of the acceptance is made of, and how it is said."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Line:
    """One demand and what was measured: ``row | must | figure | met``."""

    row: str
    must: str
    figure: str
    met: bool

    def __str__(self) -> str:
        return (f"{self.row:<18} | {self.must:<44} | {self.figure:<40} | "
                f"{'met' if self.met else 'NOT met'}")


@dataclass
class Options:
    """How much to measure. ``requests`` is what "0 failed" must count at least; 0: as it comes.

    ``again`` judges what an earlier run left in ``home``, and runs nothing.
    """

    onsets: int
    runs: int
    requests: int
    home: Path
    dice: Random
    delay: bool = False
    again: bool = False
    slowest: int = 0
    say: Callable[[str], None] = field(default=lambda words: None)


Row: TypeAlias = Callable[[Options], Awaitable[list[Line]]]


def least(row: str, must: str, figure: float, limit: float, unit: str = "ms") -> Line:
    """Demand that ``figure`` is less than ``limit``."""
    return Line(row, f"{must} < {limit:g} {unit}", f"{figure:.0f} {unit}" if unit == "ms"
                else f"{figure:.3g} {unit}", figure < limit)


def at_most(row: str, must: str, figure: float, limit: float, unit: str = "") -> Line:
    """Demand that ``figure`` is no more than ``limit``."""
    return Line(row, f"{must} <= {limit:g} {unit}".rstrip(), f"{figure:g} {unit}".rstrip(),
                figure <= limit)


def none_failed(row: str, failed: int, requests: int, wanted: int = 0) -> Line:
    """Demand 0 failed among at least ``wanted`` requests."""
    return Line(row, "0 failed" + (f" in {wanted}" if wanted else ""),
                f"{failed} failed in {requests}", failed == 0 and requests >= wanted)
