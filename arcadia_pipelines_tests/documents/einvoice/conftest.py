"""Peppol's rules, which may not be handed on: whoever has them says in which folder (`make einvoice`)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree
from saxonche import PySaxonProcessor

RULES = ("PINT-UBL-validation-preprocessed.xslt", "PINT-jurisdiction-aligned-rules.xslt")
"""What of them is needed: the compiled Schematron of PINT, and of PINT A-NZ billing."""
_FINDINGS = [f"{{http://purl.oclc.org/dsdl/svrl}}{name}" for name in ("failed-assert", "successful-report")]

Finding = tuple[str, str]
"""How bad it is (fatal or warning), and the rule."""
Judge = Callable[[bytes], list[Finding]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rules FOLDER`."""
    parser.addoption("--rules", type=Path, required=True, metavar="FOLDER", help=f"where {' and '.join(RULES)} are")


@pytest.fixture(scope="session")
def judge(pytestconfig: pytest.Config) -> Iterator[Judge]:
    """What the rules say against an e-invoice."""
    files = [pytestconfig.getoption("--rules").resolve() / name for name in RULES]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise pytest.UsageError(f"no {' and no '.join(missing)}: name the folder of PINT A-NZ billing's compiled rules")
    with PySaxonProcessor(license=False) as saxon:
        compiler = saxon.new_xslt30_processor()
        rules = [compiler.compile_stylesheet(stylesheet_file=str(file)) for file in files]

        def findings(document: bytes) -> list[Finding]:
            read = saxon.parse_xml(xml_text=document.decode())
            reports = [etree.fromstring(rule.transform_to_string(xdm_node=read).encode()) for rule in rules]
            return [(found.get("flag"), found.get("id")) for report in reports for found in report.iter(*_FINDINGS)]

        yield findings
