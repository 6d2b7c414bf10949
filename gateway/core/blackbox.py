"""The black box: what was seen in the minute before a link's state turned or a verdict on an
upstream, a path or a link's quality was reached, and just after.

A ring of chunks, each some ten seconds of rows and the *frames*: all that every link's detector
held when the chunk began. So a recording can be cut at any chunk and replayed from there by
``core/replay.py`` to the same turn: every misjudgement in the field becomes a test (links.md
section 15).

Rule 1: what came in is kept, not what was concluded from it. A question that was answered before
        it could be late changed nothing and is left out; every other input is a row.
Rule 2: no patient and no request: ids of the configuration, codes, and times in microseconds.
Rule 3: everything is bounded: rows of a chunk, chunks, names, recordings that wait for their end.
Rule 4: a row costs a microsecond or two, and no object that a collector would have to walk.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct
from typing import Any, Final, Literal, TypeAlias, get_args

from gateway.core.frame import Frame, as_json, frame_of, link_as_json, link_of
from gateway.core.instant import Mono
from gateway.core.link import Circumstances, Layer, Link, LinkRules, LinkTurned, Sample
from gateway.core.verdict import Asked, Judged, Verdict

BEFORE_S: Final = 60.0
AFTER_S: Final = 30.0
CHUNK_S: Final = 10.0

ROWS_MAX: Final = 20_000
"""Rows of one chunk: 2,000 a second; with more than that a chunk is shorter than ``CHUNK_S``."""

CHUNKS_MAX: Final = 12
"""Sixty seconds, thirty after, the chunk that the first second lies in, and the last, open one."""

PENDING_MAX: Final = 16
"""Recordings whose end has not come. Of more turns than that, the first are kept."""

NAMES_MAX: Final = 4096
"""Ids and codes come from the configuration and from our own code: a few dozen."""

VERSION: Final = 1

AGAIN_S: Final = 600.0
"""The same verdict is recorded so often at most: one that flutters must not drive out the rest."""

Kind: TypeAlias = Literal["sample", "question", "stall", "around", "lag", "turn", "verdict"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
OK: Final = 16
ANCHOR: Final = 32

PACKED: Final = Struct("<BBHHHIIIIIH")
"""Kind; flags (layer, OK, ANCHOR; or circumstances); three names; when, in microseconds since the
chunk began; three figures that each kind has for itself (``Row``); number and size of a sample."""

MICRO: Final = 1e6
U32: Final = 0xFFFFFFFF
U16: Final = 0xFFFF
SIDES: Final[tuple[str, ...]] = Circumstances._fields


@dataclass(frozen=True, slots=True)
class Row:
    """One input, unpacked. ``at`` is when we learned of it; ``x``, ``y``, ``z`` are, in seconds:

    - sample: how long before ``at`` it is dated, how long before that its question left, the round
      trip (negative: none). ``name`` is its target, ``word`` its detail.
    - question: late when it ended. How long it had been open. ``name`` is its target.
    - stall: how long before ``at`` it ended, and how long it lasted.
    - around: the prior, in nats. ``flags`` are the circumstances, ``word`` a foreign verdict.
    - lag: the longest that our loop came late in the second before.
    - turn: nothing. ``name`` is the state before, ``word`` the one after.
    - verdict: nothing. ``name`` is the upstream, ``word`` the kind.
    """

    kind: Kind
    at: Mono
    flags: int
    link: str
    name: str
    word: str
    x: float
    y: float
    z: float
    seq: int
    size: int

    def sample(self) -> Sample:
        """The sample that this row was made of, its times rounded to microseconds."""
        at = Mono(self.at - self.x)
        return Sample(self.link, self.name, LAYERS[self.flags & 15], bool(self.flags & OK),
                      Mono(at - self.y), at, bool(self.flags & ANCHOR),
                      self.z * 1000.0 if self.z >= 0.0 else None, self.word, self.seq, self.size)

    def question(self) -> Asked:
        """The question that had been open until this row."""
        return Asked(self.name, Mono(self.at - self.x), bool(self.flags & ANCHOR),
                     LAYERS[self.flags & 15])

    def stall(self) -> tuple[Mono, Mono]:
        """From when until when our own loop stood still."""
        until = Mono(self.at - self.x)
        return Mono(until - self.y), until

    def circumstances(self) -> Circumstances:
        """What was known beside the link's own samples."""
        return Circumstances(**{name: bool(self.flags >> at & 1) for at, name in enumerate(SIDES)})


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some ten seconds: the detectors' frames when it began, by link, and the packed rows."""

    begins: Mono
    frames: Mapping[str, Frame]
    rows: bytearray


