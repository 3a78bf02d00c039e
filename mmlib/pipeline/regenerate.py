"""One command from artifacts to files: run what is missing, draw, write, list in the manifest."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from mmlib import files, paths
from mmlib.data.catalog import is_twin, open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.experiments import failures, own
from mmlib.experiments.context import Context
from mmlib.experiments.rows import with_parents
from mmlib.metrics import has_decisions
from mmlib.names import EMBEDDED, STUDY
from mmlib.papers.catalog import CLAIMS, PAPERS
from mmlib.pipeline import glance, troubles
from mmlib.pipeline.glance import PROJECT
from mmlib.pipeline.troubles import Trouble
from mmlib.report.artifact import (
    MANIFEST,
    NOT_DRAWN,
    Artifact,
    Entry,
    Made,
    Output,
    manifest_of,
    missing,
    plain_settings,
    render,
    update_manifest,
    write,
    write_records,
)
from mmlib.runs.compact import export_records
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import StoreError
from mmlib.runs.sweep import SweepReport, sweep
from mmlib.runs.warned import counted, kinds

PART = 250  # runs in a file of records, at most 1.5 MB on the data here, which version control holds easily
# Of a run's keep: figures are drawn from them, and no compact record has them.
DRAWN = frozenset({"embeddings", "gradients"})


def artifacts(context: Context, wanted: Iterable[str] = ()) -> list[Artifact]:
    """The paper's artifacts but those made on request, or those of the given ids.

    Raises:
        InputError: an id that the paper does not have.
    """
    known = {a.id: own.worded(context, a) for a in context.declared.artifacts}
    chosen = list(wanted)
    for name in chosen:
        if name not in known:
            raise unknown_name(f"artifact of {context.paper}", name, known)
    if chosen:
        return [known[name] for name in chosen]
    return [a for a in known.values() if not a.on_request and not _of_other_data(context, a)]


def every(context: Context) -> list[Artifact]:
    """All of the paper's artifacts, those on request too, but those of data in whose place own data do not stand."""
    known = (own.worded(context, artifact) for artifact in context.declared.artifacts)
    return [artifact for artifact in known if not _of_other_data(context, artifact)]


def _of_other_data(context: Context, artifact: Artifact) -> bool:
    """Whether an artifact is of a data set whose place own data, given without a role, do not take."""
    need = artifact.needs
    return context.own and need in context.roles and need not in context.datasets


def wanted_of(context: Context, wanted: Sequence[str]) -> list[Artifact]:
    """Those of the wanted artifacts that this paper has, where several papers are asked; all where none is named."""
    mine = {a.id for a in context.declared.artifacts}
    if wanted and not mine & set(wanted):
        return []
    return artifacts(context, [name for name in wanted if name in mine])


def lacks(context: Context, artifact: Artifact) -> str:
    """Why an artifact cannot be made from this context's data; empty where it can."""
    need = artifact.needs
    if callable(need):
        return str(need(context)) or lacks_sign(context, artifact)
    if need == "twins":
        real = [d for d in context.data.values() if not is_twin(d)]
        return "Known of twins only." if real else lacks_sign(context, artifact)
    if _of_other_data(context, artifact):
        role = next(iter(context.data))
        return f"Of data in the role {context.roles[need]}; these are in the role {role}."
    if need and need not in context.datasets:
        return (
            f"No data for the role {context.roles[need]}: give --data {context.roles[need]}=BUNDLE."
        )
    return lacks_sign(context, artifact)


def lacks_sign(context: Context, artifact: Artifact) -> str:
    """Why an artifact about accuracy or F1 cannot be made of scores without a sign; empty where it can."""
    unsigned = {d for d in context.data.values() if not has_decisions(open_bundle(d).task)}
    if not unsigned or artifact.any_score:
        return ""
    used = sorted(unsigned & {spec.data for spec in runs_of(context, artifact)})
    if not used:
        return ""
    return (
        f"Needs right and wrong answers, and the scores of {open_bundle(used[0]).name} do not lie on both sides of "
        "0 in validation and test: if another score is neutral, give neutral in bundle.toml and import again."
    )


def runs_of(context: Context, artifact: Artifact) -> list[RunSpec]:
    """The runs that an artifact needs, each once, those that others start from first."""
    return with_parents(cell.spec for cell in artifact.cells(context))


