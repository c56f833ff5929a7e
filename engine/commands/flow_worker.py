"""Flows out of a file of Python, and a worker of them: for `flows worker`, `worker` and `up`."""

import runpy
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from engine.errors import EngineError, InputError
from engine.flows.calls import Function
from engine.flows.definition import Flow
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams
from engine.flows.worker import FlowWorker
from engine.servers import Addresses
from engine.settings import stream_prefix

FlowsFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE.py", exists=True, dir_okay=False, help="Definitions.")
]
CodeFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--flows", metavar="FILE.py", exists=True, help="Definitions with their code."),
]


def load_flows(path: Path) -> list[Flow]:
    """The flows that a file of Python defines.

    Raises:
        InputError: When it defines none, or cannot be run.
    """
    sys.path.insert(0, str(path.resolve().parent))
    try:
        names = runpy.run_path(str(path))
    except EngineError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    found = {id(value): value for value in names.values() if isinstance(value, Flow)}
    if not found:
        raise InputError(f"{path} defines no flow: make one with engine.flows.Flow(...)")
    return list(found.values())


def functions_of(path: Path | None) -> dict[str, Function]:
    """The functions that the calls of a file's flows call."""
    functions: dict[str, Function] = {}
    for flow in load_flows(path) if path is not None else ():
        functions |= flow.functions
    return functions


def make_worker(addresses: Addresses, functions: Mapping[str, Function]) -> FlowWorker:
    """A flow worker, not yet running."""
    worker = uuid.uuid4().bytes
    streams = FlowStreams(addresses.redis_url, stream_prefix(), f"flows-{worker.hex()}")
    return FlowWorker(FlowStore(addresses.postgres_dsn, worker), streams, 0, functions)
