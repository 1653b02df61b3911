"""What is asked about the locks: all that they pin; and no answer is never a good one."""

import ast
import re
import runpy
import sys
import tomllib
from importlib import metadata
from typing import Any

import pytest

from arcadia_pipelines.settings import PROJECT

LOCKS = runpy.run_path(str(PROJECT / "supply_chain" / "locks.py"))
Unknown = LOCKS["Unknown"]
PROVIDERS = metadata.packages_distributions()
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


def test_what_is_imported_is_declared() -> None:
    """By the package and its extras for bills and usage sources; by its tests, also what developers need."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    runs = distributions(project["dependencies"])
    extras = {name: distributions(wanted) for name, wanted in project["optional-dependencies"].items()}
    dev, of_some = extras.pop("dev"), set().union(*(extras[name] for name in extras if name != "build"))
    assert imported("arcadia_pipelines") - runs == of_some
    assert imported("arcadia_pipelines_tests") <= runs | dev | of_some


def distributions(requirements: list[str]) -> set[str]:
    """The names of those that requirements ask for."""
    return {re.split(r"[^\w.-]", wanted)[0].lower() for wanted in requirements} - {"arcadia-pipelines"}


def imported(folder: str) -> set[str]:
    """The distributions that a folder's modules import."""
    modules = set()
    for source in (PROJECT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                modules |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module))
    ours = {"arcadia_pipelines", "arcadia_pipelines_tests", "chaos"}
    return {distribution(name) for name in modules if name.split(".")[0] not in sys.stdlib_module_names | ours}


def distribution(module: str) -> str:
    """What brings the module; where several share a namespace, by its name: azure.core is azure-core's."""
    brought = {name.lower().replace("_", "-") for name in PROVIDERS[module.split(".")[0]]}
    return brought.pop() if len(brought) == 1 else "-".join(module.split(".")[:2])


def test_what_runs_and_the_rest_are_two_locks_that_share_no_pin_and_name_no_index() -> None:
    runs, rest = ((PROJECT / name).read_text() for name in ("requirements.lock", "requirements-dev.lock"))
    assert not pins(runs) & pins(rest)
    assert {"dagster", "hatchling", "anyio"} <= {name for name, _ in pins(runs)}
    assert {"pydo", "pytest", "ruff"} <= {name for name, _ in pins(rest)}
    assert "://" not in runs + rest


def test_the_rest_is_what_the_second_lock_has_beyond_the_first() -> None:
    numpy, cffi, six = (
        f"{name}==1.0 \\\n    --hash=sha256:aa\n    # via pandas\n" for name in ("numpy", "cffi", "six")
    )
    assert LOCKS["rest"](numpy, cffi + numpy + six) == cffi + six


def test_no_pin_of_the_locks_is_left_out_when_pip_audit_is_asked_about_one_version_at_a_time() -> None:
    files = [*PROJECT.glob("*.lock"), *PROJECT.glob("conformance/*.lock"), *PROJECT.glob("supply_chain/*.lock")]
    assert len(files) == 9
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
