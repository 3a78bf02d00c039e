"""EBMC's artifacts: what they say, computed again from stored predictions and energies, and from the printed tables."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shared_runs import at_another_epoch, made_and_drawn

from mmlib.data.catalog import open_bundle
from mmlib.experiments import sizes
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.experiments.systems import PRINTED_AS
from mmlib.masks import complete, patterns, subset
from mmlib.methods import ebmc as second_stage
from mmlib.papers import ebmc
from mmlib.papers.ebmc import analyses, figures
from mmlib.report.artifact import LOCAL, Output, read_all
from mmlib.runs.spec import RunSpec
from mmlib.runs.store import Record

pytestmark = pytest.mark.slow

ALL, EBMC, PLAIN, MOMKE = "all modalities", "EBMC", "same network, task loss alone", "MoMKE"
ONE = ["audio", "text", "vision"]
SIX = [*ONE, "audio+vision", "audio+text", "text+vision"]
SHORT = {c: "{" + ", ".join(m[0] for m in c.split("+")) + "}" for c in SIX} | {"average": "average"}
TWINS = {"mosi": "twin:mosi@smoke", "mosei": "twin:mosei@smoke", "iemocap": "twin:iemocap4@smoke"}
SHOWN = {"mosi": "CMU-MOSI twin", "mosei": "CMU-MOSEI twin", "iemocap": "IEMOCAP twin"}
PARTS = {f"w/o {name.upper()}": f"no_{name}" for name in ("msd", "cce", "emc", "imtd")}
TERMS = {"w/o ||z_m||_2^2": "no_norm", "w/o l_m": "no_loss", "w/o u_m": "no_uncertainty"}
VARIANTS = {EBMC: "paper", **PARTS, **TERMS}
GCNET = "GCNet"  # of Tables 2 and 3
OTHERS = {  # by table, the printed rows that are other systems, under our names
    name: set(published("ebmc", name)["row"].replace(PRINTED_AS)) - {EBMC}
    for name in ("table1", "table2", "table3")
}
MAIN, ABLATED, ENERGY = [EBMC, PLAIN, MOMKE], [*PARTS, PLAIN, EBMC], [*TERMS, EBMC]
POINTS = "points of weighted F1 or accuracy"
Frame = Any  # of pandas, whose stubs say too little of what an index finds
FIRST = (
    "msd",
    "cce",
    "zeta",
    "beta",
    "lambda1",
    "lambda2",
    "temperature",
    "noise",
    "gaussian",
    "signed",
)


@dataclass(frozen=True)
class Made:
    """A smoke context whose runs are all done and drawn."""

    context: Context
    folder: Path
    records: dict[str, Record]

    def table(self, name: str) -> Frame:
        return pd.read_csv(self.folder / "twins" / "ebmc" / f"{name}.csv")

    def entries(self) -> dict[str, dict[str, Any]]:
        return {e["id"]: e for e in read_all(self.folder)}

    def of(self, name: str) -> list[Record]:
        """The runs that an artifact's cells need, each once."""
        artifact = next(a for a in ebmc.ARTIFACTS if a.id == name)
        context = self.context
        ids = [
            s.run_id(context.bundle_fingerprint(s.data))
            for s in dict.fromkeys(cell.spec for cell in artifact.cells(context))
        ]
        return [self.records[i] for i in ids]

    def parent(self, record: Record) -> Record:
        assert record.spec.parent is not None
        return self.records[record.spec.parent.run_id(record["fingerprint"])]

    def stored(self, data: str, row: str, train: str, keep: tuple[str, ...] = ()) -> list[Record]:
        """A row's second stages that are tested under every condition, or trained and tested with all modalities."""
        masks = 1 if train == "complete" else 7
        if row == GCNET:
            return self.of_gcnet(data, train)
        plain = row in (PLAIN, MOMKE)
        kind = (
            "plain" if plain else "ebmc",
            VARIANTS.get(row, "paper"),
            "softmax" if row == MOMKE else "unnormalised",
        )
        wanted = [
            r
            for r in self.records.values()
            if (r.spec.data, str(r.spec.train_mask)) == (TWINS[data], train)
        ]
        found = [
            r
            for r in wanted
            if r.spec.parent
            and r.spec.backbone == "momke"
            and (r.spec.options, r.spec.keep) == ((), keep)
            and (r.spec.method, r.spec.variant, dict(r.spec.backbone_options)["routing"]) == kind
        ]
        found = [r for r in found if len(r.spec.eval_masks) == masks]
        return sorted(found, key=lambda r: (r.spec.seed, r.spec.fold or 0))

    def of_gcnet(self, data: str, train: str) -> list[Record]:
        """GCNet's runs, which have one stage."""
        found = [
            r
            for r in self.records.values()
            if (r.spec.data, str(r.spec.train_mask), r.spec.backbone)
            == (TWINS[data], train, "gcnet")
        ]
        return sorted(found, key=lambda r: (r.spec.seed, r.spec.fold or 0))

    def told(self, record: Record, condition: str, selection: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels and predictions of test."""
        bundle = open_bundle(record.spec.data)
        bundle = bundle if record.spec.fold is None else bundle.with_fold(record.spec.fold)
        return (
            bundle.labels[bundle.rows("test")],
            self.context.store.arrays(record.id)[f"predictions.{selection}.{condition}"],
        )

    def measure(
        self, record: Record, condition: str, metric: str, selection: str = "valid"
    ) -> float:
        if metric == "expected_accuracy":  # computed again in tests/runs/test_expected.py
            return float(record["selected"][selection]["metrics"][condition][metric])
        names = open_bundle(record.spec.data).task.names
        name = f"f1_{names[int(metric)]}" if metric.isdigit() else metric
        elsewhere = at_another_epoch(record, condition, name, selection)
        if elsewhere is not None:
            return elsewhere
        truth, output = self.told(record, condition, selection)
        if metric == "mae":
            return float(np.mean(np.abs(truth - output[:, 0])))
        if metric == "acc7":
            return 100 * float(
                np.mean(np.rint(np.clip(truth, -3, 3)) == np.rint(np.clip(output[:, 0], -3, 3)))
            )
        if output.shape[1] == 1:
            truth, guess = truth[truth != 0] > 0, output[truth != 0, 0] > 0
        else:
            guess = output.argmax(axis=1)
        if metric == "accuracy":
            return 100 * float(np.mean(truth == guess))
        f1 = {
            c: 200 * np.sum((truth == c) & (guess == c)) / (np.sum(truth == c) + np.sum(guess == c))
            for c in np.unique(truth)
        }
        return float(
            f1[int(metric)]
            if metric.isdigit()
            else sum(v * np.mean(truth == c) for c, v in f1.items())
        )

    def values(
        self,
        data: str,
        row: str,
        train: str,
        condition: str = ALL,
        metric: str = "weighted_f1",
        selection: str = "valid",
    ) -> Frame:
        """By seed, folds averaged, from predictions."""
        found = [
            (r.spec.seed, self.measure(r, condition, metric, selection))
            for r in self.stored(data, row, train)
        ]
        return pd.DataFrame(found, columns=["seed", "value"]).groupby("seed")["value"].mean()

    def missing(self, data: str, row: str, metric: str = "weighted_f1") -> Frame:
        """Of the one model for all conditions: seeds by conditions and their average."""
        found = pd.DataFrame(
            {c: self.values(data, row, "patterns", c, metric) for c in (*SIX, ALL)}
        )
        return found.assign(average=found[SIX].mean(axis=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """In a folder of its own, without sequences of frames; one seed, two in the main comparison."""
    folder = tmp_path_factory.mktemp("ebmc")
    data = {ebmc.PAPER.roles[d]: reference for d, reference in TWINS.items()}
    context = made_and_drawn(lambda: ebmc.context("smoke", data), folder, tmp_path_factory)
    return Made(context, folder / "figures", {r.id: r for r in context.store.records()})


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The main rows on one twin with all modalities and two seeds, and what is drawn of these."""
    folder = tmp_path_factory.mktemp("twice")
    context = made_and_drawn(
        lambda: ebmc.context("smoke", {"mosi": TWINS["mosi"]}, seeds=2),
        folder,
        tmp_path_factory,
        needed=["selection"],
        shown=["selection", "claims", "table6"],
    )
    return Made(context, folder / "figures", {r.id: r for r in context.store.records()})


def test_every_artifact_has_the_files_of_its_kind_and_the_papers_rows(made: Made) -> None:
    endings, found = (
        {"table": {".csv", ".md", ".tex"}, "figure": {".png", ".csv"}},
        made.entries(),
    )
    assert set(found) == {a.id for a in ebmc.ARTIFACTS if not a.on_request}
    framed = {"table5", "fig7", "fig8", "rates"}  # of test_ebmc_frames.py
    assert {found[name]["status"] for name in framed} == {"needs data"}
    for name, entry in found.items():
        if name in framed:
            continue
        sizes = {
            Path(f).name.removeprefix(name): (made.folder.parent / f).stat().st_size
            for f in entry["files"] + entry["local"]
        }
        # Two bars of one combination say what a note says: Fig 5 is a table.
        dropped = {".png"} if name == "fig5" else set()
        assert (
            entry["status"] == "regenerated"
            and {LOCAL * (name == "fig3") + e for e in endings[entry["kind"]] - dropped}
            <= set(sizes)
            and all(sizes.values())
        )
        assert not dropped & set(sizes)
    for name in ("table1", "table2", "table3", "table4", "table7"):
        rows = set(published("ebmc", name)["row"])
        others = OTHERS.get(name, set())
        built = rows & set(VARIANTS) if name in ("table4", "table7") else rows
        assert [found[name][k] for k in ("rows_in_paper", "rows_built")] == [len(rows), len(built)]
        shown = set(made.table(f"{name}-numbers").query("n > 0")["row"])
        main = {*MAIN, *others, LINEAR.name}
        assert shown == set(ABLATED if name == "table4" else ENERGY if name == "table7" else main)
    costs = published("ebmc", "table6")
    same = costs["value"].isin(
        [
            float(x.replace(",", ""))
            for x in made.table("table6")["trained parameters"]
            if x[0].isdigit()
        ]
    ) & (costs["metric"] == "parameters")
    # GLoMo's printed number is not that of its layers.
    assert set(costs["row"][same]) == {"EBMC offline", "EUAR"}
    # EBMC's online form has a language model; the other rows are counted, timed or both.
    assert [found["table6"][k] for k in ("rows_in_paper", "rows_built")] == [5, 4]
    assert costs["row"].nunique() == 5
    assert [
        found[f]["rows_built"] == found[f]["rows_in_paper"] for f in ("fig3", "fig4", "fig6")
    ] == [True] * 3


def first(spec: RunSpec) -> Any:
    """All that decides a run's first stage, from the second stage's own configuration."""
    config = dataclasses.replace(second_stage.VARIANTS[spec.variant], **dict(spec.options))
    return "unimodal" if spec.method == "plain" else tuple(getattr(config, name) for name in FIRST)


@pytest.mark.parametrize(
    ("name", "rows", "parents", "places"),
    [
        ("main", 2, 2, 2),  # of two seeds
        ("table1", 3, 2, 2),
        ("table2", 3, 2, 5),
        ("table3", 3, 2, 1),
        ("table4", 6, 4, 2),
        ("missing-parts", 6, 4, 1),
        ("table7", 4, 1, 1),
        ("fig6", 6, 4, 1),
        ("departures", 12, 5, 1),
    ],
)
def test_rows_share_budget_data_masks_and_equal_first_stages(
    made: Made, name: str, rows: int, parents: int, places: int
) -> None:
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in made.of(name):
        groups.setdefault((record.spec.data, record.spec.seed, record.spec.fold), []).append(record)
    assert len(groups) == places
    for place, everything in groups.items():
        # GCNet has no stage before, and is trained as long as both stages of the others.
        of_others = [r for r in everything if r.spec.backbone == "gcnet"]
        found = [r for r in everything if r.spec.backbone == "momke"]
        assert len(of_others) == (name in ("table2", "table3"))
        for r in of_others:
            assert (r.spec.parent, r.spec.train_mask) == (None, found[0].spec.train_mask)
            assert r["masks"] == found[0]["masks"]
            assert r.spec.training.epochs == 2 * found[0].spec.training.epochs
        before = [made.parent(r) for r in found]
        for alike in (found, before):
            assert len({json.dumps(r["masks"], sort_keys=True) for r in alike}) == 1
            assert (
                len({(r["fingerprint"], r.spec.train_mask, r.spec.eval_masks) for r in alike}) == 1
            )
        assert {
            (p.spec.data, p.spec.seed, p.spec.fold, p.spec.train_mask, p.spec.parent)
            for p in before
        } == {(*place, complete(), None)} and not any(
            x["realised"] for p in before for x in p["rates"]
        )
        assert (
            len({r.spec.training for r in (*found, *before)})
            == 1
            == len(
                {
                    tuple(o for o in r.spec.backbone_options if o[0] != "routing")
                    for r in (*found, *before)
                }
            )
        )
        pairs = {(first(r.spec), p.id) for r, p in zip(found, before, strict=True)}
        assert len(found) == rows and len(pairs) == parents == len({a for a, _ in pairs}) == len(
            {b for _, b in pairs}
        )
        by = {(r.spec.method, r.spec.variant): p.id for r, p in zip(found, before, strict=True)}
        if name in ("table4", "missing-parts"):
            own, shared = (
                {by["ebmc", v] for v in vs}
                for vs in (("no_msd", "no_cce"), ("paper", "no_emc", "no_imtd"))
            )
            assert len(own) == 2 and len(shared) == 1 and not own & shared


def test_a_model_of_a_condition_sees_that_alone_in_training_and_test(made: Made) -> None:
    found = [made.records[i] for i in made.entries()["protocol"]["run_ids"]]
    alone = {r.spec.eval_masks[0][0]: r for r in found if len(r.spec.eval_masks) == 1}
    one = next(r for r in found if len(r.spec.eval_masks) > 1)
    assert len(found) == 8 and set(alone) == {*SIX, ALL} and one.spec.train_mask == patterns()
    assert {made.parent(r).id for r in found} == {
        made.parent(made.stored("mosi", EBMC, "complete")[0]).id
    }
    frame = made.table("protocol-numbers").pivot(index="setting", columns="row", values="value")
    for condition, r in alone.items():
        seen = ONE if condition == ALL else condition.split("+")
        assert (
            r.spec.train_mask
            == (complete() if condition == ALL else subset(seen))
            == r.spec.eval_masks[0][1]
        )
        assert set(r["selected"]["valid"]["metrics"]) == {condition} and set(r["masks"]) == {
            "valid",
            f"test.{condition}",
        }
        assert {(x["mask"], x["modality"]): x["realised"] for x in r["rates"]} == {
            (mask, m): float(m not in seen) for mask in ("valid", condition) for m in ONE
        }
        assert (
            r.spec.training == one.spec.training
            and r["masks"][f"test.{condition}"] == one["masks"][f"test.{condition}"]
        )
        expected = [made.measure(x, condition, "weighted_f1") for x in (one, r)]
        assert list(
            frame.loc[condition, [EBMC, "EBMC, a model per condition (E2)"]]
        ) == pytest.approx(expected)
    np.testing.assert_allclose(frame.loc["average"], frame.loc[SIX].mean())


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [("table3", "mosei", [*MAIN, GCNET]), ("missing-parts", "mosi", ABLATED)],
)
def test_the_average_is_over_the_six_conditions_of_a_run(
    made: Made, name: str, data: str, rows: list[str]
) -> None:
    frame = made.table(f"{name}-numbers").query("n > 0")
    means = frame.pivot(index="row", columns="setting", values="mean")
    others = {LINEAR.name, *OTHERS["table3"]} if name == "table3" else set()
    assert set(means.index) == {*rows, *others} and set(means) == {*SIX, ALL, "average"}
    np.testing.assert_allclose(means["average"], means[SIX].mean(axis=1))
    for row in rows:
        mine, found = frame[frame["row"] == row].set_index("setting"), made.missing(data, row)
        assert set(mine["n"]) == {1} and mine["sd"].isna().all()
        np.testing.assert_allclose(mine["mean"], found.loc[0, mine.index])


