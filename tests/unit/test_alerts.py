"""Alerts and the dashboard use only metrics that exist, and alerts fire when they should."""

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from engine.commands.main import COMMANDS
from engine.operating.metrics import Metrics
from tests.promtool import NoPackageError, find_promtool

CASES = Path(__file__).parent.parent / "cases" / "alerts.yml"
ALERTS = files("engine.operating") / "alerts.yml"
DASHBOARD = files("engine.operating") / "dashboard.json"
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
NAME = re.compile(r"\bengine[_:][a-z0-9_:]*[a-z0-9]")


def known_names() -> set[str]:
    found = Metrics([]).registry.collect()
    return {family.name + suffix for family in found for suffix in SUFFIXES[family.type]}


def recorded_names() -> set[str]:
    return set(re.findall(r"record: (\S+)", ALERTS.read_text()))


def alert_expressions() -> list[str]:
    return re.findall(r"^\s+expr: (.+)$", ALERTS.read_text(), re.MULTILINE)


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", [*alert_expressions(), *dashboard_expressions()])
def test_an_expression_uses_metrics_that_exist(expression: str) -> None:
    names = set(NAME.findall(expression))
    assert names
    assert names <= known_names() | recorded_names()


def test_there_are_alerts_and_panels() -> None:
    assert len(alert_expressions()) > 15
    assert len(dashboard_expressions()) > 15


def test_what_an_alert_says_to_run_is_a_command() -> None:
    commands = re.findall(r"^\s+command: engine (\w+)", ALERTS.read_text(), re.MULTILINE)
    assert commands
    assert set(commands) <= COMMANDS.keys()


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for rule in re.split(r"\n      - ", ALERTS.read_text())[1:]:
        if rule.startswith("alert:"):
            assert re.search(r"severity: (page|warn)", rule), rule
            assert "summary:" in rule, rule
            assert "command:" in rule, rule


def test_no_metric_has_an_account_or_a_transfer_for_a_label() -> None:
    metrics = Metrics([])
    labels = {
        label for family in metrics.registry.collect() for s in family.samples for label in s.labels
    }
    assert labels <= {
        "outcome",
        "shard",
        "kind",
        "phase",
        "cause",
        "server",
        "rule",
        "severity",
        "le",
        "bound",
        "fate",
        "worker",
    }


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return find_promtool(tmp_path_factory.mktemp("promtool"))
    except NoPackageError as error:
        # Only where there is neither Prometheus nor a Debian that gives it.
        pytest.skip(f"alerts are not tried by promtool: {error}")


@pytest.mark.parametrize("words", [["check", "rules", str(ALERTS)], ["test", "rules", str(CASES)]])
def test_promtool_finds_that_each_alert_fires_when_it_should(
    promtool: str, words: list[str]
) -> None:
    ended = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
