"""Whether two tables hold the same cells, each side read by a client of its own."""

import json
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal

from .destinations import Unreadable


def number(value):
    return int(value)


def decimal(value):
    return Decimal(str(value)).normalize()


def moment(value):
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)


def document(value):
    value = json.loads(value) if isinstance(value, str) else value
    return json.dumps(value, sort_keys=True)


KINDS = {
    "bigint": number,
    "integer": number,
    "int": number,
    "numeric": decimal,
    "decimal": decimal,
    "timestamp with time zone": moment,
    "datetime": moment,
    "jsonb": document,
    "text": str,
    "varchar": str,
}


def differences(source, destination, table) -> str | None:
    """What tells them apart, in a few words; None where nothing does."""
    columns = source.columns(table)
    names = [name for name, _ in columns]
    kinds = [KINDS[kind] for _, kind in columns]

    def cells(rows):
        return Counter(
            tuple(None if cell is None else kind(cell) for kind, cell in zip(kinds, row)) for row in rows
        )

    wanted = cells(source.rows(table, names))
    try:
        found = cells(destination.rows(table, names))
    except Unreadable as error:
        return f"{table}: {error}"
    if wanted == found:
        return None
    lacking, surplus = wanted - found, found - wanted
    shown = [f"{table}: {lacking.total()} rows lack, {surplus.total()} are too many"]
    for what, rows in (("lacks", lacking), ("has", surplus)):
        shown += [f"  {what} {str(row)[:160]}" for row in list(rows)[:3]]
    return "\n".join(shown)
