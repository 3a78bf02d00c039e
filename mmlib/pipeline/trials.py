"""The trials of methods on some data: those of the side-by-side comparison, and BALM over its other networks.

Each is trained and validated under mixed combinations of modalities, each of its stages with as many steps as its
network's recipe has, as in the papers' tables; what takes two modalities alone, on the first two of more, complete.
"""

from __future__ import annotations

import dataclasses

from mmlib.experiments import search
from mmlib.experiments.context import NO_ROLE, Context
from mmlib.experiments.profiles import Profile
from mmlib.experiments.rows import Row
from mmlib.experiments.search import Key
from mmlib.masks import complete, patterns
from mmlib.papers import side_by_side
from mmlib.papers.balm.rows import BACKBONES
from mmlib.papers.side_by_side import grounds, rows
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.spec import RunSpec


def of_methods(profile: Profile, reference: str) -> dict[Key, list[RunSpec]]:
    """Every method's runs at every setting, by network and method; on two modalities what takes no more of them."""
    context = side_by_side.context(profile.name, {NO_ROLE: reference})
    dataset = context.main
    made: dict[Key, list[RunSpec]] = {}
    for ground in grounds.grounds(context):
        if ground.dataset != dataset:
            continue
        training = complete() if ground.modalities else patterns()
        for row in _methods(context, ground):
            key = (row.stages[-1].backbone, row.stages[-1].method)
            if key in made:
                continue
            first = rows.as_in_papers(context, ground, row, training)
            runs = [_reduced(s, seed) for s in first for seed in range(search.SEEDS)]
            made[key] = search.at_every_setting(profile, runs, row.stages[-1].method)
    return made


def _methods(context: Context, ground: Ground) -> list[Row]:
    """The rows of methods, without those of their networks."""
    made = []
    for row in rows.rows(context, ground):
        if not row.against:
            continue
        made.append(row)
        if row.stages[-1].method == "balm":
            made += [row.but(backbone=other) for other in BACKBONES[1:]]
    return made


def _reduced(spec: RunSpec, seed: int) -> RunSpec:
    """A run with another seed, its parents too, tested under its first condition alone."""
    return dataclasses.replace(_seeded(spec, seed), eval_masks=spec.eval_masks[:1], keep=())


def _seeded(spec: RunSpec, seed: int) -> RunSpec:
    parent = None if spec.parent is None else _seeded(spec.parent, seed)
    return dataclasses.replace(spec, seed=seed, parent=parent)
