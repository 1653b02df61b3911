"""Documents as files: one, or all of a month, in a folder or an object store.

Belongs here: where documents are written, whole or not at all. Does not: what they are (pdf.py), or that they were
delivered (storage/documents.py).
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
from fsspec.implementations.local import LocalFileSystem
from sqlalchemy.engine import Connection

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import pdf
from arcadia_pipelines.documents.content import Content, content_of
from arcadia_pipelines.errors import Refused
from arcadia_pipelines.storage import documents

_AT_ONCE = os.cpu_count() or 1  # typst works without Python's lock
_READ = 50  # invoices that are read, made and written before the next


class NotWritten(Refused):
    """A document cannot be written where it should be; the message says why."""


def name_of(content: Content, ending: str = "pdf") -> str:
    """The file's name: by the invoice's number, which may be another system's, or else its id."""
    return f"{quote(content.number or content.invoice_id, safe=' ')}.{ending}"


def write(document: bytes, path: Path) -> None:
    """Write it in the place of a file that was there, whole or not at all. Raises NotWritten."""
    try:
        with tempfile.TemporaryDirectory(prefix=".arcadia-", dir=path.parent) as folder:
            written = Path(folder, "document")
            written.write_bytes(document)
            os.replace(written, path)
    except OSError as error:
        why = error.strerror or str(error)
        raise NotWritten(f"cannot write {path} ({why}): name a file in a folder that has room and lets you") from error


def write_month(connection: Connection, month: BillingMonth, into: str) -> Iterator[tuple[int, int]]:
    """Write the month's numbered invoices as PDFs into a folder or an object store, like s3://bucket/folder.

    Yields how many are written, and of how many. A file that was there is replaced. The connection sees one state
    throughout (database.snapshot). Raises NotWritten, and NoDocument if nobody was entered as the supplier.
    """
    put, invoices = writer(into), documents.of_month(connection, month)
    yield 0, len(invoices)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(invoices), _READ):
            contents = map(content_of, documents.content(connection, invoices[first : first + _READ]))
            made = [pool.submit(_make, content, put) for content in contents]
            for one in made:
                one.result()
            yield first + len(made), len(invoices)


Put = Callable[[str, bytes], None]


def _make(content: Content, put: Put) -> None:
    put(name_of(content), pdf.render(content))


def writer(into: str) -> Put:
    """What writes a document under a name there. Raises NotWritten."""
    try:
        system, folder = fsspec.core.url_to_fs(into)
        system.makedirs(folder, exist_ok=True)
    except (OSError, ValueError, ImportError) as error:
        raise NotWritten(f"cannot write to {into}: {error}") from error
    if isinstance(system, LocalFileSystem):
        return lambda name, document: write(document, Path(folder, name))
    return lambda name, document: _put(system, f"{folder}/{name}", document)


def _put(system: Any, path: str, document: bytes) -> None:
    """Object stores show an object whole or not at all."""
    try:
        system.pipe_file(path, document)
    except OSError as error:
        raise NotWritten(f"cannot write {path}: {error}") from error
