"""What is generated of the documentation, and whether it is up to date.

    python docs/generate.py docs      writes docs/cli.md and the reference in docs/tables.md (make docs)
    python docs/generate.py schema    writes sql/schema.sql (make schema)
    python docs/generate.py check     names what is out of date, and links that lead nowhere (make check)

The schema is read from a migrated database on an embedded PostgreSQL that is made for this and thrown away.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click

from arcadia_pipelines import embedded
from arcadia_pipelines.cli.main import arcadia
from arcadia_pipelines.storage import database, migrations

PROJECT = Path(__file__).parents[1]
PAGES = [*sorted(PROJECT.glob("*.md")), *sorted(PROJECT.glob("docs/*.md"))]
COMMANDS, TABLES, SCHEMA = PROJECT / "docs/cli.md", PROJECT / "docs/tables.md", PROJECT / "sql/schema.sql"
REFERENCE = "<!-- Generated from the database's own comments by `make docs`: change them in a migration. -->\n"
INTRODUCTION = """# The command line

<!-- Generated from the commands' own help by `make docs`. -->

`arcadia` is installed with the package; in a checkout it is `.venv/bin/arcadia`. The exit code is 0, or 1 with one line
on stderr that says what is wrong and what to do, or 2 for a wrong call. What `--json` prints has amounts as whole cents
and other decimals as strings. Operators' acts are explained in [operations](operations.md#what-operators-do).
"""
RELATIONS = """
    select n.nspname, c.relname, case when c.relkind = 'v' then 'view' else 'table' end,
           coalesce(obj_description(c.oid, 'pg_class'), ''), a.attname, format_type(a.atttypid, a.atttypmod),
           a.attnotnull or c.relkind = 'v', coalesce(col_description(c.oid, a.attnum), '')
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname in ('cloud', 'billing') and c.relkind in ('r', 'p', 'v') and not c.relispartition
    order by n.nspname desc, c.relname, a.attnum
"""
NOISE = re.compile(
    r"^(--|-- Dumped .*|-- PostgreSQL database dump.*|\\(un)?restrict .*|SET .*|SELECT pg_catalog\.set_config.*)\n",
    re.MULTILINE,
)


def commands(command: click.Command, parent: click.Context | None = None, name: str = "arcadia") -> Iterator[str]:
    """The help of the command and those under it, as a person sees it."""
    context = click.Context(command, parent, name, terminal_width=100, **command.context_settings)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name_under, under in sorted(command.commands.items()):
            yield from commands(under, context, name_under)


def tables(url: str) -> Iterator[str]:
    """A section per table and view: what a row is, and its columns."""
    with database.transaction(database.engine(url)) as connection:
        rows = connection.exec_driver_sql(RELATIONS).all()
    for (schema, table, kind, comment), columns in groupby(rows, key=lambda row: tuple(row[:4])):
        yield f"### {schema}.{table}\n\nA {kind}. {comment}\n\n| column | type | |\n|---|---|---|\n" + "".join(
            f"| `{name}` | {type_}{'' if required else ', or null'} | {meaning.replace('|', chr(92) + '|')} |\n"
            for *_, name, type_, required, meaning in columns
        )


def schema(url: str) -> str:
    """The schema as PostgreSQL dumps it, without what differs from one dump to the next."""
    dump = ["--schema-only", "--no-owner", "--no-privileges", "--schema=cloud", "--schema=billing", f"--dbname={url}"]
    ended = subprocess.run([embedded.binary("pg_dump"), *dump], capture_output=True, text=True, check=True)
    said = re.sub(r"\n{3,}", "\n\n", NOISE.sub("", ended.stdout))
    said = re.sub(r"^-- Name: .*\n\n", "", said, flags=re.MULTILINE)
    return (
        f"-- The schema as all migrations leave it, for reading: written by `make schema`, and never executed.\n{said}"
    )


def generated() -> dict[Path, str]:
    """What each generated file must be."""
    with tempfile.TemporaryDirectory(prefix="arcadia-docs-") as home:
        try:
            url = embedded.start(Path(home))
            migrations.migrate(database.engine(url))
            by_hand = TABLES.read_text().partition(REFERENCE)[0]
            return {
                COMMANDS: "\n".join([INTRODUCTION, *commands(arcadia)]),
                TABLES: "\n".join([by_hand + REFERENCE, *tables(url)]),
                SCHEMA: schema(url),
            }
        finally:
            embedded.stop(Path(home))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links() -> list[str]:
    """The links between pages and to files, and the names of files, that lead nowhere."""
    files = [str(file) for folder in PROJECT.glob("[!.]*") for file in folder.rglob("*.*")]
    found = []
    for page in PAGES:
        for name in re.findall(r"`([\w./-]+\.(?:py|sql|sh|css|js|service))`", page.read_text()):
            if not any(file.endswith(f"/{name}") for file in files):
                found.append(f"{page.relative_to(PROJECT)}: there is no file {name}")
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                found.append(f"{page.relative_to(PROJECT)}: the link {link} leads nowhere")
    return found


def main(what: str) -> int:
    """Do what is asked; the exit code is 1 if a check found something."""
    texts = generated()
    if what != "check":
        for file in [SCHEMA] if what == "schema" else [COMMANDS, TABLES]:
            file.write_text(texts[file])
        return 0
    stale = [file for file, text in texts.items() if not file.exists() or file.read_text() != text]
    wrong = [
        f"{file.relative_to(PROJECT)} is out of date: run make {'schema' if file == SCHEMA else 'docs'}"
        for file in stale
    ]
    print("\n".join(wrong := [*wrong, *dead_links()]), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
