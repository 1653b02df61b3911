"""A tax invoice or an adjustment note as a PDF: PDF/A-3a for archives and PDF/UA-1 for screen readers, by typst.

The e-invoice is in it as invoice.xml, in the way of Factur-X and ZUGFeRD: the same invoice, for programs.

Belongs here: bytes. Does not: what a document says (page.py), how it looks (invoice.typ), which have left the house
(storage/documents.py). The same content is the same bytes, whenever and wherever this version makes them.
"""

import datetime as dt
import functools
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import font_source_sans_pro
import typst

from arcadia_pipelines.documents import xml
from arcadia_pipelines.documents.content import Content, NoDocument
from arcadia_pipelines.documents.page import page
from arcadia_pipelines.storage.operations import OperationRefused

TEMPLATE = Path(__file__).with_name("invoice.typ")
FONTS = Path(font_source_sans_pro.__file__).parent / "files"
_UNKNOWN = "\N{WHITE SQUARE}"
"""Stands for a character that no font has: both standards forbid a glyph that is missing."""
_MOST_ASKED = 200
"""Characters of one document that are looked for in the fonts, each in a few milliseconds."""
_UNSURE = re.compile("[^\n -~\u00a0-\u024f\u2010-\u2026\u200b\u2212]")
"""What is not surely in the fonts: all but Latin letters, punctuation and what page.py writes."""
_ONE_CHARACTER = b'#set document(title: "-")\n#set text(lang: "en")\n#text(font: "Source Sans Pro", sys.inputs.page)'
_ONE_LOGO = b"""#set document(title: "-")
#image(bytes(sys.inputs.page), format: "svg", height: 14mm, alt: "-")"""
_idle: list[typst.Compiler] = []


@functools.cache
def _template() -> bytes:
    return TEMPLATE.read_bytes()


@functools.cache
def made_by() -> str:
    """The renderer and its version, which a document's bytes depend on beside its content."""
    template = hashlib.sha256(_template()).hexdigest()[:8]
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("arcadia-pipelines", "typst"))
    return f"{', '.join(versions)}, invoice.typ {template}"


def tag(content: Content) -> str:
    """What changes when the bytes do, without making them."""
    parts = made_by(), _spelled(page(content)), e_invoice(content), str(_date(content))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def render(content: Content) -> bytes:
    """The document. No name and no logo fails it: what cannot be shown is left out, or a square stands for it."""
    said, attached = page(content), e_invoice(content)
    for attempt in _attempts(said):
        try:
            return _compile(_template(), _date(content), page=_spelled(attempt), attached=attached)
        except typst.TypstError as error:
            failed = error
    raise failed


def refuse_logo(svg: str) -> None:
    """Refuse a logo that documents would leave out, because it cannot be drawn. Raises OperationRefused."""
    try:
        _compile(_ONE_LOGO, dt.date(2000, 1, 1), page=svg)
    except typst.TypstError as error:
        raise OperationRefused(f"the logo cannot be drawn ({error}): save it as plain SVG, and enter that") from error


def e_invoice(content: Content) -> str:
    """What is attached; empty for an invoice that has no e-invoice."""
    try:
        return xml.render(content).decode()
    except NoDocument:
        return ""


def _attempts(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The page as it is; without what the fonts lack; without a logo that cannot be drawn; without what is left."""
    yield said
    yield (shown := _with_squares(said, _missing(_unsure(said))))
    yield shown | {"logo": None}
    yield _with_squares(said, set(_unsure(said))) | {"logo": None}


def _unsure(said: dict[str, Any]) -> list[str]:
    """The characters of the page that the fonts may lack."""
    return sorted(set(_UNSURE.findall("".join(_texts({**said, "logo": None})))))


def _missing(characters: list[str]) -> set[str]:
    asked = characters[:_MOST_ASKED]
    return {character for character in asked if not _has(character)} | set(characters[_MOST_ASKED:])


def _texts(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, dict | list | tuple):
        for value in said.values() if isinstance(said, dict) else said:
            yield from _texts(value)


def _with_squares(said: Any, missing: set[str]) -> Any:
    if isinstance(said, str):
        return "".join(_UNKNOWN if character in missing else character for character in said)
    if isinstance(said, dict):
        return {name: value if name == "logo" else _with_squares(value, missing) for name, value in said.items()}
    return [_with_squares(value, missing) for value in said] if isinstance(said, list | tuple) else said


@functools.lru_cache(4096)
def _has(character: str) -> bool:
    """Whether a font has the character."""
    try:
        _compile(_ONE_CHARACTER, dt.date(2000, 1, 1), page=character)
    except typst.TypstError:
        return False
    return True


def _compile(source: bytes, date: dt.date, **inputs: str) -> bytes:
    """The PDF of these sys.inputs.

    A compiler keeps the fonts and serves one thread at a time: there are as many as threads at once.
    """
    at = int(dt.datetime.combine(date, dt.time(), dt.UTC).timestamp())
    try:
        compiler = _idle.pop()
    except IndexError:
        compiler = typst.Compiler(root=TEMPLATE.parent, font_paths=[FONTS], ignore_system_fonts=True)
    try:
        made = compiler.compile(
            input=source, format="pdf", sys_inputs=inputs, pdf_standards=["a-3a", "ua-1"], timestamp=at
        )
    finally:
        _idle.append(compiler)
    assert isinstance(made, bytes)
    return made


def _spelled(said: dict[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False)


def _date(content: Content) -> dt.date:
    """The date in the file: of issue; of a draft, the month's end."""
    return content.issued_on or content.month.end