def specs(context: Context, chosen: Sequence[Artifact]) -> list[RunSpec]:
    """Every run that some artifacts need, each once; an artifact that cannot name its runs says so when it is drawn."""
    needed: list[RunSpec] = []
    for artifact in chosen:
        with contextlib.suppress(Exception):
            needed += [] if lacks(context, artifact) else runs_of(context, artifact)
    return list(dict.fromkeys(needed))


def pairs(contexts: Iterable[Context], wanted: Sequence[str]) -> list[tuple[Context, Artifact]]:
    """The wanted artifacts of several papers that their data allow."""
    return [
        (context, artifact)
        for context in contexts
        for artifact in wanted_of(context, wanted)
        if not lacks(context, artifact)
    ]


def run(
    context: Context,
    wanted: Iterable[str] = (),
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    max_minutes: float | None = None,
) -> SweepReport:
    """Run what the store lacks for some artifacts (all by default)."""
    return sweep(
        specs(context, artifacts(context, wanted)),
        context.store,
        jobs=jobs,
        executor=executor,
        max_minutes=max_minutes,
        title=f"{context.paper} on {context.collection}",
    )


def draw(context: Context, name: str) -> Output:
    """Draw one artifact from finished runs, write its files and enter it in the manifest.

    One that cannot be drawn (t-SNE of one point, a class that no test utterance has) ends nothing else: its entry and
    its output say why, and the traceback is kept beside the runs.

    Raises:
        InputError: an id that the paper does not have, or a store or a disk that cannot be read or written.
    """
    import torch

    artifact = artifacts(context, [name])[0]
    torch.set_num_threads(1)  # small models are fastest so
    try:
        why = lacks(context, artifact)
        with warnings.catch_warnings(record=True) as caught, plain_settings():
            output, made, rendered = _drawn(context, artifact, why)
    except StoreError:
        raise
    except Exception as error:  # whatever a picture of these data comes upon
        return _not_drawn(context, artifact, error)
    if caught:
        print(f"{context.paper} {name}: {counted(kinds(caught))}")
    if why:
        _enter(missing(artifact, made, "needs data", output.notes))
    else:
        _enter(write(artifact, output, paths.figures(), made, rendered))
    return output


def _drawn(context: Context, artifact: Artifact, why: str) -> tuple[Output, Made, dict[str, bytes]]:
    """An artifact's output, its circumstances and its files as bytes; nothing is written.

    why: what it lacks, so that it cannot be made from these data.
    """
    if why:
        return Output(notes=(why,)), _made(context, []), {}
    cells = artifact.cells(context)
    needed = with_parents(cell.spec for cell in cells)
    built = not needed or any(context.record(spec) for spec in needed)
    failed = failures.of_runs(context, cells, needed)
    undone = "Not built yet: no run is done." if not failed else "No run is done."
    output = artifact.draw(context, cells) if built else Output(notes=(undone,))
    if failed:
        output = replace(output, notes=(*output.notes, *failures.notes(failed)), failed=failed)
    made = _made(context, needed)
    return output, made, render(artifact, output, made)


def _not_drawn(context: Context, artifact: Artifact, error: Exception) -> Output:
    """Enter an artifact in the manifest as one that could not be drawn, and say why."""
    trouble = troubles.note(context.collection, context.paper, artifact.id, error)
    print(f"{NOT_DRAWN}: {trouble}", file=sys.stderr)
    notes = (f"{NOT_DRAWN.capitalize()}: {trouble.reason}",)
    _enter(missing(artifact, Made(context.collection, context.profile.name), NOT_DRAWN, notes))
    return Output(notes=notes)


def _enter(entry: Entry) -> None:
    """Enter an artifact in the manifest, that of its collection where it is not the project's."""
    figures, collection = paths.figures(), str(entry["collection"])
    path = manifest_of(figures, "" if collection in PROJECT else collection)
    with files.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    update_manifest(path, [entry], list(PAPERS), figures)


