"""Usage in Parquet files of one folder, local or of an object store, counted by DuckDB in this process.

What was counted is the list of files, each with its size and the store's ETag, or the time of its last change.
"""

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.usage import duck, expressions
from arcadia_pipelines.usage.contract import RECORDS, UsageSourceError, misfits, types_of

Pin = dict[str, Any]
_TAGS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def source(url: str) -> tuple[str, Callable[[Pin | None], AbstractContextManager["ParquetFiles"]]]:
    """The name and the opener of a URL like parquet:/data/usage or parquet:s3://bucket/usage.

    The name leaves out a slash at the end, and a password: an object store has that in variables, sftp as
    sftp://user:password@host here.
    """
    address = url.removeprefix("parquet:")
    if len(address) > 1:
        address = address.rstrip("/")
    if not address:
        raise UsageSourceError("ARCADIA_USAGE_URL names no folder: write it like parquet:/data/usage")
    name = "parquet:" + re.sub("(?<=://)([^/@:]*):[^/@]*@", r"\1@", address)
    return name, partial(_opened, name, address)


@dataclass(frozen=True)
class ParquetFiles:
    """Some files of a folder."""

    pin: Pin
    _duck: duckdb.DuckDBPyConnection
    _files: fsspec.AbstractFileSystem
    _root: str
    is_pinned: bool = True
    dialect: str = duck.DIALECT

    def types(self) -> Mapping[str, str]:
        """The types of the first file; that all files fit the contract is checked here. Raises UsageSourceError."""
        found: Mapping[str, str] = types_of(RECORDS) if not self.pin["files"] else {}
        for file in self.pin["files"]:
            types = types_of(self._schema(file["name"]))
            found = found or types
            if faults := misfits(types):
                raise UsageSourceError(
                    f"{file['name']} of {self.pin['source']} does not fit the contract (docs/usage.md):"
                    f" {'; '.join(faults)}"
                )
        return found

    def give(self, name: str, rows: pa.Table) -> None:
        """The rows, in this process's memory."""
        self._duck.register(name, rows)

    def run(self, sql: str, month: BillingMonth) -> pa.Table:
        """What the SQL selects of the records of all files."""
        paths = [self._path(file["name"]) for file in self.pin["files"]]
        if paths:
            records = self._duck.read_parquet(paths, hive_partitioning=False, union_by_name=True)
        else:
            records = self._duck.from_arrow(RECORDS.empty_table())
        records.create_view(expressions.RECORDS)
        return self._duck.sql(sql).to_arrow_table()

    def has_changed(self) -> str | None:
        """The first of the files that is gone, or has changed."""
        now = {file["name"]: file for file in _listed(self._files, self._root)}
        for file in self.pin["files"]:
            if file != now.get(file["name"]):
                return f"{file['name']} {'has changed' if file['name'] in now else 'is gone'}"
        return None

    def added_since(self, pin: Pin) -> "ParquetFiles | None":
        """The files that were not there; None if one of those that were is gone, or has changed."""
        before, now = ({file["name"]: file for file in of["files"]} for of in (pin, self.pin))
        if any(file != now.get(name) for name, file in before.items()):
            return None
        added = [file for name, file in now.items() if name not in before]
        return replace(self, pin={**self.pin, "files": added})

    def _path(self, name: str) -> str:
        """The file's path for DuckDB, which would take an asterisk or a bracket in it for a pattern."""
        path = f"{self._root}/{name}"
        return glob.escape(path if _is_local(self._files) else self._files.unstrip_protocol(path))

    def _schema(self, name: str) -> pa.Schema:
        try:
            with self._files.open(f"{self._root}/{name}") as file:
                return pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise UsageSourceError(
                f"{name} of {self.pin['source']} is no whole Parquet file ({' '.join(str(error).split())[:120]}): wait"
                " until it is written, or remove it"
            ) from error


@contextmanager
def _opened(name: str, address: str, pin: Pin | None) -> Iterator[ParquetFiles]:
    files, root = url_to_fs(address)
    root = root.rstrip("/")
    if not files.isdir(root):
        raise UsageSourceError(f"{name}: there is no such folder")
    counted_from = pin or {"source": name, "files": _listed(files, root)}
    if not counted_from["files"]:  # else a month of no usage at all would be invoiced
        raise UsageSourceError(f"{name} has no *.parquet files: write them, or correct ARCADIA_USAGE_URL")
    with duck.connection() as connection:
        if not _is_local(files):
            connection.register_filesystem(files)
        yield ParquetFiles(counted_from, connection, files, root)


def _listed(files: fsspec.AbstractFileSystem, root: str) -> list[Pin]:
    """The Parquet files below the folder, by name; not what others hide, or are still writing.

    Raises UsageSourceError for a link to a folder: whose files it has, perhaps also by another name, is not looked at.
    """
    files.invalidate_cache()
    found = []
    for info in _below(files, root):
        path, is_link = info["name"], bool(info.get("islink"))
        name = path.removeprefix(root).lstrip("/")
        if any(part.startswith(("_", ".")) for part in name.split("/")):
            continue
        if is_link and files.isdir(path):
            raise UsageSourceError(f"{name} of {root} is a link to a folder: put the folder itself there")
        if name.endswith(".parquet"):
            if is_link:  # which stays as it is when its file changes
                info = files.info(os.path.realpath(path))
            tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
            found.append({"name": name, "size": info["size"], "etag": tag.strip('"')})
    return sorted(found, key=lambda file: str(file["name"]))


def _below(files: fsspec.AbstractFileSystem, folder: str) -> Iterator[dict[str, Any]]:
    """All files below the folder, as fsspec has them. Its own walk leaves out in silence a folder that it cannot list.

    An object store has no folders: it lists all at once, or fails.
    """
    if isinstance(files, AsyncFileSystem):
        yield from files.find(folder, detail=True).values()
        return
    for info in files.ls(folder, detail=True):
        if info["type"] != "directory":
            yield info
        elif not info["name"].rpartition("/")[2].startswith(("_", ".")):
            yield from _below(files, info["name"])


def _is_local(files: fsspec.AbstractFileSystem) -> bool:
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
