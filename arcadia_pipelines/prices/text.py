"""A price book as YAML: reading it, with what is wrong and in which line, and writing it.

Belongs here: text, lines, and how a fault is put. Does not: what may stand in a book (book.py).

YAML's scalars are read as the texts that they are: `price_aud: 0.1` is one tenth, and no binary float on the way. A key
twice, an alias and a tag are faults, so that what a reviewer sees is what counts.
"""

import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from arcadia_pipelines.errors import InvalidInput
from arcadia_pipelines.prices import book
from arcadia_pipelines.prices.book import PriceBook

Path = tuple[str | int, ...]
"""Where something stands in a book: ("plans", "studio", "rates", "egress_gb", "tiers", 0)."""
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's, where the wheel has it: ten times as fast
_NULL = ("", "~", "null", "Null", "NULL")
_DEEPEST = 12
"""How many levels a book may have; it has 8."""


class InvalidPrices(InvalidInput):
    """A price book that cannot be used; the message says where and why."""


@dataclass(frozen=True, order=True)
class Fault:
    """Something wrong in a line of the file, counted from 1; a warning if the book can be applied all the same."""

    line: int
    where: str
    what: str
    is_warning: bool = False

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.line), "warning" if self.is_warning else "", self.where, self.what)))


@dataclass(frozen=True)
class Reading:
    """What was read: the book, or None with its faults; and the line of each part."""

    book: PriceBook | None
    faults: list[Fault]
    lines: Mapping[Path, int]

    def fault(self, path: Path, what: str, is_warning: bool = False) -> Fault:
        """A fault at the part with this path, or at the nearest one around it."""
        return _fault(self.lines, path, what, is_warning)