def test_the_main_comparison_has_the_mean_and_the_spread_of_the_averages_of_two_seeds(
    made: Made,
) -> None:
    frame = made.table("main-numbers").query("n > 0")
    assert set(frame["row"]) == {EBMC, PLAIN, LINEAR.name}
    for row, metric in itertools.product((EBMC, PLAIN), ("accuracy", "weighted_f1")):
        of = frame[(frame["row"] == row) & (frame["metric"] == metric)]
        mine, found = of.set_index("setting"), made.missing("mosei", row, metric)
        assert set(mine.index) == {"average", ALL}
        assert len(found) == 2 and set(mine["n"]) == {2}
        np.testing.assert_allclose(mine["mean"], found.mean()[mine.index])
        np.testing.assert_allclose(mine["sd"], found.std()[mine.index], atol=1e-9)


def test_the_mean_f1_is_of_four_emotions_in_each_run_and_folds_are_one_value(made: Made) -> None:
    frame = made.table("table2-numbers").query("n > 0").set_index(["row", "metric"])
    names = open_bundle(TWINS["iemocap"]).task.names
    for row in (*MAIN, GCNET):
        found = made.stored("iemocap", row, "complete")
        assert sorted(r.spec.fold for r in found if r.spec.fold is not None) == [0, 1, 2, 3, 4]
        each = np.array([[made.measure(r, ALL, str(k)) for k in range(4)] for r in found])
        assert [frame.loc[(row, f"f1_{name}"), "mean"] for name in names] == pytest.approx(
            list(each.mean(axis=0))
        )
        line = frame.loc[(row, "f1_mean")]
        assert [line["mean"], line["n"]] == pytest.approx([each.mean(axis=1).mean(), 1])


