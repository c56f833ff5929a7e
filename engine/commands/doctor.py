"""`engine doctor`: everything an operator would check, the most urgent first."""

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, run_loop
from engine.operating.doctor import RULES, judge
from engine.operating.facts import gather
from engine.operating.findings import Finding
from engine.settings import stream_prefix

_STYLES = {"urgent": "bold red", "warning": "yellow", "note": "cyan"}


def doctor(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check everything that can be wrong, and say what to do next.

    Findings come by urgency, and a cause before what follows from it. Exit 1 where one
    is urgent.

    Example: engine doctor --data ./ledger
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    findings = judge(run_loop(gather(*addresses, stream_prefix())))
    is_urgent = any(finding.severity == "urgent" for finding in findings)
    if json:
        print_json({"healthy": not is_urgent, "findings": findings, "rules": len(RULES)})
    else:
        print_findings(findings)
    raise typer.Exit(1 if is_urgent else 0)


def print_findings(findings: list[Finding]) -> None:
    """Print findings with the command that comes next."""
    for finding in findings:
        style = _STYLES[finding.severity]
        out.print(f"{finding.severity.upper():<8} {finding.finding}", style=style)
        out.print(f"   NEXT: {finding.command}")
    if not findings:
        out.print(f"All is well: {len(RULES)} rules found nothing.", style="green")