@dataclass(frozen=True, slots=True)
class Recording:
    """One turn of one link, or one verdict that was reached, and what was seen around it. ``links``
    are in order of preference.

    ``open`` are the questions that had no answer when the recording ended, by link. ``extra_s``
    is what the device adds to each silence age.
    """

    told: LinkTurned | Judged
    rules: LinkRules
    links: tuple[Link, ...]
    upstreams: tuple[str, ...]
    extra_s: float
    names: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    open: Mapping[str, tuple[Asked, ...]]
    provable: tuple[str, ...] = ()

    @property
    def begins(self) -> Mono:
        """When it begins: a minute before the turn, less where there was no more or no room."""
        return self.chunks[0].begins

    @property
    def turned(self) -> LinkTurned:
        """The turn that it is of.

        Raises:
            ValueError: it is of a verdict.
        """
        if isinstance(self.told, LinkTurned):
            return self.told
        raise ValueError(f"a recording of {self.told.verdict.kind}, not of a turn")

    @property
    def name(self) -> str:
        """Of what it is: ``fibre-down``, ``gpc-upstream_down``, ``fibre-gpc-route_fault``."""
        if isinstance(self.told, LinkTurned):
            return f"{self.told.link}-{self.told.after.lower()}"
        verdict = self.told.verdict
        return "-".join(each for each in (verdict.link, verdict.upstream, verdict.kind.lower())
                        if each)

    def rows(self) -> Iterator[Row]:
        """Every input, as it came in."""
        for chunk in self.chunks:
            for packed in PACKED.iter_unpack(chunk.rows):
                yield _unpacked(packed, chunk.begins, self.names)

    def shorter(self) -> "Recording | None":
        """Return this without a chunk: the oldest while one that ended before the turn is left
        beside it, else the newest; None where the chunk of the turn is all there is."""
        before = sum(chunk.begins <= self.told.at for chunk in self.chunks)
        if before > 2:
            return replace(self, chunks=self.chunks[1:])
        return replace(self, chunks=self.chunks[:-1]) if len(self.chunks) > before else None


@dataclass(frozen=True, slots=True)
class Site:
    """What all recordings of one run have in common; ``provable`` are upstreams with a canary."""

    links: tuple[Link, ...]
    upstreams: tuple[str, ...]
    rules: LinkRules
    extra_s: float = 0.0
    provable: tuple[str, ...] = ()


