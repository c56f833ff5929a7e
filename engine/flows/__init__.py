"""Flows: money movement in several steps, durable, defined as a table."""

from engine.flows.definition import Flow
from engine.flows.inputs import Account, Amount, Input

__all__ = ["Account", "Amount", "Flow", "Input"]
