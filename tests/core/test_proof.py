"""Proofs of path age out; a refusal bars a path only when another granted the same request."""

from dataclasses import replace

from gateway.core.instant import Mono
from gateway.core.link import LinkMemory
from gateway.core.proof import (
    PROOFS_MAX,
    SERIALS_MAX,
    UNPROVEN_MOST_S,
    Canaried,
    PathProof,
    PathProofs,
    Proofs,
)


def test_a_success_proves_its_path_and_root_for_65_minutes() -> None:
    proofs = Proofs()
    assert proofs.saw("A", "gpc", "fhir", "fibre", 200, 1, Mono(0.0))
    assert not proofs.saw("A", "gpc", "fhir", "fibre", 200, 2, Mono(1.0))
    assert proofs.proven("A", "gpc", "fhir", Mono(3901.0)) == {"fibre"}
    assert proofs.proven("A", "gpc", "fhir", Mono(3901.1)) == frozenset()
    assert proofs.proven("A", "gpc", "other", Mono(2.0)) == frozenset()
    assert proofs.proven("B", "gpc", "fhir", Mono(2.0)) == frozenset()


def test_no_other_status_proves_anything() -> None:
    proofs = Proofs()
    for status in (199, 300, 304, 400, 401, 403, 404, 410, 500, 503):
        proofs.saw("A", "gpc", "fhir", "fibre", status, status, Mono(0.0))
    assert proofs.proven("A", "gpc", "fhir", Mono(1.0)) == frozenset()
    assert proofs.ineligible("A", "gpc", Mono(1.0)) == frozenset()


def test_a_refusal_bars_the_path_only_when_another_granted_the_same_request() -> None:
    proofs = Proofs()
    proofs.saw("A", "gpc", "fhir", "sim", 403, 1, Mono(0.0))
    proofs.saw("A", "gpc", "fhir", "fibre", 200, 2, Mono(0.0))
    assert proofs.ineligible("A", "gpc", Mono(1.0)) == frozenset()
    assert proofs.saw("A", "gpc", "fhir", "fibre", 200, 1, Mono(1.0))
    assert proofs.ineligible("A", "gpc", Mono(1.0)) == {"sim"}
    assert proofs.ineligible("B", "gpc", Mono(1.0)) == frozenset()
    assert proofs.ineligible("A", "gpc", Mono(900.9)) == {"sim"}
    assert proofs.ineligible("A", "gpc", Mono(901.0)) == frozenset()


def test_a_success_over_a_barred_path_lifts_the_bar() -> None:
    proofs = Proofs()
    proofs.saw("A", "gpc", "fhir", "sim", 401, 1, Mono(0.0))
    proofs.saw("A", "gpc", "fhir", "fibre", 201, 1, Mono(0.0))
    proofs.saw("A", "gpc", "fhir", "sim", 200, 2, Mono(1.0))
    assert proofs.ineligible("A", "gpc", Mono(1.0)) == frozenset()


def test_what_is_remembered_has_a_limit_and_the_oldest_goes_first() -> None:
    proofs = Proofs()
    for number in range(PROOFS_MAX + 1):
        proofs.saw("A", "gpc", f"root{number}", "fibre", 200, number, Mono(0.0))
    assert proofs.proven("A", "gpc", "root0", Mono(1.0)) == frozenset()
    assert proofs.proven("A", "gpc", "root1", Mono(1.0)) == {"fibre"}

    proofs.saw("A", "gpc", "fhir", "sim", 403, -1, Mono(0.0))
    for number in range(SERIALS_MAX):
        proofs.saw("A", "gpc", "fhir", "fibre", 200, 10_000 + number, Mono(0.0))
    proofs.saw("A", "gpc", "fhir", "fibre", 200, -1, Mono(0.0))
    assert proofs.ineligible("A", "gpc", Mono(1.0)) == frozenset()


def test_the_newest_proof_of_each_path_is_shown_without_its_root() -> None:
    proofs = Proofs()
    proofs.saw("A", "gpc", "fhir", "fibre", 200, 1, Mono(0.0))
    proofs.saw("A", "gpc", "docs", "fibre", 200, 2, Mono(8.0))
    assert proofs.newest(Mono(10.0)) == (("A", "gpc", "fibre", 2.0),)


def test_a_path_is_proven_for_two_minutes_or_for_65_where_bytes_cost() -> None:
    paths = PathProofs(Mono(100.0))
    assert paths.of("sim", "gpc", True, Mono(100.0 + 3899)) == PathProof("sim", "gpc", None, None)
    assert paths.of("sim", "gpc", True, Mono(100.0 + 3910)) == PathProof("sim", "gpc", None, 10.0)
    assert paths.of("fibre", "gpc", False, Mono(100.0 + 130)).lapsed_s == 10.0
    paths.saw("sim", "gpc", Mono(200.0))
    assert paths.of("sim", "gpc", True, Mono(4000.0)) == PathProof("sim", "gpc", 3800.0, None)
    assert paths.of("sim", "gpc", True, Mono(4110.0)).lapsed_s == 10.0
    assert paths.age_s("fibre", "gpc", Mono(4110.0)) is None


def test_a_canary_is_lacking_where_only_another_link_brought_it_since_this_one_died() -> None:
    it, since = Canaried(), Mono(1000.0)
    memory = LinkMemory("fibre", since, since, "PROBATION", "BLACKHOLE")

    def lacks(memory: LinkMemory = memory, ailing: tuple[str, ...] = (), now: float = 1100.0
              ) -> bool:
        return it.lacks(memory, ("gpc", "bars", "pds", "mesh"), ailing, ("sim",), Mono(now))

    assert not lacks(), "nobody brings any"
    it.saw("sim", "mesh", Mono(1050.0))
    assert not lacks(), "the fourth"
    it.saw("fibre", "gpc", Mono(999.0))
    it.saw("sim", "gpc", Mono(990.0))
    assert lacks()
    assert not lacks(ailing=("gpc",))
    assert not lacks(replace(memory, cause="MAINTENANCE"))
    assert not lacks(replace(memory, state="UP"))
    assert not lacks(now=1000.0 + UNPROVEN_MOST_S)
    it.saw("fibre", "gpc", Mono(1001.0))
    assert not lacks()