class BlackBox:
    """Records what the board is told. ``frames`` returns what each link's detector holds now."""

    def __init__(self, site: Site, frames: Callable[[], Mapping[str, Frame]], now: Mono) -> None:
        self._site = site
        self._frames = frames
        self._late_s = min(site.rules.late_s, site.rules.echo_late_s)
        self._names: dict[str, int] = {"": 0}
        self._chunks: deque[Chunk] = deque(maxlen=CHUNKS_MAX)
        self._around: dict[str, tuple[Circumstances, str, float]] = {}
        self._pending: deque[LinkTurned | Judged] = deque()
        self._reached: dict[tuple[str, str, str], Mono] = {}
        self._lag_s, self._lag_from = 0.0, now
        self._begin(now)

    # --- what it is told

    def saw(self, sample: Sample, now: Mono) -> None:
        """Note a sample, which the board took in at ``now``."""
        rtt = -1e-6 if sample.rtt_ms is None else sample.rtt_ms / 1000.0
        flags = LAYERS.index(sample.layer) | OK * sample.ok | ANCHOR * sample.anchor
        self._add("sample", now, flags, (sample.link, sample.target, sample.detail),
                  (now - sample.at, sample.at - sample.sent_at, rtt + 1e-6), sample.seq,
                  sample.size)

    def ended(self, link: str, question: Asked, now: Mono) -> None:
        """Note that ``question`` is open no more."""
        open_s = now - question.sent_at
        if open_s >= self._late_s or question.sent_at <= self._chunks[-1].begins:
            flags = LAYERS.index(question.layer) | ANCHOR * question.anchor
            self._add("question", now, flags, (link, question.target, ""), (open_s, 0.0, 0.0))

    def stalled(self, since: Mono, until: Mono, now: Mono) -> None:
        """Note that our own loop stood still."""
        self._add("stall", now, 0, ("", "", ""), (now - until, until - since, 0.0))

    def lagged(self, late_s: float, now: Mono) -> None:
        """Note by how much our loop came late; the longest of each second is kept."""
        self._lag_s = max(self._lag_s, late_s)
        if now - self._lag_from >= 1.0:
            self._add("lag", now, 0, ("", "", ""), (self._lag_s, 0.0, 0.0))
            self._lag_s, self._lag_from = 0.0, now

    def judged(self, link: str, around: Circumstances, foreign: str, prior: float, now: Mono
               ) -> None:
        """Note under which circumstances ``link`` is judged; kept when they changed."""
        if self._around.get(link) != (around, foreign, prior):
            self._around[link] = (around, foreign, prior)
            self._note_around(link, now)

    def turned(self, turn: LinkTurned) -> None:
        """Note a turn: it is recorded when what came after it was seen too."""
        self._add("turn", turn.at, 0, (turn.link, turn.before, turn.after), (0.0, 0.0, 0.0))
        if len(self._pending) < PENDING_MAX:
            self._pending.append(turn)

    def reached(self, judged: Judged) -> None:
        """Note that a verdict was reached, or is over; what is reached is recorded, the same one
        every ``AGAIN_S`` at most."""
        verdict = judged.verdict
        key = (verdict.kind, verdict.link, verdict.upstream)
        last = self._reached.get(key)
        if judged.over or (last is not None and judged.at - last < AGAIN_S):
            return
        self._add("verdict", judged.at, 0, (verdict.link, verdict.upstream, verdict.kind),
                  (0.0, 0.0, 0.0))
        if len(self._pending) < PENDING_MAX:
            self._reached[key] = judged.at
            self._pending.append(judged)

    # --- what it is asked

    def due(self, now: Mono) -> tuple[Recording, ...]:
        """Return the recordings whose last second has come; cheap where there is none."""
        if not self._pending or now - self._pending[0].at < AFTER_S:
            return ()
        last = self._chunks[-1]
        whole = (*tuple(self._chunks)[:-1], replace(last, rows=bytearray(last.rows)))
        still = {link: frame.asked for link, frame in self._frames().items()}
        found = []
        while self._pending and now - self._pending[0].at >= AFTER_S:
            found.append(self._cut(self._pending.popleft(), whole, still))
        return tuple(found)

    def _cut(self, told: LinkTurned | Judged, whole: Sequence[Chunk],
             still: Mapping[str, tuple[Asked, ...]]) -> Recording:
        from_s = told.at - BEFORE_S
        begun = [n for n, chunk in enumerate(whole) if chunk.begins <= from_s]
        site = self._site
        return Recording(told, site.rules, site.links, site.upstreams, site.extra_s,
                         tuple(self._names), tuple(whole[begun[-1] if begun else 0:]), still,
                         site.provable)

    def _begin(self, now: Mono) -> None:
        self._chunks.append(Chunk(now, self._frames(), bytearray()))
        for link in self._around:
            self._note_around(link, now)

    def _note_around(self, link: str, now: Mono) -> None:
        around, foreign, prior = self._around[link]
        flags = sum(getattr(around, name) << at for at, name in enumerate(SIDES))
        self._add("around", now, flags, (link, "", foreign), (prior, 0.0, 0.0))

    def _add(self, kind: Kind, now: Mono, flags: int, names: tuple[str, str, str],
             figures: tuple[float, float, float], seq: int = 0, size: int = 0) -> None:
        chunk = self._chunks[-1]
        if now - chunk.begins >= CHUNK_S or len(chunk.rows) >= ROWS_MAX * PACKED.size:
            self._begin(now)
            chunk = self._chunks[-1]
        link, name, word = (self._names.get(each) or self._name(each) for each in names)
        at, x, y, z = (min(max(round(each * MICRO), 0), U32)
                       for each in (now - chunk.begins, *figures))
        chunk.rows.extend(PACKED.pack(KINDS.index(kind), flags, link, name, word, at, x, y, z,
                                      seq & U32, min(size, U16)))

    def _name(self, name: str) -> int:
        if len(self._names) >= NAMES_MAX:
            return 0
        return self._names.setdefault(name, len(self._names))