def by_orders(values: Mapping[frozenset[str], float], players: Iterable[str]) -> dict[str, float]:
    """Shapley values by their definition: what a player adds on joining, over all orders."""
    orders = list(itertools.permutations(players))
    return {
        p: sum(
            values[frozenset(o[: o.index(p) + 1])] - values[frozenset(o[: o.index(p)])]
            for o in orders
        )
        / len(orders)
        for p in orders[0]
    }


def shares(made: Made, data: str, row: str) -> dict[int, dict[str, float]]:
    """By seed, from predictions; with nothing there, the most frequent answer of a test split."""
    found, guessed = made.missing(data, row, "accuracy"), []
    for record in made.stored(data, row, "patterns"):
        truth = made.told(record, ALL, "valid")[0]
        truth = np.sign(truth[truth != 0]) if data != "iemocap" else truth
        guessed.append(100 * max(float(np.mean(truth == c)) for c in np.unique(truth)))
    made_of = {frozenset(ONE if c == ALL else c.split("+")): c for c in (*SIX, ALL)}
    return {
        int(str(seed)): by_orders(
            {who: float(line[c]) for who, c in made_of.items()}
            | {frozenset(): float(np.mean(guessed))},
            ONE,
        )
        | {"sum": float(line[ALL]) - float(np.mean(guessed))}
        for seed, line in found.iterrows()
    }


