"""docs/bench/README.md: its tables and findings, made from the reports that ``mmlib bench --json`` wrote beside it."""

from __future__ import annotations

import json
import math
from typing import Any

from mmlib import files, paths
from mmlib.bench.common import PARTS, SMALL_PARTS, markdown, place

# In reports of other benches than BALM's epochs.
OTHERS = {"lengths", "adapters", "clips", "stages", "contributions", "sweeps"}
SHARE_GOAL = 0.2  # of an epoch of DREAM that its frozen network may take


def speed_table(reports: list[dict[str, Any]]) -> str:
    """The table of measured speeds, from what ``--json`` wrote on each machine, BALM as printed.

    BALM as released and the lengths stand in docs/bench.
    """
    reports = [report for report in reports if not OTHERS & set(report)]
    head = [
        "where",
        "method",
        "threads",
        "utterances/s",
        "s/epoch",
        "over the products' time",
        "memory MB",
        "idle",
    ]
    lines = [head, ["---"] * len(head)]
    for report in reports:
        where = place(report["machine"])
        printed = [row for row in report["rows"] if row["variant"] == "paper"]
        lines += [[where, *_speed_cells(row)] for row in printed]
    if not any(report["machine"]["device"] == "cuda" for report in reports):
        lines.append(
            [
                "a GPU",
                "not measured yet: run `mmlib bench balm --device cuda`",
                *["-"] * (len(head) - 2),
            ]
        )
    return markdown(lines)


def _speed_cells(row: dict[str, Any]) -> list[str]:
    """A line of the table of speeds, from the method on."""
    idle = row.get("idle_percent")
    return [
        row["name"],
        str(row["threads"]),
        f"{row['utterances_per_second']:,.0f}",
        f"{row['epoch_seconds']:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['memory_mb']:.0f}",
        "-" if idle is None else f"{idle:.0f} %",
    ]


def length_grid(report: dict[str, Any]) -> str:
    """A row per method: at each length ms a step, in brackets time per utterance over the first; then the shares."""
    lengths = report["lengths"]
    head = [
        "method",
        *(f"ms at {n} (growth)" for n in lengths),
        *(f"shares at {n}" for n in lengths),
    ]
    lines = [head, ["---"] * len(head)]
    for name, rows in by_name(report["rows"]).items():
        lines.append(
            [
                name,
                *(
                    f"{1e3 * row['step_seconds']:.0f} ({cost(row) / cost(rows[0]):.2f})"
                    for row in rows
                ),
                *(" / ".join(f"{100 * row['shares'][part]:.0f}" for part in PARTS) for row in rows),
            ]
        )
    return markdown(lines)


def length_findings(report: dict[str, Any]) -> str:
    """In words, for each backbone: which part is largest at each length, which grows most, what BALM adds."""
    findings, groups = [], by_name(report["rows"])
    for name, rows in groups.items():
        if rows[0]["method"] == "plain":
            continue
        first, last, alone = rows[0], rows[-1], groups[rows[0]["backbone"]]
        largest = [max(PARTS, key=row["shares"].__getitem__) for row in rows]
        added = {
            part: cost(last) * last["shares"][part] - cost(first) * first["shares"][part]
            for part in PARTS
        }
        most = max(added, key=added.__getitem__)
        extra = [cost(row) / cost(other) for row, other in zip(rows, alone, strict=True)]
        findings.append(
            f"* **{name}**, largest part: "
            + ", ".join(
                f"{part} {100 * row['shares'][part]:.0f} % at {row['length']}"
                for part, row in zip(largest, rows, strict=True)
            )
            + f". An utterance costs {1e6 * cost(first):.0f} µs at {first['length']} and {1e6 * cost(last):.0f} µs "
            f"at {last['length']} ({cost(last) / cost(first):.2f} times as much); "
            + (
                f"{most} grow{'s' * (most[-1] != 's')} most, by {1e6 * added[most]:.0f} µs"
                if added[most] > 0
                else "no part grows"
            )
            + f". BALM makes a step {min(extra):.2f} to {max(extra):.2f} times the backbone's alone."
        )
    return "\n".join(findings)


