"""`engine bench`: how fast is it here?"""

from typing import Annotated

import typer

from benchmarks import end_to_end
from benchmarks.serving import WORKERS_BEST


def bench(
    workers: Annotated[
        int, typer.Option(min=1, help="How many workers the engine's process runs.")
    ] = WORKERS_BEST,
    transfers: Annotated[
        int | None, typer.Option(min=1, help="How many are sent; 2,000,000 if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs, of which the medians count.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="500,000 transfers.")] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="What each stage costs the worker.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="End in one line of JSON.")] = False,
) -> None:
    """Measure durable transfers a second, beside bare COPY.

    It ends with 1 when it does not add up. On throw-away servers, with nothing read
    or left outside a temporary directory.

    Example: engine bench --quick
    """
    arguments = [f"--workers={workers}", f"--rounds={rounds}"]
    arguments += [f"--transfers={transfers}"] if transfers else []
    flags = {"--quick": quick, "--stages": stages, "--json": json}
    end_to_end.main(arguments + [flag for flag, is_set in flags.items() if is_set])
