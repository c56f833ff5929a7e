"""A row of a CSV file, as the mapping that a line of JSON would have given."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from engine.errors import InputError
from engine.ledger.nouns import AMOUNT_MAX

_DIGITS_MAX: Final = len(str(AMOUNT_MAX))


def read_row(
    row: Mapping[Any, str | None], columns: Collection[str], numbers: Collection[str]
) -> dict[str, Any]:
    """Read a row as `csv.DictReader` gives it.

    A cell that is empty is left out; flags are joined by `|`; an amount may be `max`.

    Args:
        row: The cells by the names of their columns.
        columns: Those that there may be.
        numbers: Those of them that hold integers.

    Raises:
        InputError: When a column is unknown, the row is shorter or longer than the header, or
            a number cannot be read; the message says where (`$.amount`).
    """
    fields: dict[str, Any] = {}
    for column, cell in row.items():
        if column is None:
            raise InputError("Row has more cells than the header")
        if column not in columns:
            raise InputError(f"Row contains unknown column `{column}`")
        if cell is None:
            raise InputError(f"Row ends before its column `{column}`")
        if not cell:
            continue
        if column == "flags":
            fields[column] = cell.split("|")
        elif column in numbers and cell != "max":
            fields[column] = _number_of(cell, column)
        else:
            fields[column] = cell
    return fields


def _number_of(cell: str, column: str) -> int:
    """Digits and nothing else: `int` alone would take 1_000, spaces and other alphabets."""
    if not (cell.isascii() and cell.isdigit()):
        raise InputError(f"Expected `int` >= 0 - at `$.{column}`")
    if len(cell) > _DIGITS_MAX:
        raise InputError(f"Expected `int` <= {AMOUNT_MAX} - at `$.{column}`")
    return int(cell)