def _unpacked(packed: tuple[int, ...], begins: Mono, names: Sequence[str]) -> Row:
    kind, flags, link, name, word, at, x, y, z, seq, size = packed
    took = z / MICRO - 1e-6 if KINDS[kind] == "sample" else z / MICRO
    return Row(KINDS[kind], Mono(begins + at / MICRO), flags, names[link], names[name],
               names[word], x / MICRO, y / MICRO, took, seq, size)


def to_bytes(recording: Recording) -> bytes:
    """Return ``recording`` as one line of JSON and, after it, the packed rows of all chunks."""
    head = {
        "version": VERSION,
        "turned" if isinstance(recording.told, LinkTurned) else "judged": as_json(recording.told),
        "rules": as_json(recording.rules),
        "links": [link_as_json(link) for link in recording.links],
        "upstreams": recording.upstreams,
        "provable": recording.provable,
        "extra_s": recording.extra_s,
        "names": recording.names,
        "open": as_json(recording.open),
        "chunks": [{"begins": chunk.begins, "bytes": len(chunk.rows),
                    "frames": as_json(chunk.frames)} for chunk in recording.chunks]}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"".join(
        chunk.rows for chunk in recording.chunks)


def from_bytes(told: bytes) -> Recording:
    """Return the recording that ``to_bytes`` wrote.

    Raises:
        ValueError: it is none, or of another version.
    """
    head, _, rest = told.partition(b"\n")
    try:
        tree = json.loads(head)
        if tree["version"] != VERSION:
            raise ValueError(f"a recording of version {tree['version']}")
        chunks, at = [], 0
        for each in tree["chunks"]:
            frames = {link: frame_of(frame) for link, frame in each["frames"].items()}
            rows = bytearray(rest[at:at + each["bytes"]])
            chunks.append(Chunk(Mono(each["begins"]), frames, rows))
            at += len(rows)
        return Recording(
            _told_of(tree), LinkRules(**tree["rules"]),
            tuple(link_of(link) for link in tree["links"]), tuple(tree["upstreams"]),
            tree["extra_s"], tuple(tree["names"]), tuple(chunks),
            {link: tuple(Asked(**each) for each in asked)
             for link, asked in tree["open"].items()}, tuple(tree.get("provable", ())))
    except (KeyError, TypeError, IndexError, AttributeError) as wrong:
        raise ValueError("not a recording of the black box") from wrong


def _told_of(tree: dict[str, Any]) -> LinkTurned | Judged:
    if "turned" in tree:
        turned = tree["turned"]
        return LinkTurned(**{**turned, "evidence": _pairs(turned["evidence"])})
    judged = tree["judged"]
    verdict = judged["verdict"]
    return Judged(**{**judged, "verdict": Verdict(
        **{**verdict, "evidence": _pairs(verdict["evidence"])})})


def _pairs(evidence: Sequence[Sequence[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((name, figure) for name, figure in evidence)