def finish(context: Context) -> None:
    """Write the paper's records beside its figures, what is gathered of all papers, and the dashboard.

    Records of real data and of the larger twins are also written in compact form, with the predictions under each
    run's main mask at the epoch that validation picks, so that another machine can go on from them; in parts, each
    small enough for version control. A paper's ``carried`` names arrays that go with them. Runs that are there for
    their embeddings or gradients are left out: another machine makes them again, as it makes a run again whose
    weights a further one starts from, since weights do not travel. Runs of claims go with what their test clusters
    count. Of classes the first seed's logits travel, which single utterances are shown by, and the others'
    predicted classes.
    """
    claims = CLAIMS.get(context.paper)
    further = [cell.spec for cell in claims.further(context)] if claims else []
    used = list(dict.fromkeys([*specs(context, artifacts(context)), *with_parents(further)]))
    records = {record.id: (record, stale) for record, stale in map(context.stored, used) if record}
    contents = {i: {**record.content, "stale": stale} for i, (record, stale) in records.items()}
    write_records(contents.values(), paths.figures(), context.collection, context.paper)
    if context.collection == STUDY or not (
        context.collection == EMBEDDED or all(map(is_twin, context.data.values()))
    ):
        main = ("predictions.valid.same", "predictions.valid.random", *context.declared.carried)
        ids = sorted(
            i for i, content in contents.items() if not DRAWN & set(content["spec"]["keep"])
        )
        counts = claims.counts(context) if claims else {}
        names = {
            spec.run_id(context.bundle_fingerprint(spec.data)): sorted(of)
            for spec, of in counts.items()
        }
        decided = {
            i
            for i in ids
            if contents[i]["spec"]["seed"]
            and open_bundle(contents[i]["spec"]["data"]).task.kind == "classes"
        }
        _write_parts(context, ids, main, names, decided)
    gather_all()


def gather_all() -> None:
    """Write what is gathered of all papers, and the dashboards: the project's, and one of each other collection."""
    from mmlib.pipeline import gather
    from mmlib.report.dashboard import write_dashboard

    figures = paths.figures()
    gather.write_all(figures, PAPERS)
    called = {name: paper.called for name, paper in PAPERS.items()}
    seen = glance.lines(glance.read(figures), called)
    write_dashboard(manifest_of(figures), figures / "index.html", called, glance=seen)
    for manifest in sorted(figures.glob(f"*/{MANIFEST}")):
        own = manifest.parent
        write_dashboard(
            manifest, own / "index.html", called, figures=figures, notebooks=copies(own.name)
        )


def copies(collection: str) -> Path:
    """The folder of a collection's executed notebooks."""
    return paths.runs() / "notebooks" / collection


def page_of(context: Context) -> Path:
    """The dashboard that shows a context's tables and figures."""
    figures = paths.figures()
    return (figures if context.collection in PROJECT else context.folder.parent) / "index.html"


def _write_parts(
    context: Context,
    ids: Sequence[str],
    arrays: Sequence[str],
    of_runs: Mapping[str, Sequence[str]],
    decided: Collection[str],
) -> None:
    """Write the compact records of some runs, and drop what more parts there were before."""
    before = set(context.folder.glob("records-*.jsonl.xz"))
    for part, start in enumerate(range(0, len(ids), PART), start=1):
        path = context.folder / f"records-{part:02}.jsonl.xz"
        part_ids = ids[start : start + PART]
        export_records(
            context.store, path, ids=part_ids, arrays=arrays, of_runs=of_runs, decided=decided
        )
        before.discard(path)
    for path in before:
        path.unlink()


def draw_all(contexts: Sequence[Context], wanted: Sequence[str]) -> list[Trouble]:
    """Every wanted artifact of every paper; what could not be gathered or listed at the end of one.

    An artifact that could not be drawn is in the manifest.
    """
    failed = []
    for context in contexts:
        for artifact in wanted_of(context, wanted):
            draw(context, artifact.id)
        try:
            finish(context)
        except InputError:  # the disk's or the store's, which concerns every paper
            raise
        except Exception as error:
            failed.append(
                troubles.note(context.collection, context.paper, "records and reports", error)
            )
    return failed


def _made(context: Context, needed: Sequence[RunSpec]) -> Made:
    names = sorted({open_bundle(s.data).name for s in needed})
    seeds = tuple(sorted({s.seed for s in needed}))
    data = f"Data: {', '.join(names)}"
    if context.own:
        data += f" ({own.described(context, seeds)})"
    parts = (f"{data}.", own.untested(context, needed), context.profile.reduced)
    reduced = " ".join(filter(None, parts)) if needed else ""
    fingerprints = sorted({context.bundle_fingerprint(d) for d in context.data.values()})
    return Made(
        context.collection,
        context.profile.name,
        "valid",
        seeds,
        "+".join(fingerprints),
        reduced,
    )
