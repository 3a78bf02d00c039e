"""One command from artifacts to files: run what is missing, draw, write, list in the manifest."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from mmlib import paths
from mmlib.data.catalog import is_twin, open_bundle
from mmlib.errors import InputError, unknown_name
from mmlib.metrics import has_decisions
from mmlib.papers import balm, dream, ebmc, failures, gather, gmm_loss, mculora, side_by_side, troubles
from mmlib.papers.context import Context
from mmlib.report.artifact import (
    NOT_DRAWN,
    Artifact,
    Made,
    Output,
    missing,
    plain_settings,
    render,
    update_manifest,
    write,
    write_records,
)
from mmlib.report.dashboard import write_dashboard
from mmlib.runs.compact import export_records
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import StoreError
from mmlib.runs.sweep import SweepReport, sweep
from mmlib.runs.warned import counted, kinds

PART = 100  # runs in a file of records, which version control should hold easily
LARGE = {"weights", "embeddings", "found"}  # of a run's keep
PAPERS: dict[str, ModuleType] = {"balm": balm, "dream": dream, "ebmc": ebmc, "mculora": mculora, "gmm_loss": gmm_loss,
                                 "side_by_side": side_by_side}  # last: its notebook counts what the others found


def artifacts(context: Context, wanted: Iterable[str] = ()) -> list[Artifact]:
    """The paper's artifacts but those made on request, or those of the given ids.

    Raises:
        InputError: an id that the paper does not have.
    """
    known = {a.id: a for a in PAPERS[context.paper].ARTIFACTS}
    chosen = list(wanted)
    for name in chosen:
        if name not in known:
            raise unknown_name(f"artifact of {context.paper}", name, known)
    return [known[name] for name in chosen] or [a for a in known.values() if not a.on_request]


def wanted_of(context: Context, wanted: Sequence[str]) -> list[Artifact]:
    """Those of the wanted artifacts that this paper has, where several papers are asked; all where none is named."""
    mine = {a.id for a in PAPERS[context.paper].ARTIFACTS}
    return artifacts(context, [name for name in wanted if name in mine]) if not wanted or mine & set(wanted) else []


def lacks(context: Context, artifact: Artifact) -> str:
    """Why an artifact cannot be made from this context's data; empty where it can."""
    need = PAPERS[context.paper].NEEDS.get(artifact.id, "")
    if callable(need):
        return str(need(context)) or lacks_sign(context, artifact)
    if need == "twins":
        real = [d for d in context.data.values() if not is_twin(d)]
        return "Known of twins only." if real else lacks_sign(context, artifact)
    if need and need not in context.datasets:
        return f"No data for the role {context.roles[need]}: give --data {context.roles[need]}=BUNDLE."
    return lacks_sign(context, artifact)


def lacks_sign(context: Context, artifact: Artifact) -> str:
    """Why an artifact about accuracy or F1 cannot be made of scores without a sign; empty where it can.

    A paper's ``ANY_SCORE`` names the artifacts that show whatever metrics there are, or none.
    """
    unsigned = {d for d in context.data.values() if not has_decisions(open_bundle(d).task)}
    if not unsigned or artifact.id in getattr(PAPERS[context.paper], "ANY_SCORE", ()):
        return ""
    used = sorted(unsigned & {spec.data for spec in artifact.specs(context)})
    if not used:
        return ""
    return (f"Needs right and wrong answers, and the scores of {open_bundle(used[0]).name} do not lie on both sides of "
            "0 in validation and test: if another score is neutral, give neutral in bundle.toml and import again.")


def specs(context: Context, chosen: Sequence[Artifact]) -> list[RunSpec]:
    """Every run that some artifacts need, each once; an artifact that cannot name its runs says so when it is drawn."""
    found: list[RunSpec] = []
    for artifact in chosen:
        with contextlib.suppress(Exception):
            found += [] if lacks(context, artifact) else artifact.specs(context)
    return list(dict.fromkeys(found))


def pairs(contexts: Iterable[Context], wanted: Sequence[str]) -> list[tuple[Context, Artifact]]:
    """The wanted artifacts of several papers that their data allow."""
    return [(context, artifact) for context in contexts for artifact in wanted_of(context, wanted)
            if not lacks(context, artifact)]


def run(context: Context, wanted: Iterable[str] = (), *, jobs: int | None = None, executor: Executor | None = None,
        max_minutes: float | None = None) -> SweepReport:
    """Run what the store lacks for some artifacts (all by default)."""
    return sweep(specs(context, artifacts(context, wanted)), context.store, jobs=jobs, executor=executor,
                 max_minutes=max_minutes, title=f"{context.paper} on {context.collection}")


def draw(context: Context, name: str) -> Output:
    """Draw one artifact from finished runs, write its files and enter it in the manifest.

    One that cannot be drawn (t-SNE of one point, a class that no test utterance has) ends nothing else: its entry and
    its output say why, and the traceback is kept beside the runs.

    Raises:
        InputError: an id that the paper does not have, or a store or a disk that cannot be read or written.
    """
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
        entry = missing(artifact, made, "needs data", output.notes)
    else:
        entry = write(artifact, output, paths.figures(), made, rendered)
    update_manifest(paths.figures() / "manifest.json", [entry])
    return output


