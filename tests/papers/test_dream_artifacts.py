"""DREAM's artifacts: what they say, computed again from stored predictions, weights and masks, and from posteriors."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from shared_runs import at_another_epoch, make_runs

from mmlib.backbones import build_backbone
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.data.catalog import open_bundle, open_twin
from mmlib.errors import InputError
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import PROFILES
from mmlib.experiments.published import published
from mmlib.experiments.rows import specs
from mmlib.experiments.systems import PRINTED_AS, SYSTEMS
from mmlib.masks import Law, complete, draw, frames, mix, shared, subset
from mmlib.nn.batch import make_layout
from mmlib.papers import dream
from mmlib.papers.dream import analyses, cost, figures, sampling, tables
from mmlib.papers.dream import rows as rows_of
from mmlib.papers.dream.analyses import known
from mmlib.pipeline import regenerate
from mmlib.report.artifact import LOCAL, read_all
from mmlib.report.figures import panel_grid
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

pytestmark = pytest.mark.slow

ALL, OURS, PLAIN, P = "all modalities", "DREAM", "same network, task loss alone", "P by itself"
MAIN = [OURS, PLAIN, P]
CORRKD, SELFMM = "CorrKD (as P)", "Self-MM (as P)"
OF_SYSTEMS = {stage.backbone for system in SYSTEMS for stage in system.stages} - {"corrkd"}
OF_TABLE_1 = {OURS: OURS, PLAIN: PLAIN, CORRKD: P, SELFMM: SELFMM}  # on frames, by the stored row
ONE = ["audio", "text", "vision"]
SIX = ["text", "audio", "vision", "audio+text", "text+vision", "audio+vision"]
TWINS = {"mosi": "twin:mosi-frames@smoke", "iemocap": "twin:iemocap4-frames@smoke"}
SHOWN = {"mosi": "CMU-MOSI twin", "iemocap": "IEMOCAP twin"}
EMOTIONS = ("neutral", "happy", "sad", "angry")
TWIN_ONLY = {"detector", "values"}
DROPPED = shared(0.5, resampled=True)  # the law of Table 1
FOLDS = 3  # the fewest that have a test, a validation and a training set
Frame = Any  # of pandas, whose stubs say too little of what an index finds
Toy = Callable[..., Bundle]


@dataclass(frozen=True)
class Made:
    """A smoke context whose runs are all done and drawn."""

    context: Context
    folder: Path
    records: dict[str, Record]

    def table(self, name: str) -> Frame:
        return pd.read_csv(self.folder / self.context.collection / "dream" / f"{name}.csv")

    def entries(self) -> dict[str, dict[str, Any]]:
        return {e["id"]: e for e in read_all(self.folder)}

    def of(self, name: str) -> list[Record]:
        """The runs that an artifact's cells need."""
        artifact = next(a for a in dream.ARTIFACTS if a.id == name)
        prints = {
            d: self.context.bundle_fingerprint(self.context.reference(d))
            for d in self.context.datasets
        }
        by = {self.context.reference(d): value for d, value in prints.items()}
        return [
            self.records[s.run_id(by[s.data])] for s in regenerate.runs_of(self.context, artifact)
        ]

    def stored(self, data: str, row: str, law: Law, tests: int) -> list[Record]:
        """A row's runs under a training law, by seed, as the specs say what a row is."""

        def fits(spec: RunSpec) -> bool:
            scores = open_bundle(data).task.kind == "score"
            kind = {
                OURS: ("dream", "dream"),
                PLAIN: ("reference", "dream"),
                P: ("reference", "corrkd"),
                SELFMM: ("selfmm" if scores else "reference", "selfmm"),
            }[row]
            usual = spec.training.epochs == 2 and (
                spec.parent is None
                or (spec.parent.backbone, spec.parent.train_mask, spec.parent.training.epochs)
                == ("corrkd", law, 2)
            )
            size = dict(spec.backbone_options).keys() <= {"hidden", "repeats"}
            return (
                (spec.method, spec.backbone) == kind and spec.variant == "paper" and usual and size
            )

        found = [
            r
            for r in self.records.values()
            if r.spec.data == data
            and r.spec.train_mask == law
            and len(r.spec.eval_masks) == tests
            and fits(r.spec)
        ]
        return sorted(found, key=lambda r: (r.spec.seed, r.spec.fold or 0))

    def f1(
        self, record: Record, condition: str, zeros: bool = False, selection: str = "valid"
    ) -> float:
        """Weighted F1 of signs, or the mean over yes-or-no questions of theirs, from predictions.

        From the record where the metric is read at another epoch than predictions are kept of.
        """
        metrics = record["selected"][selection]["metrics"][condition]
        names = [name for name in metrics if name.startswith("f1_")]
        names = names or ["weighted_f1_with_zero" if zeros else "weighted_f1"]
        read = [at_another_epoch(record, condition, name, selection) for name in names]
        elsewhere = [value for value in read if value is not None]
        if elsewhere:
            return float(np.mean(elsewhere))
        bundle = open_bundle(record.spec.data)
        bundle = bundle if record.spec.fold is None else bundle.with_fold(record.spec.fold)
        truth = bundle.labels[bundle.rows("test")]
        output = self.context.store.arrays(record.id)[f"predictions.{selection}.{condition}"]
        if bundle.task.kind == "binaries":
            guess = output[:, 1::2] > output[:, 0::2]
            return float(
                np.mean([weighted(truth[:, k], guess[:, k]) for k in range(truth.shape[1])])
            )
        if zeros:
            return weighted(truth >= 0, output[:, 0] >= 0)
        return weighted(truth[truth != 0] > 0, output[truth != 0, 0] > 0)


