"""What the READMEs and the chart show is from `benchmarks/results.json`, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import chart, rendering
from benchmarks.figures import RESULTS, ROOT, RUNS

MEASURED = json.loads(RESULTS.read_text())


def test_all_that_is_shown_was_made_from_the_results():
    for file, document in rendering.documents(MEASURED).items():
        text = Path(ROOT, file).read_text()
        assert rendering.replace(text, document, file) == text, f"scripts/figures --render: {file}"
    assert Path(ROOT, chart.FILE).read_text() == chart.draw(MEASURED)


def test_every_benchmark_is_in_the_results_and_in_a_table():
    assert MEASURED["figures"].keys() == RUNS.keys()
    shown = "".join(rendering.documents(MEASURED).values())
    told = ("transfers_per_second", "median_ms", "us_a_transfer")
    for name, figure in MEASURED["figures"].items():
        if name == "stages":  # a run of its own, which is shown by its costs
            (costs,) = figure["details"].values()
            assert all(f" {rendering.cell(cost['cpu_us'])} " in shown for cost in costs)
            continue
        for key, value in {**figure["rows"][-1], **figure}.items():
            if key.endswith(told):
                assert f" {rendering.cell(value)} " in shown, (name, key)


def test_no_rate_stands_in_the_readme_outside_the_markers():
    text = Path(ROOT, "README.md").read_text()
    by_hand = re.sub(f"{rendering.BEGIN}.*{rendering.END}", "", text, flags=re.DOTALL)
    assert not re.search(r"\d[\d,.]* *(transfers/s|a second|/s\b|ms\b)", by_hand)


def test_what_was_not_measured_is_left_out_and_a_document_without_a_place_is_refused():
    assert rendering.documents({})["README.md"] == ""
    only = {**MEASURED, "figures": {"memory": MEASURED["figures"]["memory"]}}
    assert "resident MB" in rendering.documents(only)["benchmarks/FIGURES.md"]
    assert "bare COPY" not in rendering.documents(only)["README.md"]
    with pytest.raises(SystemExit, match="no place for figures"):
        rendering.replace("nothing", "", "README.md")
