"""What is asked about the locks: all that they pin; and no answer is never a good one."""

import runpy
from typing import Any

import pytest

from arcadia_pipelines.settings import PROJECT

LOCKS = runpy.run_path(str(PROJECT / "supply_chain" / "locks.py"))
Unknown = LOCKS["Unknown"]
NUMPY, CFFI = ("numpy", "2.4.6"), ("cffi", "2.1.1")


def pins(text: str) -> Any:
    return LOCKS["pins"](text, "x.lock")


def component(name: str, version: str, *hashes: str) -> dict[str, Any]:
    files = [{"alg": "SHA-256", "content": each} for each in hashes]
    return {"name": name, "version": version, "externalReferences": [{"hashes": files}]}


def test_every_pin_counts_whatever_its_marker_and_what_is_no_pin_is_refused() -> None:
    marked = (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via pandas\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "Typing_Extensions==4.16.0\npsycopg[binary,pool]==3.3.9 \\\n    --hash=sha256:dd\n"
    )
    two = {("numpy", "2.4.6"), ("numpy", "2.5.5")}
    assert pins(marked) == two | {("typing-extensions", "4.16.0"), ("psycopg", "3.3.9")}
    for other in ("numpy>=2", "numpy==2.*", "-e .", "-r more.txt", "x @ https://example.org/x.whl", "# nothing"):
        with pytest.raises(Unknown, match="make lock"):
            pins(f"{other}\n")


def test_no_pin_of_the_locks_is_left_out_when_pip_audit_is_asked_about_one_version_at_a_time() -> None:
    files = [*PROJECT.glob("*.lock"), *PROJECT.glob("conformance/*.lock"), *PROJECT.glob("supply_chain/*.lock")]
    assert len(files) == 4
    texts = [file.read_text() for file in files]
    wanted = set().union(*map(pins, texts))
    spelled = {line.split()[0] for text in texts for line in text.splitlines() if line[0].isalnum()}
    assert {"==".join(pin) for pin in wanted} == spelled
    rounds = LOCKS["rounds"](wanted)
    assert sorted(pin for pinned in rounds for pin in pinned) == sorted(wanted)
    for pinned in rounds:
        assert len({name for name, _ in pinned}) == len(pinned)
    assert len(rounds) > 1


def test_a_package_that_is_not_answered_for_is_no_clean_one() -> None:
    clean = {"name": "numpy", "version": "2.4.6", "vulns": []}
    vuln = {"id": "PYSEC-1", "aliases": ["GHSA-1", "CVE-1"], "fix_versions": ["2.1.2", "2.2"]}
    bad = {"name": "cffi", "version": "2.1.1", "vulns": [vuln, {"id": "PYSEC-2", "aliases": [], "fix_versions": []}]}
    assert LOCKS["advisories"]({"dependencies": [clean, bad]}, {NUMPY, CFFI}) == [
        "cffi 2.1.1: PYSEC-1, CVE-1, GHSA-1; mended in 2.1.2, 2.2",
        "cffi 2.1.1: PYSEC-2; mended in no version yet",
    ]
    skipped = {"name": "cffi", "version": "2.1.1", "skip_reason": "not found"}
    for rest in ([], [skipped], [{**bad, "version": "2.1.0"}]):
        with pytest.raises(Unknown, match=r"nothing about 1 of 2 packages, cffi 2\.1\.1"):
            LOCKS["advisories"]({"dependencies": [clean, *rest]}, {NUMPY, CFFI})


def test_an_sbom_without_a_pin_or_without_its_hashes_is_noticed() -> None:
    numpy, cffi = component(*NUMPY, "aa"), component(*CFFI, "bb")
    for components, wrong in (
        ([numpy, cffi], set()),
        ([numpy], {CFFI}),
        ([numpy, component(*CFFI)], {CFFI}),
        ([numpy, cffi, component("six", "1.17.0", "cc")], {("six", "1.17.0")}),
    ):
        assert LOCKS["unlisted"]({"components": components}, {NUMPY, CFFI}) == wrong