def weighted(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 of each of two answers, weighed by its share of the truth."""
    total = 0.0
    for answer in (0, 1):
        hits = np.sum((truth == answer) & (guess == answer))
        total += (
            np.mean(truth == answer)
            * 200
            * hits
            / max(1, np.sum(truth == answer) + np.sum(guess == answer))
        )
    return float(total)


def make(
    folder: Path, factory: pytest.TempPathFactory, data: dict[str, str], seeds: int = 0
) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        patch.setenv("MMLIB_FIGURES", str(folder / "figures"))
        patch.setattr(sampling, "MOST", 4)
        context = dream.context("smoke", data, seeds=seeds)
        make_runs(context, factory)
        for artifact in regenerate.artifacts(context):
            regenerate.draw(context, artifact.id)
    return Made(context, folder / "figures", {r.id: r for r in context.store.records()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two twins of frames, of scores and of emotions."""
    return make(
        tmp_path_factory.mktemp("dream"),
        tmp_path_factory,
        {dream.PAPER.roles[d]: reference for d, reference in TWINS.items()},
    )


@pytest.fixture(scope="module")
def vectors(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One vector an utterance, two modalities, folds, dialogues: as real data may be."""
    folder = tmp_path_factory.mktemp("vectors")
    bundle = toy((3, 4) * 9, {"audio": 5, "vision": 4}, task=Task("score", range=(-3.0, 3.0)))
    fold = bundle.dialogue % FOLDS
    save_bundle(dataclasses.replace(bundle, fold=fold, name="mine"), folder / "mine")
    return make(folder, tmp_path_factory, {"mosi-frames": str(folder / "mine")}, seeds=1)


def of_all_seeds(made: Made, name: str) -> Frame:
    """An artifact's numbers of all seeds that there are: the main comparison has a second one on one twin."""
    context = dataclasses.replace(made.context, seed_count=2)
    (artifact,) = regenerate.artifacts(context, [name])
    return artifact.draw(context, artifact.cells(context)).numbers


def test_every_artifact_has_the_files_of_its_kind_and_says_how_much_of_the_paper_it_is(
    made: Made,
) -> None:
    endings, found = (
        {"table": {".csv", ".md", ".tex"}, "figure": {".png", ".csv"}},
        made.entries(),
    )
    assert set(found) == {a.id for a in dream.ARTIFACTS}
    for name, entry in found.items():
        sizes = {
            Path(f).name.removeprefix(name): (made.folder.parent / f).stat().st_size
            for f in entry["files"] + entry["local"]
        }
        assert (
            entry["status"] == "regenerated"
            and {LOCAL * (name == "table2") + e for e in endings[entry["kind"]]} <= set(sizes)
            and all(sizes.values())
        ), name
    for name in ("table1", "table2", "table3"):
        rows = set(published("dream", name)["row"])
        built = {"table1": 8, "table2": 5, "table3": 3}[name]
        assert [found[name][k] for k in ("rows_in_paper", "rows_built")] == [len(rows), built]
    for name in ("detector", "values", "monte-carlo", "enhanced"):
        assert {".png"} <= {Path(f).suffix for f in found[name]["files"]}
    assert set(made.records) == {r.id for name in found for r in made.of(name)}


@pytest.mark.parametrize(
    ("name", "law", "seeds", "datasets"),
    [
        ("main", DROPPED, [0, 1], ["iemocap"]),
        ("table1", DROPPED, [0], list(TWINS)),
        ("complete-training", complete(), [0], list(TWINS)),
    ],
)
def test_rows_share_p_data_masks_and_the_second_stages_budget(
    made: Made, name: str, law: Law, seeds: list[int], datasets: list[str]
) -> None:
    others = {"selfmm", "linear", "gcnet_frames", *OF_SYSTEMS}
    everything = [r for r in made.of(name) if r.spec.backbone not in others]
    # The linear model, and in Table 1 Self-MM, GCNet and the eight stages of six other systems.
    places = len(datasets) * len(seeds)
    assert len(made.of(name)) - len(everything) == (11 if name == "table1" else 1) * places
    assert len(everything) == places * 3 and {r.spec.train_mask for r in everything} == {law}
    for data in (TWINS[dataset] for dataset in datasets):
        by = {
            row: [r for r in made.stored(data, row, law, 7) if r.spec.seed in seeds] for row in MAIN
        }
        assert all([r.spec.seed for r in found] == seeds for found in by.values())
        assert {r.id for found in by.values() for r in found} == {
            r.id for r in everything if r.spec.data == data
        }
        for ours_, plain, p in zip(*by.values(), strict=True):
            assert (
                ours_.spec.parent == p.spec
                and plain.spec.parent is None
                and p.spec.keep == ("weights",)
            )
            assert ours_.spec.training == plain.spec.training
            assert ours_.spec.backbone_options == plain.spec.backbone_options
            assert len({json.dumps(r["masks"], sort_keys=True) for r in (ours_, plain, p)}) == 1
            bundle = open_bundle(data)
            for condition in SIX:
                mask = draw(subset(condition.split("+")), bundle, "test", p.spec.seed)
                assert p["masks"][f"test.{condition}"] == mask.fingerprint
                assert mask.utterance[0].tolist() == [m in condition.split("+") for m in ONE]


@pytest.mark.parametrize(
    ("name", "law"), [("table1", shared(0.5, resampled=True)), ("complete-training", complete())]
)
def test_table_1_is_that_of_the_predictions_and_its_average_is_over_six_conditions(
    made: Made, name: str, law: Law
) -> None:
    frame = made.table(f"{name}-numbers").query("n > 0").set_index(["row", "setting", "metric"])
    shown = OF_TABLE_1 if name == "table1" else dict.fromkeys(MAIN)
    others = 1 + 7 * (name == "table1")  # the linear model, GCNet and six systems
    assert len(frame) == (len(shown) + others) * 8 * (2 + 1)
    for (dataset, data), row in itertools.product(TWINS.items(), shown):
        found = made.stored(data, shown[row] or row, law, 7)[:1]
        for metric in (
            ("f1_mean",) if dataset == "iemocap" else ("weighted_f1", "weighted_f1_with_zero")
        ):
            values = {
                c: [made.f1(r, c, metric.endswith("zero")) for r in found] for c in (*SIX, ALL)
            }
            values["average"] = list(np.mean([values[c] for c in SIX], axis=0))
            for condition, each in values.items():
                line = frame.loc[(row, f"{SHOWN[dataset]} {condition}", metric)]
                assert [line["n"], line["mean"]] == pytest.approx([1, np.mean(each)])


def test_the_main_comparison_has_the_mean_and_the_spread_of_two_seeds(made: Made) -> None:
    frame = made.table("main-numbers").query("n > 0").set_index(["row", "setting", "metric"])
    for row in (OURS, PLAIN):
        found = made.stored(TWINS["iemocap"], row, DROPPED, 7)
        each = {c: np.array([made.f1(r, c) for r in found]) for c in (*SIX, ALL)}
        each["average"] = np.mean([each[c] for c in SIX], axis=0)
        for condition in ("average", ALL):
            line, values = frame.loc[(row, condition, "f1_mean")], each[condition]
            assert [line["n"], line["mean"], line["sd"]] == pytest.approx(
                [2, values.mean(), values.std(ddof=1)]
            )


def test_the_best_possible_is_of_an_utterance_alone_and_of_the_emotions_mean(made: Made) -> None:
    frame = made.table("table1-numbers").query("row == 'DREAM'").set_index(["setting", "metric"])
    for dataset, metric in (("iemocap", "f1_mean"), ("mosi", "weighted_f1")):
        twin = open_twin(TWINS[dataset])
        names = [f"f1_{e}" for e in EMOTIONS] if dataset == "iemocap" else ["weighted_f1"]
        expected = {}
        for condition in (*SIX, ALL):
            seen = np.tile(
                [c in condition.split("+") or condition == ALL for c in ONE],
                (len(twin.bundle.rows("test")), 1),
            )
            expected[condition] = np.mean(
                [twin.best("test", seen, n, context=False)[1] for n in names]
            )
        expected["average"] = np.mean([expected[c] for c in SIX])
        for condition, value in expected.items():
            assert frame.loc[(f"{SHOWN[dataset]} {condition}", metric), "best"] == pytest.approx(
                value
            )


def test_printed_rows_are_listed_under_our_names_and_no_value_stands_beside_twins(
    made: Made,
) -> None:
    frame, printed = made.table("table1-numbers"), published("dream", "table1")
    assert "paper" not in frame
    mine = frame[frame["in_paper"]]
    names = set(printed["row"].replace(PRINTED_AS))
    assert len(mine) == 2 * 8 * len(names) and set(mine["row"]) == names
    assert set(mine[mine["n"] > 0]["row"]) == names
    assert not any("not built yet" in note for note in made.entries()["table1"]["notes"])
    told = tables.printed(made.context, "iemocap", ())
    assert set(told["metric"]) == {"f1_mean"} and set(told["setting"]) == {*SIX, ALL, "average"}
    assert told["value"].isna().all()


def test_fig_3_drops_the_same_share_of_frames_in_training_and_test(made: Made) -> None:
    frame = made.table("fig3")
    for (dataset, data), row in itertools.product(TWINS.items(), MAIN):
        mine = frame[(frame["dataset"] == dataset) & (frame["row"] == row)].set_index("level")[
            "value"
        ]
        (whole,) = made.stored(data, row, complete(), 7)
        (some,) = made.stored(data, row, frames(0.6), 1)
        assert some.spec.eval_masks == (("60 %", frames(0.6)),) and dict(mine) == pytest.approx(
            {0.0: made.f1(whole, ALL), 0.6: made.f1(some, "60 %")}
        )
        bundle = open_bundle(data)
        lost = [draw(frames(0.6), bundle, split, 0).fingerprint for split in ("valid", "test")]
        assert [some["masks"]["valid"], some["masks"]["test.60 %"]] == lost
        if row == OURS:
            assert some.spec.parent == made.stored(data, P, frames(0.6), 1)[0].spec
    best = frame[frame["row"] == "best possible"]
    assert set(best["level"]) == {0.0, 0.6} and len(best) == 4


def test_fig_4_changes_the_second_stage_alone_under_the_mix_of_a4(made: Made) -> None:
    found = [r for r in made.of("fig4") if r.spec.parent]
    assert {r.spec.variant for r in found} == {"paper", "enhance_all", "no_masked_fusion"} and len(
        found
    ) == 3
    assert len({r.spec.parent for r in found}) == 1 and {r.spec.data for r in found} == {
        TWINS["iemocap"]
    }
    frame = made.table("fig4").dropna(subset="run_id").set_index("row")["value"]
    names = {
        "paper": OURS,
        "enhance_all": "w/o dynamic enhancement",
        "no_masked_fusion": "w/o MMFM",
    }
    assert dict(frame) == pytest.approx({names[r.spec.variant]: made.f1(r, "60 %") for r in found})
    spec = found[0].spec
    assert (
        spec.train_mask == mix(0.6) == spec.eval_masks[0][1]
        and spec.parent
        and spec.parent.train_mask == mix(0.6)
    )


def test_fig_5_changes_p_alone_and_shows_each_by_itself(made: Made) -> None:
    frame = made.table("fig5").dropna(subset="run_id")
    kinds = {
        "CorrKD": ("reference", "corrkd"),
        "under-trained CorrKD": ("reference", "corrkd"),
        "Self-MM": ("selfmm", "selfmm"),
        "MLP": ("reference", "mlp"),
    }
    for dataset, (name, (method, backbone)) in itertools.product(TWINS, kinds.items()):
        method = (
            "reference" if dataset == "iemocap" else method
        )  # Self-MM's own training is of scores
        epochs = 1 if "under" in name else 2
        mine = frame[(frame["dataset"] == dataset) & (frame["row"] == name)]
        guided, p = (
            made.records[mine[mine["panel"].str.endswith(end)]["run_id"].item()]
            for end in ("this P", "self")
        )
        assert guided.spec.parent == p.spec and guided.spec.method == "dream"
        assert (p.spec.method, p.spec.backbone, p.spec.training.epochs) == (
            method,
            backbone,
            epochs,
        )
        assert dict(guided.spec.options).get("reference", "corrkd") == backbone
        assert sorted(mine["value"]) == pytest.approx(
            sorted([made.f1(guided, "60 %"), made.f1(p, "60 %")])
        )
    assert len(frame) == 2 * 2 * 4


def test_under_trained_is_a_tenth_of_the_epochs_and_profiles_are_what_they_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path))
    told = {}
    for profile in ("quick", "laptop", "paper"):
        context = dream.context(
            profile, {dream.PAPER.roles[d]: reference for d, reference in TWINS.items()}
        )
        (poor,) = (
            row
            for row in rows_of.reference_rows(context, "iemocap")
            if row.name == "under-trained CorrKD"
        )
        spec = specs(context, "iemocap", poor, rows_of.departing(context, "iemocap"))[0]
        assert spec.parent is not None
        told[profile] = (
            spec.parent.training.epochs,
            spec.training.epochs,
            spec.training.lr,
            dict(spec.backbone_options)["hidden"],
            len(rows_of.levels(context)),
        )
        assert ("Reduced" in context.profile.reduced) == (profile != "paper")
        whole = rows_of.budget(context, "iemocap").of("corrkd").epochs
        assert spec.parent.training.epochs == max(1, round(0.1 * whole))
    assert told["paper"] == (3, 30, 2e-4, 200, 10)
    context = dream.context("paper", {"mosi-frames": TWINS["mosi"]})
    bundle = open_bundle(TWINS["mosi"])
    other = specs(
        context, "mosi", rows_of.main_rows(context, "mosi")[0], rows_of.whole(context, "mosi")
    )[0]
    assert (other.method, other.train_mask) == ("dream", complete())
    assert (other.training.lr, other.training.batch, other.training.weight_decay) == (
        1e-4,
        round(32 * len(np.unique(bundle.dialogue)) / len(bundle)),
        0.0,
    )  # dialogues that hold 32 utterances or so


