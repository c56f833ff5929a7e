"""`engine submit`: send the transfers of a file."""

from engine.client import connect
from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.feed import feed
from engine.commands.screen import Json, run_busy_loop
from engine.commands.sources import File, Source
from engine.ledger.nouns import Transfer, TransferFlags
from engine.servers import Addresses
from engine.wire.entries import CSV_COLUMNS, parse_transfer_csv_row, parse_transfer_json

_LINKED = int(TransferFlags.linked)


def submit(
    file: File,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Send transfers from a file, in its order.

    It ends with 0 when every line was decided, whatever the outcome.

    A line has id (a uuid of your choice: sending it twice is harmless),
    debit_account_id, credit_account_id, amount, ledger and code; it may have
    flags, pending_id, timeout (in seconds), user_data_128, _64 and _32. Flags
    are a list in JSON; in CSV they are joined by |. Linked transfers stand on
    neighbouring lines.

    {"id": "019b0000-0000-7000-8000-00000000000a", "amount": 2400, ...}

    Or CSV: id,debit_account_id,credit_account_id,amount,ledger,code,flags

    Example: engine submit payments.jsonl --json
    """
    source = Source(
        file,
        parse_transfer_json,
        parse_transfer_csv_row,
        CSV_COLUMNS,
        continues=lambda transfer: transfer.flags & _LINKED != 0,
    )
    addresses = find_addresses(postgres_dsn, redis_url, data)
    run_busy_loop(_submit(addresses, source, json=json))


async def _submit(addresses: Addresses, source: Source[Transfer], *, json: bool) -> None:
    async with connect(*addresses) as client:
        await feed(source, client.create_transfers, nouns="transfers", json=json)