def shares_drawn(made: Made) -> Output:
    """Fig 4 of all seeds that there are, of which the main comparison has a second one."""
    context = dataclasses.replace(made.context, seed_count=2)
    return figures.contribution(context, figures.contributions_cells(context))


def test_shapley_values_are_means_over_orders_and_add_up_to_the_accuracy_above_guessing(
    made: Made,
) -> None:
    noise, players = np.random.default_rng(0), ["a", "b", "c", "d"]
    game = {
        frozenset(c): float(noise.normal())
        for k in range(5)
        for c in itertools.combinations(players, k)
    }
    assert figures.shapley(game, players) == pytest.approx(by_orders(game, players))
    numbers = shares_drawn(made).numbers
    assert numbers is not None
    frame: Frame = numbers.set_index(["dataset", "row", "seed", "modality"])["points"].sort_index()
    assert len(frame) == (2 * 3 + 1) * 3  # with and without on each data set, a second seed
    for data, (label, row) in itertools.product(
        TWINS, (("with EMC", EBMC), ("w/o EMC", "w/o EMC"))
    ):
        for seed, expected in shares(made, data, row).items():
            assert dict(frame.loc[data, label, seed]) == pytest.approx(
                {m: expected[m] for m in ONE}, abs=1e-8
            )  # files have ten digits
            assert frame.loc[data, label, seed].sum() == pytest.approx(expected["sum"], abs=1e-8)