def test_departures_differ_from_dream_in_one_switch(made: Made) -> None:
    frame = made.table("departures-numbers").query("n > 0")
    found = [r for r in made.of("departures") if r.spec.parent]
    emotions = [r for r in found if r.spec.data == TWINS["iemocap"]]
    base = next(
        r.spec
        for r in emotions
        if r.spec == made.stored(TWINS["iemocap"], OURS, mix(0.6), 1)[0].spec
    )
    for record in emotions:
        assert base.parent is not None and record.spec.parent is not None
        changed = [
            (base.variant != record.spec.variant),
            (base.backbone_options != record.spec.backbone_options),
            (base.parent != record.spec.parent),
        ]
        assert sum(changed) == (record.spec != base)
        if changed[2]:
            assert record.spec.parent == dataclasses.replace(base.parent, train_mask=complete())
    mine = frame[frame["setting"] == "IEMOCAP twin 60 %"]
    assert len(mine) == len(emotions) and "PSS of any emotion (B3)" in set(mine["row"])
    assert sorted(mine["mean"]) == pytest.approx(sorted(made.f1(r, "60 %") for r in emotions))
    rest = frame[frame["setting"] == "CMU-MOSI twin 60 %"]
    assert set(rest["row"]) == {OURS, "PSS of seven classes (B2)", "squared error"}
    assert not set(frame["metric"]) & {f"f1_{e}" for e in EMOTIONS}


