"""The relay demo's table, and its figures in the README."""

import json

from helpers import ROOT

from nl_detectron.relay_demo import format_table


def test_the_table_sets_a_run_beside_the_recorded_ones():
    found = {"relay_nl": [(80.0, 90.0), (84.0, 92.0)], "relay": [(30.0, 31.0)]}
    records = [
        {"name": name, "threads": 1, "box": box, "mask": mask}
        for name, aps in found.items()
        for box, mask in aps
    ]
    records.append({"name": "relay_nl", "threads": 2, "box": 1.0, "mask": 1.0})
    results = {"box": 82.0, "mask": 91.5, "minutes": 5}
    lines = format_table("relay_nl", 3, results, records).splitlines()
    assert lines[0].split() == ["held-out", "images", "box", "AP", "mask", "AP"]
    assert "seed 3, this run" in lines[2] and lines[2].endswith("82.0                 91.5")
    assert "82.0 (80.0 to 84.0)" in lines[3] and "91.0 (90.0 to 92.0)" in lines[3]
    assert lines[4].startswith("relay, 1 recorded") and "30.0 (30.0 to 30.0)" in lines[4]


def test_the_readmes_figures_are_of_the_recorded_runs():
    records = json.loads((ROOT / "docs/relay_demo.json").read_text())
    readme = (ROOT / "README.md").read_text()
    for model, tasks in (("mask", ("box", "mask")), ("keypoint", ("keypoint",))):
        for name in (f"relay_{model}_rcnn_nl", f"relay_{model}_rcnn"):
            runs = [r for r in records if r["name"] == name and r["threads"] == 1]
            for task in tasks:
                aps = [run[task] for run in runs]
                mean = sum(aps) / len(aps)
                assert f"{mean:.1f} ({min(aps):.1f} to {max(aps):.1f})" in readme
