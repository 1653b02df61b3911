"""The columns of our tables as the database has them: names, types, comments. Nothing is declared twice."""

from typing import NamedTuple

from sqlalchemy.engine import Connection

_COLUMNS = """
    select attname, format_type(atttypid, atttypmod), not attnotnull, coalesce(col_description(attrelid, attnum), '')
    from pg_attribute
    where attrelid = ('billing.' || %(table)s)::regclass and attnum > 0 and not attisdropped order by attnum
"""


class Column(NamedTuple):
    """A column of a table."""

    name: str
    type: str
    nullable: bool
    comment: str


def of(connection: Connection, table: str) -> list[Column]:
    """The billing table's columns, in order."""
    return [Column(*row) for row in connection.exec_driver_sql(_COLUMNS, {"table": table})]