def passes(made: Made, spec: RunSpec, law: Law) -> tuple[np.ndarray, np.ndarray]:
    """P's decisions by eight passes of its own, subset to (n, K), and what is observed (n, 3)."""
    bundle, record = (
        open_bundle(spec.data),
        made.stored(spec.data, P, spec.train_mask, len(spec.eval_masks)),
    )
    p = next(r for r in record if r.spec == spec.parent)
    net = build_backbone("corrkd", bundle.dims, bundle.task.outputs, 1).eval()
    net.load_state_dict(
        {
            k.removeprefix("weights.backbone."): torch.from_numpy(v)
            for k, v in made.context.store.arrays(p.id).items()
            if k.startswith("weights.backbone.")
        }
    )
    rows, mask = bundle.rows("test"), draw(law, bundle, "test", spec.seed)
    found = []
    for some in itertools.product((False, True), repeat=3):
        kept = {
            m: torch.from_numpy(
                bundle.features[m][rows] * (mask.utterance[:, i] & some[i])[:, None, None]
            )
            for i, m in enumerate(ONE)
        }
        batch: Any = dataclasses.make_dataclass("Any", ["layout"])(make_layout([1] * len(rows)))
        with torch.no_grad():
            logits = net(batch, kept).logits.numpy()
        found.append(
            logits > 0 if bundle.task.kind == "score" else logits[:, 1::2] > logits[:, 0::2]
        )
    return np.stack(found), mask.utterance


