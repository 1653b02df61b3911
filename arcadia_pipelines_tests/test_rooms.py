"""The rooms of the package: who may call whom. Data runs one way, so a reader follows it forwards only."""

import ast
from pathlib import Path

import arcadia_pipelines

PACKAGE = Path(arcadia_pipelines.__file__).parent
MAY_CALL = {
    "billing": set(),
    "storage": {"billing"},
    "usage": {"billing"},
    "again": {"billing", "storage"},
    "month": {"again", "billing", "storage", "usage"},
    "costs": {"billing", "storage"},
    "proof": {"again", "billing", "costs", "documents", "month", "storage", "usage"},
    "exports": {"billing", "storage"},
    "documents": {"billing", "storage"},
    "finance": {"billing", "storage"},
    "prices": {"billing", "storage"},
    "api": {"billing", "documents", "exports", "month", "prices", "storage"},
    "pipeline": {
        "again",
        "billing",
        "costs",
        "documents",
        "finance",
        "month",
        "prices",
        "proof",
        "storage",
        "usage",
    },
    "cli": {
        "api",
        "billing",
        "costs",
        "definitions",
        "documents",
        "exports",
        "finance",
        "month",
        "pipeline",
        "prices",
        "proof",
        "storage",
        "usage",
    },
}
"""What stands at the root (errors, settings, the embedded server) may be called by every room; by billing, errors."""
ROOT = {"errors", "settings", "embedded"}


def called_by(room: str) -> set[str]:
    """The rooms, and modules of the root, whose modules those of a room import."""
    found = set()
    for source in PACKAGE.glob(f"{room}/**/*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == PACKAGE.name:
                module = str(node.module).split(".")[1:]
                found |= {module[0]} if module else {name.name for name in node.names}
    return found - {room}


def test_the_rooms_are_these_and_each_calls_only_those_that_it_may() -> None:
    rooms = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_CALL)
    allowed = {room: may | (ROOT if room != "billing" else {"errors"}) for room, may in MAY_CALL.items()}
    assert {room: extra for room in rooms if (extra := called_by(room) - allowed[room])} == {}


def test_at_the_root_stand_the_wiring_the_errors_the_settings_and_the_embedded_server_alone() -> None:
    assert {source.stem for source in PACKAGE.glob("*.py")} == {"__init__", "definitions", *ROOT}