def _drawn(context: Context, artifact: Artifact, why: str) -> tuple[Output, Made, dict[str, bytes]]:
    """An artifact's output, its circumstances and its files as bytes; nothing is written.

    why: what it lacks, so that it cannot be made from these data.
    """
    start = time.perf_counter()
    if why:
        return Output(notes=(why,)), _made(context, artifact, 0.0), {}
    built = _started(context, artifact)
    failed = failures.of_artifact(context, artifact)
    undone = "Not built yet: no run is done." if not failed else "No run is done."
    output = artifact.draw(context) if built else Output(notes=(undone,))
    if failed:
        output = replace(output, notes=(*output.notes, *failures.notes(failed)), failed=failed)
    made = _made(context, artifact, time.perf_counter() - start)
    return output, made, render(artifact, output, made)


def _not_drawn(context: Context, artifact: Artifact, error: Exception) -> Output:
    """Enter an artifact in the manifest as one that could not be drawn, and say why."""
    trouble = troubles.note(context.collection, context.paper, artifact.id, error)
    print(f"{NOT_DRAWN}: {trouble}", file=sys.stderr)
    notes = (f"{NOT_DRAWN.capitalize()}: {trouble.reason}",)
    made = Made(context.collection, context.profile.name)
    update_manifest(paths.figures() / "manifest.json", [missing(artifact, made, NOT_DRAWN, notes)])
    return Output(notes=notes)


def finish(context: Context) -> None:
    """Write the paper's records beside its figures, what is gathered of all papers, and the dashboard.

    Records of real data are also written in compact form, with the predictions under each run's main mask at the
    epoch that validation picks, so that another machine can go on from them; in parts, each small enough for version
    control. A paper's ``CARRIED`` names arrays that go with them. Runs whose weights, embeddings or findings are kept
    are left out: another machine makes them again.
    """
    used = specs(context, artifacts(context))
    found = [context.store.find(s, context.bundle_fingerprint(s.data)) for s in used]
    unique = {record.id: {**record.content, "stale": stale} for record, stale in found if record}
    write_records(unique.values(), paths.figures(), context.collection, context.paper)
    if any(not is_twin(d) for d in context.data.values()):
        main = ("predictions.valid.same", "predictions.valid.random", *getattr(PAPERS[context.paper], "CARRIED", ()))
        ids = sorted(i for i, content in unique.items() if not LARGE & set(content["spec"]["keep"]))
        for part, start in enumerate(range(0, len(ids), PART), start=1):
            path = context.folder / f"records-{part:02}.jsonl.gz"
            export_records(context.store, path, ids=ids[start:start + PART], arrays=main)
    gather.write_all(paths.figures(), PAPERS)
    write_dashboard(paths.figures() / "manifest.json", paths.figures() / "index.html")


def _started(context: Context, artifact: Artifact) -> bool:
    """Whether the store has any of an artifact's runs, or it needs none."""
    needed = artifact.specs(context)
    return not needed or any(context.store.find(s, context.bundle_fingerprint(s.data))[0] for s in needed)


def _made(context: Context, artifact: Artifact, seconds: float) -> Made:
    needed = artifact.specs(context) if not lacks(context, artifact) else []
    names = sorted({open_bundle(s.data).name for s in needed})
    reduced = f"Data: {', '.join(names)}. {context.profile.reduced}".strip() if needed else ""
    prints = sorted({context.bundle_fingerprint(d) for d in context.data.values()})
    return Made(context.collection, context.profile.name, "valid", tuple(sorted({s.seed for s in needed})), seconds,
                "+".join(prints), reduced)


def paper_module(name: str) -> Any:
    """A paper's module by name.

    Raises:
        InputError: a paper that is not built.
    """
    if name not in PAPERS:
        raise unknown_name("--paper", name, PAPERS)
    return PAPERS[name]


def papers_for(data: Mapping[str, str], backbone: str, wanted: Sequence[str] = ()) -> list[str]:
    """The papers that have any of these roles and artifacts and run on these backbones; all where none are given.

    Raises:
        InputError: no paper has such a role.
    """
    roles = [role for module in PAPERS.values() for role in module.ROLES.values()]
    for role in data:
        if role not in roles:
            raise unknown_name("data role", role, roles)
    found = [name for name, module in PAPERS.items() if (not data or set(data) & set(module.ROLES.values()))
             and (not backbone or set(backbone.split(",")) <= set(module.BACKBONES))
             and (not wanted or set(wanted) & {a.id for a in module.ARTIFACTS})]
    return found or list(PAPERS)  # whose contexts then say what is wrong


def data_for(module: Any, data: Mapping[str, str], modules: Sequence[Any]) -> dict[str, str]:
    """The data of one paper's roles, where several papers are run; a role that none has stays, to be refused."""
    others = {role for other in modules if other is not module for role in other.ROLES.values()}
    return {role: bundle for role, bundle in data.items() if role in module.ROLES.values() or role not in others}


def parse_data(pairs: Iterable[str]) -> dict[str, str]:
    """``ROLE=BUNDLE`` strings as a dictionary.

    Raises:
        InputError: no equals sign, an empty side, or a role given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        role, equals, bundle = pair.partition("=")
        if not equals or not role or not bundle:
            raise InputError("--data", repr(pair), "ROLE=BUNDLE", "For example --data mosei=mosi-unseen.")
        if role in found:
            raise InputError("--data", f"the role {role} twice", "each role once", "Leave one out.")
        found[role] = bundle
    return found