def by_orders(worth: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """(n, 3): the mean over all orders of what a modality does on joining; worth of subsets' numbers."""
    total: list[Any] = [0, 0, 0]
    for order in itertools.permutations(range(3)):
        before = 0
        for m in order:
            after = before | 4 >> m
            total[m] = total[m] + worth(before, after) / math.factorial(3)
            before = after
    return np.stack(total, axis=1)


@pytest.mark.parametrize("dataset", list(TWINS))
def test_pss_and_pas_are_those_of_eight_passes_and_all_orders(made: Made, dataset: str) -> None:
    law, bundle = shared(0.5, resampled=True), open_bundle(TWINS[dataset])
    spec = made.stored(TWINS[dataset], OURS, law, 7)[-1].spec
    facts = known(made.context, spec, law)
    decisions, observed = passes(made, spec, law)
    labels = bundle.labels[bundle.rows("test")]
    truth = labels[:, None] > 0 if dataset == "mosi" else labels == 1
    assert facts is not None and np.array_equal(facts.observed, observed)
    sizes = [bin(i).count("1") for i in range(8)]
    np.testing.assert_allclose(
        facts.pss, by_orders(lambda a, b: (decisions[a] != decisions[b]).mean(axis=1)), atol=1e-6
    )
    np.testing.assert_allclose(
        facts.pas,
        by_orders(
            lambda a, b: np.mean(
                sizes[b] * (decisions[b] == truth) - sizes[a] * (decisions[a] == truth), axis=1
            )
        ),
        atol=1e-5,
    )
    assert not facts.pss[~observed].any()


@pytest.mark.parametrize("dataset", list(TWINS))
def test_useless_modalities_change_no_decision_of_the_posterior_and_values_add_up_to_its_gain(
    made: Made, dataset: str
) -> None:
    law, twin = shared(0.5, resampled=True), open_twin(TWINS[dataset])
    spec = made.stored(TWINS[dataset], OURS, law, 7)[0].spec
    facts = known(made.context, spec, law)
    assert facts is not None
    labels, levels = twin.bundle.labels[twin.bundle.rows("test")], twin.role.levels

    def answers(seen: np.ndarray) -> np.ndarray:
        """(n, K): the probability of a positive score, or of yes."""
        mass = twin.bayes("test", seen, context=False)
        if dataset == "iemocap":
            return mass
        up, down = mass[:, levels > 0].sum(axis=1), mass[:, levels < 0].sum(axis=1)
        return (up / (up + down))[:, None]

    whole = answers(facts.observed)
    for m in range(3):
        less = facts.observed & (np.arange(3) != m)
        same = ((whole > 0.5) == (answers(less) > 0.5)).all(axis=1)
        assert np.array_equal(facts.useless[:, m], same & facts.observed[:, m])
    truth = labels[:, None] > 0 if dataset == "mosi" else labels == 1
    gain = np.where(truth, whole, 1 - whole) - np.where(
        truth, (empty := answers(facts.observed & False)), 1 - empty
    )
    kept = labels != 0 if dataset == "mosi" else np.ones(len(labels), bool)
    np.testing.assert_allclose(
        facts.value.sum(axis=1)[kept], 100 * gain.mean(axis=1)[kept], atol=1e-4
    )
    assert np.isnan(facts.value[~kept]).all() and not facts.value[kept][~facts.observed[kept]].any()
    assert (facts.best_pss[~facts.observed] == 0).all() and 0 < facts.useless.mean() < 1


def test_the_detector_counts_hits_among_flags_and_among_targets(made: Made) -> None:
    frame = of_all_seeds(made, "detector")
    assert len(frame) == (2 * 2 + 1) * 4  # either P on both data sets, a second seed; targets
    law = shared(0.5, resampled=True)
    for (dataset, data), (trained, trained_law) in itertools.product(
        TWINS.items(), {"incomplete data": law, "complete data": complete()}.items()
    ):
        for record in made.stored(data, OURS, trained_law, 7):
            facts = known(made.context, record.spec, law)
            assert facts is not None
            mine = frame[
                (frame["data"] == SHOWN[dataset])
                & (frame["P"] == trained)
                & (frame["seed"] == record.spec.seed)
            ].set_index("target")
            flags = [(n, m) for n, m in np.argwhere(facts.pss == 0)]
            lost = {(n, m) for n, m in np.argwhere(~facts.observed)}
            idle = {(n, m) for n, m in np.argwhere(facts.useless)}
            there = [f for f in flags if tuple(f) not in lost]
            hits = sum(tuple(f) in idle for f in there)
            assert mine.loc["missing", "recall"] == 100
            assert mine.loc["missing", "precision"] == pytest.approx(100 * len(lost) / len(flags))
            assert mine.loc["useless if there", "recall"] == pytest.approx(100 * hits / len(idle))
            assert mine.loc["missing or useless", "base rate"] == pytest.approx(
                100 * len(lost | idle) / facts.pss.size
            )
            if there:
                assert mine.loc["useless if there", "precision"] == pytest.approx(
                    100 * hits / len(there)
                )
    assert analyses.scores(np.array([True, False]), np.array([False, False]))["recall"] == 0
    assert math.isnan(
        analyses.scores(np.array([True, False]), np.array([False, False]))["precision"]
    )


def test_correlations_are_spearmans_rank_correlations(made: Made) -> None:
    spec = made.stored(TWINS["iemocap"], OURS, shared(0.5, resampled=True), 7)[0].spec
    facts = known(made.context, spec, complete())
    assert facts is not None
    told = analyses.correlations(facts)
    pairs = {
        "PSS and value": (facts.pss, facts.value),
        "PSS and its size": (facts.pss, np.abs(facts.value)),
        "PAS and value": (facts.pas, facts.value),
        "PSS and PAS": (facts.pss, facts.pas),
    }
    for name, (a, b) in pairs.items():
        assert told[name] == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic)
        each = [stats.spearmanr(a[:, m], b[:, m]).statistic for m in range(3)]
        assert told[f"{name}, within"] == pytest.approx(np.mean(each), nan_ok=True)
    frame = made.table("values-numbers")
    line = frame[
        (frame["data"] == SHOWN["iemocap"])
        & (frame["P"] == "incomplete data")
        & (frame["seed"] == 0)
    ]
    assert line["PAS and value"].item() == pytest.approx(told["PAS and value"])


