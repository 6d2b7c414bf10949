"""What became of each request under load, one line each in a file.

Times are seconds of the monotonic clock, which all processes of one machine share. ``due`` is when
the open-loop schedule wanted the request sent; ``took_s`` counts from there, never from the send.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

# live: the origin's own bytes; copy: marked as such; refused: 503 said at once and plainly;
# unknown: 504 that says the outcome of a write is not known; failed: all else, wrong bodies too.
Kind: TypeAlias = Literal["live", "copy", "refused", "unknown", "failed"]
KINDS: Final = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Record:
    """One request. ``link`` is the wire by which the origin got it (``a``, ``b``), ``""`` if none.

    ``stream`` names the party and what is asked, ``number`` makes the request distinct in it.
    """

    stream: str
    number: int
    due: float
    sent_s: float
    took_s: float
    kind: Kind
    link: str = ""
    status: int = 0
    detail: str = ""

    @property
    def answered(self) -> float:
        """The moment of its answer, or of its failing."""
        return self.due + self.took_s


def write(path: Path, records: Iterable[Record]) -> None:
    """Write ``records``, one a line, in the order of their dues."""
    ordered = sorted(records, key=lambda one: one.due)
    path.write_text("".join("\t".join(str(each) for each in astuple(one)) + "\n"
                            for one in ordered), "utf-8")


def read(path: Path) -> list[Record]:
    """Return the records of ``path``.

    Raises:
        ValueError: a line that is no record.
    """
    return [_parsed(line) for line in path.read_text("utf-8").splitlines()]


def _parsed(line: str) -> Record:
    cells = line.split("\t")
    if len(cells) != len(fields(Record)) or cells[5] not in KINDS:
        raise ValueError(f"no record: {line!r}")
    kind: Kind = cells[5]  # type: ignore[assignment]  # looked up in KINDS just now
    return Record(cells[0], int(cells[1]), float(cells[2]), float(cells[3]), float(cells[4]),
                  kind, cells[6], int(cells[7]), cells[8])