def by_name(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Measurements by ``name``, in their order."""
    return {
        name: [row for row in rows if row["name"] == name]
        for name in dict.fromkeys(row["name"] for row in rows)
    }


def cost(row: dict[str, Any]) -> float:
    """Seconds per utterance."""
    return float(1 / row["utterances_per_second"])


def epoch_table(reports: list[dict[str, Any]]) -> str:
    """Each method's speed and its epoch's time over its products', by number of threads."""
    counts = sorted({row["threads"] for report in reports for row in report["rows"]})
    lines = [
        [
            "method",
            "GFLOP an epoch",
            *(
                f"{what}, {n} thread{'s' * (n > 1)}"
                for n in counts
                for what in ("utterances/s", "over the products' time")
            ),
        ]
    ]
    lines.append(["---"] * len(lines[0]))
    for report in reports:
        for name, rows in by_name(report["rows"]).items():
            by_count = {
                row["threads"]: [f"{row['utterances_per_second']:,.0f}", f"{row['ratio']:.2f}"]
                for row in rows
            }
            lines.append(
                [
                    name,
                    f"{rows[0]['gflop']:.0f}",
                    *(cell for n in counts for cell in by_count.get(n, ["-", "-"])),
                ]
            )
    return markdown(lines)


def adapter_table(reports: list[dict[str, Any]]) -> str:
    """MCULoRA's epoch by how combinations are served, beside joint training."""
    lines = [
        ["where", "case", "s/epoch", "times the first", "utterances/s", "trained parameters"],
        ["---"] * 6,
    ]
    for report in reports:
        base = report["rows"][0]["epoch_seconds"]
        for row in report["rows"]:
            seconds = row["epoch_seconds"]
            lines.append(
                [
                    f"{place(report['machine'])}, {report['threads']} thread{'s' * (report['threads'] > 1)}",
                    row["case"],
                    f"{seconds:.2f}",
                    f"{seconds / base:.2f}",
                    f"{row['utterances'] / seconds:,.0f}",
                    f"{row['trained_parameters']:,}",
                ]
            )
    return markdown(lines)


def stage_table(reports: list[dict[str, Any]]) -> str:
    """EBMC's epochs by stage and by how the penalty is made, beside their matrix products alone."""
    lines = [
        [
            "where",
            "case",
            "s/epoch",
            "times the products",
            "GFLOP an epoch",
            "utterances/s",
            "trained parameters",
            "frozen",
        ],
        ["---"] * 8,
    ]
    for report in reports:
        for row in report["rows"]:
            threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
            lines.append(
                [
                    f"{place(report['machine'])}, {threads}",
                    row["case"],
                    f"{row['epoch_seconds']:.2f}",
                    f"{row['ratio']:.2f}",
                    f"{row['gflop']:.4g}",
                    f"{row['utterances'] / row['epoch_seconds']:,.0f}",
                    f"{row['trained_parameters']:,}",
                    f"{row['frozen_parameters']:,}",
                ]
            )
    return markdown(lines)


def contribution_findings(reports: list[dict[str, Any]]) -> str:
    """In words, for each machine: what asking DREAM's frozen network costs an epoch, and what keeping its answers."""
    findings = []
    for report in reports:
        counts = list(dict.fromkeys(row["threads"] for row in report["rows"]))
        for threads in counts:
            alone, _, _, fill, kept, anew = (
                r["epoch_seconds"] for r in report["rows"] if r["threads"] == threads
            )
            share = anew / (alone + anew)
            findings.append(
                f"* **{place(report['machine'])}**, {threads} thread{'s' * (threads > 1)}: asked at every step, the "
                f"frozen network and what is made of it take {anew:.2f} s an epoch, {100 * share:.0f} % of it (goal: "
                f"under {100 * SHARE_GOAL:.0f} %: {'reached' if share < SHARE_GOAL else 'missed'}); filling the memory "
                f"once takes {fill:.2f} s, and an epoch that finds everything there {kept:.2f} s more than one without "
                f"contributions: over 30 epochs {fill / 30 + kept:.2f} s each."
            )
    return "\n".join(findings)


def scaling_table(reports: list[dict[str, Any]]) -> str:
    """A step of EBMC's second stage by length of the dialogues and by width: its time, and its components' shares."""
    lines = [
        [
            "where",
            "utterances a dialogue",
            "dialogues",
            "width",
            "ms a step",
            *(f"{p} %" for p in SMALL_PARTS),
        ]
    ]
    lines.append(["---"] * len(lines[0]))
    for report in reports:
        for row in (row for rows in report["scaling"].values() for row in rows):
            lines.append(
                [
                    place(report["machine"]),
                    str(row["length"]),
                    str(row["dialogues"]),
                    str(row["width"]),
                    f"{1e3 * row['step_seconds']:.1f}",
                    *(f"{100 * row['parts'][p] / row['step_seconds']:.1f}" for p in SMALL_PARTS),
                ]
            )
    return markdown(lines)


def sweep_table(reports: list[dict[str, Any]]) -> str:
    """Runs a minute by where they are made, and what the engine adds to a run."""
    lines = [
        ["where", "workers", "runs a minute", "times the first", "engine, ms a run"],
        ["---"] * 5,
    ]
    for report in reports:
        base = report["rows"][0]["runs_per_minute"]
        lines += [
            [
                place(report["machine"]),
                f"{row['workers']} {row['kind']}",
                f"{row['runs_per_minute']:.1f}",
                f"{row['runs_per_minute'] / base:.2f}",
                f"{row['engine_ms']:.1f}",
            ]
            for row in report["rows"]
        ]
    return markdown(lines)


def exponent(rows: list[dict[str, Any]], axis: str, part: str) -> float:
    """How the time of a part (of the whole step if empty) grows between the last two: as the axis to this power."""
    before, after = ((row["parts"][part] if part else row["step_seconds"]) for row in rows[-2:])
    if min(before, after) <= 0:
        return math.nan
    return math.log(after / before) / math.log(rows[-1][axis] / rows[-2][axis])


def scaling_findings(reports: list[dict[str, Any]]) -> str:
    """In words, for each machine: the powers with which a step grows, and what EMC and IMTD are of it."""
    findings = []
    for report in reports:
        for axis, letter in (("length", "T"), ("width", "d")):
            rows = report["scaling"][axis]
            powers = ", ".join(
                f"{part or 'the whole'} {exponent(rows, axis, part):.2f}"
                for part in ("", *SMALL_PARTS)
            )
            most = {
                part: 100 * max(row["parts"][part] / row["step_seconds"] for row in rows)
                for part in ("EMC", "IMTD", "teacher")
            }
            findings.append(
                f"* **{place(report['machine'])}**, {axis} from {rows[-2][axis]} to {rows[-1][axis]}: powers "
                f"of {letter}: {powers}. At the most EMC is {most['EMC']:.1f} % of a step, IMTD "
                f"{most['IMTD']:.1f} % and the teacher that both need {most['teacher']:.1f} %."
            )
        if report.get("figure"):
            findings.append(f"\n![A step by length and width]({report['figure']})")
    return "\n".join(findings)


def fill_page(text: str, reports: list[dict[str, Any]]) -> str:
    """docs/bench/README.md with its generated sections made again from the reports beside it."""
    lengths = next(report for report in reports if "lengths" in report)
    epochs = [r for r in reports if not OTHERS & set(r) and r["machine"]["device"] == "cpu"]
    stages = [r for r in reports if "stages" in r]
    contributions = [r for r in reports if "contributions" in r]
    sections = {
        "speeds": speed_table(reports),
        "epochs": epoch_table(epochs),
        "adapters": adapter_table([r for r in reports if "adapters" in r]),
        "contributions": f"{stage_table(contributions)}\n\n"
        f"{contribution_findings(contributions)}".strip(),
        "sweeps": sweep_table([r for r in reports if "sweeps" in r]),
        "stages": stage_table(stages),
        "scaling": f"{scaling_table(stages)}\n\n{scaling_findings(stages)}".strip(),
        "lengths": f"Here: {place(lengths['machine'])}, one thread, {lengths['rows'][0]['per_step']} utterances a "
        f"step; shares are {' / '.join(PARTS)}, in %.\n\n{length_grid(lengths)}",
        "findings": length_findings(lengths),
    }
    for name, section in sections.items():
        before, after = text.split(f"<!-- {name} -->\n")
        text = (
            f"{before}<!-- {name} -->\n{section}\n<!-- end -->{after.split('<!-- end -->', 1)[1]}"
        )
    return text


def write_page() -> None:
    """Renew docs/bench/README.md: ``python -c "from mmlib.bench import page; page.write_page()"``."""
    folder = paths.root() / "docs" / "bench"
    page = folder / "README.md"
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    files.write(page, fill_page(page.read_text(encoding="utf-8"), reports).encode())