def test_sampled_contributions_approach_the_exact_ones_at_the_rate_they_tell() -> None:
    near = sampling.convergence(4)
    by = near.groupby("orders")[["error", "told", "subsets"]].mean()
    assert (by["subsets"] <= 16).all() and by["subsets"].is_monotonic_increasing
    rate = np.polyfit(np.log(by.index[2:]), np.log(by["error"].iloc[2:]), 1)[0]
    assert rate == pytest.approx(
        -0.5, abs=0.1
    )  # an error falls with the root of the number of orders
    np.testing.assert_allclose(by["error"].iloc[2:], by["told"].iloc[2:], rtol=0.3)
    _, decisions, pss = sampling.exact(3)
    expected = by_orders(lambda a, b: (decisions[a] != decisions[b]).numpy().mean(axis=1))
    np.testing.assert_allclose(pss, expected, atol=1e-6)
    assert 0.05 < expected.mean() < 0.95


def test_table_3_counts_the_papers_networks_and_meets_what_the_ledger_derives(made: Made) -> None:
    printed: Frame = published("dream", "table3").pivot(
        index="row", columns="dataset", values="value"
    )
    frame = made.table("table3").set_index("component")
    for dataset in cost.DIMS:
        mine = cost.sizes(dataset)
        assert mine["pre-trained"] == printed.loc["pre-trained", dataset] and mine["total"] == sum(
            (mine["pre-trained"], mine["DREAM"])
        )
        assert [frame.loc["total", f"{dataset} {who}"] for who in ("paper", "ours")] == [
            f"{printed.loc['total', dataset]:,.0f}",
            f"{mine['total']:,}",
        ]
    for second, first, expected in (("mosei", "mosi", 84 * 200), ("iemocap", "mosei", 7 * 201)):
        assert cost.sizes(second)["DREAM"] - cost.sizes(first)["DREAM"] == expected
        assert frame.loc[f"DREAM: {second} minus {first}", f"{second} paper"] == f"{expected:,}"


def test_table_2_measures_the_whole_above_its_parts_and_shows_no_printed_time_beside_twins(
    made: Made,
) -> None:
    frame = made.table(f"table2{LOCAL}-numbers")
    assert set(frame["source"]) == {"here"} and (frame[["train (s)", "test (s)"]] > 0).all().all()
    printed = set(published("dream", "table2")["row"].replace(PRINTED_AS))
    assert printed <= set(frame["method"])
    for _, group in frame.groupby("data"):
        by = group.set_index("method")["train (s)"]
        every, once = (by[f"{cost.MODULE}, {words}"] for words in ("every epoch", "once"))
        assert every == pytest.approx(2 * once) and by["DREAM"] > by["pre-trained"] + every


