"""The findings of a data set's checks, as a table and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..coco_dataset import DatasetInfo
from .issues import Finding, worst_severity


def format_info(info: DatasetInfo) -> str:
    """The contents of a data set in one line."""
    return (
        f"{info.images:,} image(s), {info.annotations:,} annotation(s), {len(info.classes):,} "
        f"class(es), {'masks' if info.masks else 'no masks'}, {len(info.keypoints)} keypoint(s)"
    )


def format_findings(findings: Sequence[Finding]) -> str:
    """A table with a row for each finding: severity, kind, count, meaning and the first places."""
    if not findings:
        return "Nothing is wrong."
    rows = [
        (
            finding.severity,
            finding.kind,
            f"{finding.count:,}",
            finding.type.meaning,
            "\n".join(finding.examples) + finding.more,
        )
        for finding in findings
    ]
    heads = ("", "problem", "count", "", "first")
    return tabulate(rows, heads, colalign=("left", "left", "right", "left", "left"))


def report_as_json(
    annotations: Path, images: Path, info: DatasetInfo, findings: Sequence[Finding]
) -> dict[str, Any]:
    """The contents of a data set and its findings, as a dict that can be written as JSON.

    Args:
        annotations: the annotation file.
        images: the image folder.
        info: contents of the annotation file.
        findings: issues that were found.
    """
    return {
        "annotations": str(annotations),
        "image_folder": str(images),
        "images": info.images,
        "annotations_in_all": info.annotations,
        "classes": info.classes,
        "keypoints": info.keypoints,
        **findings_as_json(findings),
    }


def findings_as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The worst severity and all findings, as a dict that can be written as JSON."""
    return {
        "worst": worst_severity(findings),
        "problems": [
            {
                "problem": finding.kind,
                "severity": finding.severity,
                "count": finding.count,
                "meaning": finding.type.meaning,
                "first": finding.examples,
            }
            for finding in findings
        ],
    }