def test_the_accuracy_with_all_modalities_of_fig_4_is_a_sentence(made: Made) -> None:
    notes = " ".join(shares_drawn(made).notes)
    for data in TWINS:
        means = [made.missing(data, row, "accuracy")[ALL].mean() for row in (EBMC, "w/o EMC")]
        told = [f"with EMC {means[0]:.2f} ", f"w/o EMC {means[1]:.2f} "]
        assert all(text in notes for text in told), (data, told)


def trained(dims: Iterable[int], width: int, depth: int, *, released: bool) -> int:
    """Parameters of the second stage for a score, layer by layer; released: one generator, no variances."""

    def linear(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    widths = list(dims)
    m, square = len(widths), linear(width, width)
    block = 3 * square + 2 * square  # query, key, value; an MLP
    network = sum(
        linear(x, width) + depth * block + square + linear(width, m) + linear(width, 1)
        for x in widths
    )
    network += linear(m * width, m * width) + linear(m * width, 1)
    parts = m * (
        2 * width + 2 * 2 * square + linear(width, 1 if released else 2)
    )  # norm, shared, specific, T_m
    generators = (
        linear(2 * width, width) + square
        if released
        else m * (linear(2 * m * width, width) + square)
    )
    return network + parts + generators


def test_parameters_are_the_ledgers_and_those_of_the_layers_without_the_teacher(
    made: Made, twice: Made
) -> None:
    table = made.table("table6").set_index("method")
    found = {
        method: int(text.replace(",", ""))
        for method, text in table["trained parameters"].items()
        if text[0].isdigit()
    }
    of = {
        ("released", "GCNet's features (E3)"): 6_384_400,
        ("released", "section 4's features"): 5_953_552,
        **{
            ("recommended", words): trained(dims, 256, 4, released=False)
            for words, dims in (
                ("GCNet's features (E3)", (512, 1024, 1024)),
                ("section 4's features", (74, 768, 35)),
            )
        },
    }
    layers = {
        f"{n}, layer by layer": sum(of().values())
        for n, of in sizes.PRINTED["ebmc", "table6"].items()
    }
    ours = {f"EBMC as {which}, {words}": count for (which, words), count in of.items()}
    assert found == {**ours, **layers} and len(layers) == 2
    assert [
        trained(dims, 256, 4, released=True) for dims in ((512, 1024, 1024), (74, 768, 35))
    ] == [6_384_400, 5_953_552]
    dims = [x.shape[1] for x in open_bundle(TWINS["mosi"]).features.values()]
    for record in made.records.values():
        if record.spec.data == TWINS["mosi"] and (record.spec.method, record.spec.variant) in (
            ("ebmc", "paper"),
            ("ebmc", "released"),
            ("enhance", "paper"),
        ):
            teacher = 2 if record.spec.method == "ebmc" else 1  # itself and its frozen copy
            assert record["parameters"] == teacher * trained(
                dims, 16, 1, released=record.spec.variant == "released"
            )
    times = [
        sum(twice.context.store.sidecar(r.id)["seconds"] for r in (x, twice.parent(x)))
        for x in twice.stored("mosi", EBMC, "complete")
    ]
    timed = twice.table(f"table6{LOCAL}").set_index("method")
    said = str(timed.loc["EBMC, CMU-MOSI twin", "time of all stages"])
    assert float(said.split()[0]) == pytest.approx(np.mean(times), abs=0.0051) and said.endswith(
        "(2) s"
    )


def test_energies_are_sums_of_their_three_terms_and_recording_them_changes_nothing(
    made: Made,
) -> None:
    frame, text = made.table("balance-numbers"), made.table("balance").set_index("row")
    for label, row in (("with EMC", EBMC), ("w/o EMC", "w/o EMC")):
        (record,) = made.stored("mosi", row, "complete", ("series",))
        kept, rest = (
            made.context.store.arrays(r.id)
            for r in (record, made.stored("mosi", row, "complete")[0])
        )
        assert record.spec.seed == 0 and set(rest) == {
            f"predictions.{s}.{ALL}" for s in ("valid", "test", "last")
        } | {
            f"clusters.{metric}.{ALL}"
            for metric in ("accuracy", "weighted_f1", "expected_accuracy")
        }
        assert all(np.array_equal(kept[name], rest[name]) for name in rest)
        steps = kept["series.norm"].astype(float) + kept["series.loss"] + kept["series.uncertainty"]
        energy = np.array(
            [part.mean(axis=0) for part in np.split(steps, record.spec.training.epochs)]
        )
        mine = frame[frame["row"] == label].pivot(
            index="epoch", columns=["quantity", "modality"], values="value"
        )
        np.testing.assert_allclose(mine["energy E(m)"][ONE], energy, rtol=1e-5)
        told = [record["curves"]["views"][f"{ALL}.{m}"]["accuracy"] for m in ONE]
        np.testing.assert_allclose(mine["own accuracy (%)"][ONE].T, told)
        gap = energy[-1].max() - energy[-1].min()
        assert analyses.gaps(made.context, figures.BALANCED[label])[0] == pytest.approx(
            gap, rel=1e-5
        )
        for column, value in (
            ("largest minus smallest", gap),
            *((f"E({m})", e) for m, e in zip(ONE, energy[-1], strict=True)),
        ):
            assert text.loc[label, column].endswith(" (1)")
            assert float(text.loc[label, column].split()[0]) == pytest.approx(value, abs=0.000501)


@pytest.mark.parametrize(("of", "datasets"), [("made", ["mosi", "mosei"]), ("twice", ["mosi"])])
def test_selection_on_test_is_never_worse_and_its_gap_is_that_of_the_predictions(
    request: pytest.FixtureRequest, of: str, datasets: list[str]
) -> None:
    made: Made = request.getfixturevalue(of)
    frame, text = (
        made.table("selection-numbers"),
        made.table("selection").set_index(["data", "row", "metric"]),
    )
    labels = {
        "accuracy": "accuracy",
        "weighted_f1": "weighted F1",
        "acc7": "accuracy, 7 classes",
        "mae": "MAE",
    }
    assert len(text) == len(datasets) * len([*MAIN, LINEAR]) * 4
    for data, row, metric in itertools.product(datasets, MAIN, labels):
        mine = frame[
            (frame[["dataset", "row", "metric"]] == [data, row, metric]).all(axis=1)
        ].pivot(index="seed", columns="selection", values="value")
        found = pd.DataFrame(
            {
                s: made.values(data, row, "complete", ALL, metric, s)
                for s in ("valid", "test", "last")
            }
        )
        np.testing.assert_allclose(mine[list(found)], found, rtol=1e-5)
        line = text.loc[(SHOWN[data], row, labels[metric])]
        gap = found["test"] - found["valid"]
        assert len(gap) == {"made": 1, "twice": 2}[of]
        told = str(line["test minus valid"]).split()[0]
        if of == "made":
            assert told == "-"
        else:
            assert float(told) == pytest.approx(gap.mean(), abs=0.0051)
        assert [float(line[f"epoch by {s}"].split()[0]) for s in found] == pytest.approx(
            list(found.mean()), abs=0.0051
        )
        if metric == "weighted_f1":
            best = {
                r.spec.seed: max(r["curves"]["test"][ALL][metric])
                for r in made.stored(data, row, "complete")
            }
            assert (gap >= 0).all() and dict(found["test"]) == pytest.approx(best)


def test_one_or_two_seeds_have_no_verdict_and_numbers_are_unique(made: Made, twice: Made) -> None:
    stored = made.table("claims-numbers")
    assert set(stored["seeds"]) == {1} and set(stored["verdict"]) == {"too few seeds"}
    assert stored["low"].isna().all() and stored["difference"].notna().all()
    assert list(made.table("claims")["no"]) == list(stored["no"]) == list(range(1, len(stored) + 1))
    assert not stored.duplicated(["claim", "data", "test (above 0 supports)"]).any()
    some = twice.table("claims-numbers")
    two = some[some["seeds"] > 0]
    assert set(two["seeds"]) == {2} and set(two["verdict"]) == {"too few seeds"}
    assert two["low"].isna().all() and set(some[some["seeds"] == 0]["verdict"]) == {"not run"}


ON_AVERAGE = "better with modalities missing, on average"


def differences(made: Made, data: str) -> dict[tuple[str, str], Frame]:
    """Of all claims about a data set of scores, by words and test."""
    v, w = (
        {row: get(row) for row in {*MAIN, *PARTS}}
        for get in (
            lambda row: made.missing(data, row),
            lambda row: made.values(data, row, "complete"),
        )
    )
    found = (
        {("better with all modalities", f"EBMC minus {o}"): w[EBMC] - w[o] for o in (PLAIN, MOMKE)}
        | {
            (
                f"better under {SHORT[c]}" if c in SIX else ON_AVERAGE,
                f"EBMC minus {o}",
            ): (v[EBMC] - v[o])[c]
            for o in (PLAIN, MOMKE)
            for c in SHORT
        }
        | {(f"{row[4:]} is needed", f"EBMC minus {row}"): w[EBMC] - w[row] for row in PARTS}
        | {
            ("removing EMC hurts most", f"{row} minus w/o EMC"): w[row] - w["w/o EMC"]
            for row in PARTS
            if "EMC" not in row
        }
    )
    gain = v[EBMC] - v["w/o IMTD"]
    found[
        "IMTD helps where modalities are missing (though it acts only in training)",
        "EBMC minus w/o IMTD, missing conditions",
    ] = gain[SIX].mean(axis=1)
    found[
        "IMTD helps more where modalities are missing than with all of them",
        "that gain minus the gain with all",
    ] = gain["average"] - gain[ALL]
    found |= _of_table_3(v) | _in_seven_classes(made, data)
    for row in ("w/o MSD", "w/o CCE"):
        found[
            f"{row[4:]} keeps weak single modalities useful",
            f"EBMC minus {row}, audio and vision alone",
        ] = (v[EBMC] - v[row])[["audio", "vision"]].mean(axis=1)
    right, less = (
        made.values(data, row, "patterns", ALL, "expected_accuracy") for row in (EBMC, "w/o EMC")
    )
    found["the better balance shows as better accuracy", "EBMC minus w/o EMC, accuracy"] = (
        right - less
    )
    if (
        data == "mosi"
    ):  # where all have one learning rate, as at smoke, that of the network is the method's
        found[
            f"(ours) at its network's learning rate: {ON_AVERAGE}",
            f"EBMC at its network's learning rate minus {PLAIN}",
        ] = (v[EBMC] - v[PLAIN])["average"]
    if data == "mosei":
        found |= {
            (f"the energy needs its terms: {row}", f"EBMC minus {row}"): w[EBMC]
            - made.values(data, row, "complete")
            for row in TERMS
        }
        of = {row: made.values(data, row, "complete") for row in TERMS}
        norm, loss, uncertainty = TERMS
        found |= {
            (
                "of the energy's terms the task loss is needed most",
                f"{row} minus {loss}",
            ): of[row] - of[loss]
            for row in (norm, uncertainty)
        }
    return found


def _of_table_3(v: dict[str, pd.DataFrame]) -> dict[tuple[str, str], pd.Series]:
    """What is lost where modalities are missing, by how many are; v: seeds by condition, by row."""
    single, pairs = ([c for c in SIX if ("+" in c) == several] for several in (False, True))
    found = {}
    for other in (PLAIN, MOMKE):
        gain = v[EBMC] - v[other]
        found[
            "less is lost than by other methods where modalities are missing",
            f"lead over {other} with some missing, on average, minus that with all",
        ] = gain["average"] - gain[ALL]
        found[
            "EBMC's gain is largest where one modality is left",
            f"lead over {other}, one modality minus two modalities",
        ] = gain[single].mean(axis=1) - gain[pairs].mean(axis=1)
    ours, more = v[EBMC], "the more modalities there are, the better"
    found[more, "EBMC, two modalities minus one modality"] = (
        ours[pairs].sum(axis=1) - ours[single].sum(axis=1)
    ) / 3
    found[more, "EBMC, all modalities minus two modalities"] = ours[ALL] - ours[pairs].mean(axis=1)
    return found


def _in_seven_classes(made: Made, data: str) -> dict[tuple[str, str], pd.Series]:
    ours, *others = (
        made.values(data, row, "complete", ALL, "acc7") for row in (EBMC, PLAIN, MOMKE)
    )
    return {
        (
            "better in 7-class accuracy with all modalities",
            f"EBMC minus {row}, 7-class accuracy",
        ): ours - other
        for row, other in zip((PLAIN, MOMKE), others, strict=True)
    }


def text_parts(made: Made, data: str) -> dict[tuple[str, str], pd.Series]:
    of = {row: shares(made, data, row) for row in (EBMC, "w/o EMC")}
    full, less = (
        pd.Series({seed: s["text"] - s["sum"] / 2 for seed, s in of[row].items()})
        for row in (EBMC, "w/o EMC")
    )
    others = {
        row: pd.Series({seed: s["sum"] - s["text"] for seed, s in by_seed.items()})
        for row, by_seed in of.items()
    }
    return {
        (
            "without EMC text contributes more than half",
            "text's Shapley value minus half of all, accuracy",
        ): less,
        ("EMC lowers text's part", "that without EMC minus that with"): less - full,
        (
            "EMC raises the part of the other modalities",
            "their Shapley values together, accuracy, with EMC minus without",
        ): others[EBMC] - others["w/o EMC"],
    }


def claimed(made: Made) -> Frame:
    """The table of claims about data sets of scores, without those about the grids of weights."""
    frame = made.table("claims-numbers").rename(columns={"test (above 0 supports)": "test"})
    of_scores = frame["data"].isin([SHOWN["mosi"], SHOWN["mosei"]])
    return frame[of_scores & ~frame["claim"].str.contains("of the grid|over the grid")]


def test_claims_compare_the_stored_runs_seed_by_seed(made: Made) -> None:
    frame = claimed(made)
    expected = {
        (SHOWN[d], *key): found
        for d in ("mosi", "mosei")
        for key, found in (differences(made, d) | text_parts(made, d)).items()
    }
    points = frame[frame["unit"] == POINTS]
    assert set(points[["data", "claim", "test"]].itertuples(index=False, name=None)) == set(
        expected
    )
    compared = 0
    for line in frame.to_dict("records"):
        if (found := expected.get((line["data"], line["claim"], line["test"]))) is not None:
            compared += 1
            assert line["difference"] == pytest.approx(found.loc[0], rel=1e-6, abs=1e-6)
    assert compared == len(expected)


def test_a_claim_on_two_seeds_is_the_mean_of_the_paired_differences(twice: Made) -> None:
    frame = claimed(twice).set_index(["claim", "test"])
    of = {row: twice.values("mosi", row, "complete") for row in MAIN}
    for other in (PLAIN, MOMKE):
        line, found = (
            frame.loc[("better with all modalities", f"EBMC minus {other}")],
            of[EBMC] - of[other],
        )
        assert line["seeds"] == len(found) == 2
        assert line["difference"] == pytest.approx(found.mean(), rel=1e-6, abs=1e-6)