def test_claims_compare_the_stored_runs_seed_by_seed(made: Made) -> None:
    frame = of_all_seeds(made, "claims").rename(columns={"test (above 0 supports)": "test"})
    assert (
        list(frame["no"]) == list(range(1, len(frame) + 1))
        and not frame.duplicated(["claim", "data", "test"]).any()
    )
    law = shared(0.5, resampled=True)
    for dataset, data in TWINS.items():
        found = {
            row: np.array(
                [[made.f1(r, c) for c in (*SIX, ALL)] for r in made.stored(data, row, law, 7)]
            )
            for row in MAIN
        }
        assert {len(values) for values in found.values()} == {2 if dataset == "iemocap" else 1}
        mine = frame[frame["data"] == SHOWN[dataset]].set_index(["claim", "test"])
        for other in (PLAIN, P):
            each, minus = found[OURS] - found[other], f"DREAM minus {other}"
            gap = each.mean(axis=0)
            for place, condition in enumerate(SIX):
                line = mine.loc[
                    (f"consistently better under inter-modal missingness: {condition}", minus)
                ]
                assert line["difference"] == pytest.approx(gap[place])
            assert mine.loc[(f"better with {ALL}", minus), "difference"] == pytest.approx(gap[6])
            assert mine.loc[
                ("better with modalities missing, on average", minus), "difference"
            ] == pytest.approx(gap[:6].mean())
            weak = mine.loc[
                (
                    "strong where only low-contribution modalities are there",
                    f"{minus}, mean of audio, vision, audio+vision",
                ),
                "difference",
            ]
            assert weak == pytest.approx(gap[[1, 2, 5]].mean())
        line = mine.xs(f"{OURS}: text minus vision", level="test")["difference"].item()
        assert line == pytest.approx((found[OURS][:, 0] - found[OURS][:, 2]).mean())
    assert set(frame["verdict"]) == {"too few seeds"}


def test_a_claims_slope_is_the_least_squares_line_through_a_seeds_curve(made: Made) -> None:
    r = np.random.default_rng(0)
    context = dataclasses.replace(
        made.context, profile=dataclasses.replace(made.context.profile, name="laptop")
    )
    levels = rows_of.levels(context)
    values = {
        ("row", rows_of.percent(p)): pd.Series(r.normal(70, 5, 3), index=[0, 1, 2]) for p in levels
    }
    by_test = {
        c.test: c
        for c in dream.claims._declines(context, "mosi", dream.claims._f1(context, "mosi", []))
    }
    fall = by_test[f"minus the slope of {OURS}, frames dropped (%)"].measure
    flatter = by_test[f"slope of DREAM minus that of {rows_of.P}, frames dropped (%)"].measure
    named = {
        (name, setting): of for (_, setting), of in values.items() for name in (OURS, rows_of.P)
    }
    named = {place: of if place[0] == OURS else 2 * of for place, of in named.items()}
    told = fall(named)
    for seed in range(3):
        line = stats.linregress([10 * p for p in levels], [s[seed] for s in values.values()])
        assert told[seed] == pytest.approx(-line.slope)
        assert flatter(named)[seed] == pytest.approx(-line.slope)  # the other's is twice as steep
    assert not len(fall({}))


def test_shares_and_accuracies_by_number_of_enhanced_modalities_are_those_of_the_predictions(
    made: Made,
) -> None:
    numbers = of_all_seeds(made, "enhanced")
    frame = numbers.set_index(["data", "quantity", "seed", "enhanced"])["value"]
    law = shared(0.5, resampled=True)
    for dataset, data in TWINS.items():
        bundle = open_bundle(data)
        truth = bundle.labels[bundle.rows("test")]
        for rows in zip(*(made.stored(data, row, law, 7) for row in MAIN), strict=True):
            spec, told = rows[0].spec, frame[SHOWN[dataset]]
            facts = known(made.context, spec, complete())
            assert facts is not None
            counts = [sum(score == 0 for score in clip) for clip in facts.pss.tolist()]
            for group in set(counts):
                there = [n for n, count in enumerate(counts) if count == group]
                assert told["test", spec.seed, group] == pytest.approx(
                    100 * len(there) / len(counts)
                )
                for row, record in zip(MAIN, rows, strict=True):
                    output = made.context.store.arrays(record.id)[f"predictions.valid.{ALL}"][there]
                    right = (
                        (output[:, 1::2] > output[:, 0::2]) == truth[there]
                        if dataset == "iemocap"
                        else (output[:, 0] > 0) == (truth[there] > 0)
                    )
                    assert told[row, spec.seed, group] == pytest.approx(100 * right.mean())
            assert sum(told["training", spec.seed, g] for g in range(4)) == pytest.approx(100)
            seen = draw(law, bundle, "train", spec.seed).utterance
            whole = (
                100 * seen.all(axis=1).mean()
            )  # what is missing is enhanced, so that no others can have none
            assert told["training", spec.seed, 0] <= whole + 1e-9 < 100


def test_selection_on_test_takes_each_conditions_best_epoch(made: Made) -> None:
    frame = made.table("selection-numbers")
    record = made.stored(TWINS["mosi"], OURS, shared(0.5, resampled=True), 7)[0]
    mine = frame[(frame["dataset"] == "mosi") & (frame["row"] == OURS) & (frame["seed"] == 0)]
    for selection in ("valid", "test", "last"):
        expected = np.mean([made.f1(record, c, selection=selection) for c in SIX])
        line = mine[(mine["selection"] == selection) & (mine["setting"] == "average")]
        assert line["value"].item() == pytest.approx(expected)
    best = max(record["curves"]["test"][ALL]["weighted_f1"])
    line = mine[(mine["selection"] == "test") & (mine["setting"] == ALL)]
    assert line["value"].item() == pytest.approx(best)


