"""The tree of errors that errors.py draws, beside the classes that there are."""

import importlib
import pkgutil
import re

import arcadia_pipelines
from arcadia_pipelines import errors
from arcadia_pipelines.errors import ArcadiaError


def ours() -> set[type[Exception]]:
    """Every class of an error that a module of the package defines."""
    found = set[type[Exception]]()
    for module in pkgutil.walk_packages(arcadia_pipelines.__path__, "arcadia_pipelines."):
        if module.name.endswith(".renderer"):  # a program of its own
            continue
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, Exception) and thing.__module__.startswith("arcadia"):
                found.add(thing)
    return found


def drawn() -> dict[str, tuple[str | None, str]]:
    """By class, as the docstring has it: the class above it, and the module where it stands, if it is not errors.py."""
    above: list[str] = []
    found = {}
    for indent, name, rest in re.findall(r"^    ((?: {4})*)(\w+)(.*)$", str(errors.__doc__), re.MULTILINE):
        depth = len(indent) // 4
        del above[depth:]
        [module] = re.findall(r"[\w/]+\.py", rest) or ["errors.py"]
        found[name] = (above[-1] if above else None, module)
        above.append(name)
    return found


def test_the_tree_that_is_drawn_is_the_tree_that_there_is() -> None:
    there_is = {
        error.__name__: (
            error.__bases__[0].__name__ if error is not ArcadiaError else None,
            error.__module__.removeprefix("arcadia_pipelines.").replace(".", "/") + ".py",
        )
        for error in ours()
    }
    assert drawn() == there_is


def test_every_error_of_ours_has_the_one_base() -> None:
    assert [error.__name__ for error in ours() if not issubclass(error, ArcadiaError)] == []