def read(text: bytes) -> Reading:
    """Read a price book; never raises."""
    lines: dict[Path, int] = {(): 1}
    try:
        document, faults = _document(text.decode("utf-8-sig"), lines)
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        return Reading(None, [Fault(line, "", "is not UTF-8: save the file in that encoding")], lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Reading(None, [Fault(mark.line + 1 if mark else 1, "", f"is not YAML: {error.problem}")], lines)
    except yaml.YAMLError as error:
        return Reading(None, [Fault(1, "", f"is not YAML: {' '.join(str(error).split())}")], lines)
    return validated(document, lines, faults)


def validated(document: Any, lines: Mapping[Path, int], faults: list[Fault]) -> Reading:
    """The document as a price book, with the faults of it beside those that are known already."""
    found = [*faults, *(_fault(lines, path, what) for path, what in _unknown_codes(document))]
    valid = None
    try:
        valid = PriceBook.model_validate(document)
    except ValidationError as error:
        found += [_fault(lines, path, what) for path, what in _told(error)]
    return Reading(None if found else valid, sorted(set(found)), lines)


def write(prices: PriceBook, heading: str) -> str:
    """The price book as YAML, in one order: plans, addons and tenants by name, terms by their first month."""
    document = prices.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(_ordered(document), sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
    comments = [f"yaml-language-server: $schema={book.SCHEMA_FILE}", *heading.splitlines()]
    return "".join(f"# {line}\n" for line in comments) + (text if document else "{}\n")


def _ordered(document: dict[str, Any]) -> dict[str, Any]:
    """Names in order; the keys of a part stay in the order of its definition, which is how people read it."""
    named = {kind: dict(sorted(parts.items())) for kind, parts in document.items()}
    for part in named.get("plans", {}).values():
        _order(part, "rates")
    for tenant in named.get("tenants", {}).values():
        for kind in ("plans", "addons"):
            _order(tenant, kind)
        for plan in tenant.get("plans", {}).values():
            _order(plan, "rates")
        for kind in ("discounts", "commitments"):
            if kind in tenant:
                tenant[kind].sort(key=lambda term: (term["starts_on"], term.get("id", "")))
    return named


def _order(part: dict[str, Any], names: str) -> None:
    if names in part:
        part[names] = dict(sorted(part[names].items()))


# Reading YAML, with the line of each part.


def _document(text: str, lines: dict[Path, int]) -> tuple[Any, list[Fault]]:
    """The document as texts, dicts and lists. Raises yaml.YAMLError."""
    faults: list[Fault] = []
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return {}, [Fault(line, "", "is nested too deep")]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            faults.append(Fault(line, "", "anchors and aliases are not read: write it out"))
        elif getattr(event, "tag", None):
            faults.append(Fault(line, "", f"the tag {event.tag} is not read: leave it out"))
    node = None if faults else yaml.compose(text, Loader=_LOADER)
    return ({} if node is None else _plain(node, (), lines, faults)), faults


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int], faults: list[Fault]) -> Any:
    """The node as text, dict or list; a key without a value is left out, as if it were not there."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        is_plain = getattr(node, "style", None) in (None, "")
        return None if is_plain and node.value in _NULL else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one, (*path, place), lines, faults) for place, one in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            faults.append(Fault(line, spelled(path), "a key is not text"))
            continue
        here = (*path, key.value)
        if here in lines:
            faults.append(Fault(line, spelled(here), f"is there twice: first in line {lines[here]}"))
            continue
        lines[here] = line
        if (content := _plain(value, here, lines, faults)) is not None:
            found[key.value] = content
    return found


# How faults are put.


def _fault(lines: Mapping[Path, int], path: Path, what: str, is_warning: bool = False) -> Fault:
    around = path
    while around not in lines and around:
        around = around[:-1]
    return Fault(lines.get(around, 1), spelled(path), what, is_warning)


def spelled(path: Path) -> str:
    """The path as people write it: tenants.nova.discounts.1, places counted from 1."""
    return ".".join(str(part + 1 if isinstance(part, int) else part) for part in path)


def _told(error: ValidationError) -> Iterator[tuple[Path, str]]:
    """Each fault that pydantic or a rule of ours found: where, and in words."""
    for found in error.errors(include_url=False):
        path: Path = tuple(part for part in found["loc"] if part != "[key]")
        if found["type"] == book.RULE:
            yield from ((path + below, what) for below, what in found["ctx"]["broken"])
        elif found["type"] == "missing":
            yield path[:-1], f"has no {path[-1]}"
        elif found["type"] == "extra_forbidden":
            yield path, _unknown_key(path)
        else:
            yield path, _IN_WORDS.get(found["type"], "{msg}").format(msg=found["msg"], **_given(found))


_IN_WORDS = {
    "literal_error": "{input} is none of {expected}",
    "model_type": "must have keys of its own",
    "dict_type": "must have keys of its own",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "has a null character in it",
}


def _given(found: Any) -> dict[str, str]:
    return {"input": repr(found["input"]), "expected": str(found.get("ctx", {}).get("expected", "")).replace("'", "")}


def _unknown_key(path: Path) -> str:
    known = _keys_beside(path)
    near = difflib.get_close_matches(str(path[-1]), known, 1, 0.5)
    return f"is no key that is known here: {f'is {near[0]} meant?' if near else 'there are ' + ', '.join(known)}"


def _keys_beside(path: Path) -> list[str]:
    """The keys that the part has which this path leads into."""
    kind: Any = PriceBook
    for part in path[:-1]:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = [one for one in typing.get_args(kind) if one is not type(None)][-1]
        while typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
    return list(kind.model_fields)


def _unknown_codes(document: Any) -> Iterator[tuple[Path, str]]:
    """Plans and addons of tenants' own prices that the list does not have."""
    if not isinstance(document, dict) or not isinstance(document.get("tenants"), dict):
        return
    for tenant, own in document["tenants"].items():
        for kind in ("plans", "addons"):
            listed = document.get(kind)
            codes = own.get(kind) if isinstance(own, dict) else None
            for code in codes if isinstance(codes, dict) else ():
                if not isinstance(listed, dict) or code not in listed:
                    near = difflib.get_close_matches(code, listed or (), 1, 0.5)
                    hint = f"is {near[0]} meant?" if near else f"add it under {kind}"
                    yield ("tenants", tenant, kind, code), f"is none of the {kind} of this book: {hint}"