def test_vectors_of_two_modalities_in_folds_make_all_but_what_twins_alone_know(
    vectors: Made,
) -> None:
    entries = vectors.entries()
    assert {name for name, e in entries.items() if e["status"] == "needs data"} == TWIN_ONLY
    assert entries["detector"]["notes"] == ["Known of twins only."]
    assert {e["status"] for name, e in entries.items() if name not in TWIN_ONLY} == {"regenerated"}
    frame = vectors.table("table1-numbers").query("n > 0")
    assert set(frame["setting"]) == {"audio", "vision", ALL, "average"} and set(frame["n"]) == {1}
    law = shared(0.5, resampled=True)
    for row, stored in {OURS: OURS, PLAIN: PLAIN, CORRKD: P}.items():
        found = vectors.stored(str(vectors.context.data["mosi-frames"]), stored, law, 3)
        assert [r.spec.fold for r in found] == list(range(FOLDS))
        expected = np.mean([vectors.f1(r, "vision") for r in found])  # folds are one value
        mine = frame[
            (frame["row"] == row)
            & (frame["setting"] == "vision")
            & (frame["metric"] == "weighted_f1")
        ]
        assert mine["mean"].item() == pytest.approx(expected)
    told = vectors.table("claims")  # that of the weak conditions would be that of all conditions
    assert "best" not in frame and "strong where only" not in " ".join(told["claim"])


def test_vectors_lose_whole_modalities_in_figs_3_to_5_and_captions_say_so(vectors: Made) -> None:
    laws = {
        name: {r.spec.train_mask for r in vectors.of(name)}
        for name in ("fig3", "fig4", "fig5", "departures")
    }
    assert laws["fig3"] == {complete(), shared(0.6)} and laws["fig4"] == laws["fig5"] == {
        shared(0.6)
    }
    assert laws["departures"] == {shared(0.6), complete()}  # P on complete data
    own = {
        name: {
            r.id
            for r in vectors.of(name)
            if (r.spec.method, r.spec.variant) == ("dream", "paper")
            and r.spec.train_mask == shared(0.6)
        }
        for name in ("fig3", "fig4")
    }
    assert own["fig3"] == own["fig4"]
    for name in ("fig3", "fig4", "fig5"):
        notes = " ".join(vectors.entries()[name]["notes"])
        assert "no frames to drop" in notes and "mine stands in for the paper's data set" in notes
    assert (
        figures.lost(vectors.context, "mosi")
        == figures.lost(vectors.context, "mosi", True)
        == ("modalities dropped (%)")
    )
    assert "seven classes (B2)" in " ".join(vectors.table("departures-numbers")["row"])
    batch = {r.spec.training.batch for r in vectors.records.values() if r.spec.backbone != "linear"}
    assert batch == {PROFILES["smoke"].training["default"].batch}


def test_data_and_backbones_that_do_not_fit_are_refused(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    with pytest.raises(InputError, match="--backbone"):
        dream.context("smoke", backbone="gcnet")
    bundle = toy((2,) * 16, {"audio": 5, "vision": 4})
    pictures = np.zeros((len(bundle), 1, 4, 4), np.float32)
    save_bundle(
        dataclasses.replace(
            bundle, features={"audio": bundle.features["audio"], "vision": pictures}
        ),
        tmp_path / "pictures",
    )
    with pytest.raises(InputError, match="role mosi-frames"):
        dream.context("smoke", {"mosi-frames": str(tmp_path / "pictures")})


def test_drawing_before_any_run_says_that_nothing_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    context = dream.context("smoke", {"mosi-frames": TWINS["mosi"]})
    for artifact in dream.ARTIFACTS:
        if artifact.id in ("fig3", "fig4", "fig5", "table2", "enhanced", "detector", "values"):
            assert artifact.draw(context, artifact.cells(context)).notes == ("Not built yet.",)
    (declared,) = (a for a in dream.ARTIFACTS if a.id == "claims")
    claims: Frame = declared.draw(context, declared.cells(context)).table
    assert set(claims["verdict"]) == {"not run"}


def test_panels_of_one_data_set_have_one_scale(made: Made) -> None:
    drawn = figures.references(made.context, figures.reference_cells(made.context)).figure
    assert drawn is not None
    limits = [axis.get_ylim() for axis in drawn.axes]
    assert limits[0] == limits[1] and limits[2] == limits[3] and limits[0] != limits[2]
    assert panel_grid(1)[1]


def test_the_systems_are_thin_lines_in_fig_3_and_every_p_is_a_curve_in_fig_5(made: Made) -> None:
    drawn = {
        name: next(a for a in dream.ARTIFACTS if a.id == name).draw(made.context, cells)
        for name, cells in (
            ("fig3", dream.figures.frame_cells(made.context)),
            ("fig5", dream.figures.reference_cells(made.context)),
        )
    }
    curves, named = {}, {}
    for name, output in drawn.items():
        assert output.figure is not None
        axes = output.figure.axes[0]
        curves[name] = {line.get_label() for line in axes.get_lines()}
        named[name] = axes.get_legend_handles_labels()[1]
    assert {"CorrKD", "under-trained CorrKD", "Self-MM", "MLP"} <= curves["fig5"]
    assert "comparison systems" not in " ".join(named["fig5"])
    assert named["fig3"].count("six comparison systems") == 1
    assert curves["fig3"] >= {*MAIN, "best possible"} and "CubeMLP" not in curves["fig3"]
