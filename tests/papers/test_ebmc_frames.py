"""EBMC's Table 5 and Figs 7 and 8: computed again from stored predictions, masks and the twins' posterior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shared_runs import at_another_epoch, made_and_drawn, make_runs

from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.data.catalog import open_bundle, open_twin
from mmlib.errors import InputError
from mmlib.experiments import budgets
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.context import Context
from mmlib.experiments.profiles import PROFILES
from mmlib.experiments.published import published
from mmlib.masks import complete, draw, frames, random_frames
from mmlib.papers import ebmc
from mmlib.papers.ebmc import frames as frames_tables
from mmlib.papers.ebmc import rows
from mmlib.pipeline import notebooks, regenerate
from mmlib.report.artifact import read_all
from mmlib.runs.store import Record

pytestmark = pytest.mark.slow

TWINS = {"mosi_frames": "twin:mosi-frames@smoke", "mosei_frames": "twin:mosei-frames@smoke"}
SHOWN = {"mosi_frames": "CMU-MOSI frames twin", "mosei_frames": "CMU-MOSEI frames twin"}
ROWS = {
    "EBMC": ("enhance", "ebmc", "paper", "unnormalised"),
    "MoMKE": ("unimodal", "plain", "paper", "softmax"),
    "same network, task loss alone": ("unimodal", "plain", "paper", "unnormalised"),
    "w/o IMTD": ("enhance", "ebmc", "no_imtd", "unnormalised"),
    "EBMC, epoch chosen at 50 % (E23)": ("enhance", "ebmc", "paper", "unnormalised"),
}
HALF = list(ROWS)[-1]
RATES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
NAMES = [f"{round(100 * rate)} %" for rate in RATES]
DRAWN = {"table5", "fig7", "fig8"}
FRAMED = {*DRAWN, "rates", "claims"}
SYSTEMS = set(published("ebmc", "table5")["row"]) - {"EBMC"}
PLAIN = "same network, task loss alone"
Toy = Callable[..., Bundle]
Frame = Any  # of pandas, whose stubs say too little of what an index finds


@dataclasses.dataclass(frozen=True)
class Made:
    """A context of frames alone, whose runs are all done and drawn."""

    context: Context
    folder: Path

    def table(self, name: str) -> Frame:
        return pd.read_csv(self.folder / self.context.collection / "ebmc" / f"{name}.csv")

    def entries(self) -> dict[str, dict[str, Any]]:
        return {e["id"]: e for e in read_all(self.folder)}

    def stored(self, data: str, row: str) -> list[Record]:
        """A row's second stages, by seed."""
        kind = ROWS[row][1:]
        found = [r for r in self.context.store.records() if r.spec.parent and r.spec.data == data]
        return sorted(
            (
                r
                for r in found
                if (r.spec.method, r.spec.variant, dict(r.spec.backbone_options)["routing"]) == kind
                and bool(r.spec.valid_mask) == (row == HALF)
            ),
            key=lambda r: r.spec.seed,
        )

    def seeds(self, dataset: str) -> list[int]:
        return list(self.context.seeds(dataset))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Both twins with the profile's one seed: everything that they allow."""
    folder = tmp_path_factory.mktemp("frames")
    data = {ebmc.PAPER.roles[d]: name for d, name in TWINS.items()}
    context = made_and_drawn(lambda: ebmc.context("smoke", data), folder, tmp_path_factory)
    return Made(context, folder / "figures")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One twin with two seeds, of the rows that claims are about: what is of several seeds."""
    folder = tmp_path_factory.mktemp("twice")
    context = made_and_drawn(
        lambda: ebmc.context("smoke", {"mosi-frames": TWINS["mosi_frames"]}, seeds=2),
        folder,
        tmp_path_factory,
        needed=["claims"],
        shown=["table5", "fig7", "claims"],
    )
    return Made(context, folder / "figures")


@pytest.fixture(scope="module", params=["made", "twice"])
def either(request: pytest.FixtureRequest) -> Made:
    """With one seed and with two."""
    found: Made = request.getfixturevalue(request.param)
    return found


def measures(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The seven metrics of Table 5, by their definitions."""
    found = {"mae": float(np.abs(truth - score).mean())}
    centred = [x - x.mean() for x in (truth.astype(float), score.astype(float))]
    found["pearson"] = float(
        np.prod(centred, axis=0).sum() / np.sqrt(np.prod([(x**2).sum() for x in centred]))
    )
    seven = [np.rint(np.clip(x, -3, 3)) for x in (truth, score)]
    found["acc7"] = 100 * float((seven[0] == seven[1]).mean())
    kept = truth != 0
    for ending, t, s in (
        ("", truth[kept] > 0, score[kept] > 0),
        ("_with_zero", truth >= 0, score >= 0),
    ):
        found[f"accuracy{ending}"] = 100 * float((t == s).mean())
        found[f"weighted_f1{ending}"] = sum(
            (t == c).mean() * 200 * ((t == c) & (s == c)).sum() / ((t == c).sum() + (s == c).sum())
            for c in (0, 1)
        )
    return found


def by_rate(made: Made, dataset: str, row: str) -> Frame:
    """Seed, rate, and the seven metrics at the epochs that validation picks, from predictions where these are of it."""
    bundle = open_bundle(TWINS[dataset])
    truth, lines = bundle.labels[bundle.rows("test")], []
    for record in made.stored(TWINS[dataset], row):
        kept = made.context.store.arrays(record.id)
        for rate, name in zip(RATES, NAMES, strict=True):
            found = measures(truth, kept[f"predictions.valid.{name}"][:, 0])
            for metric in found:
                elsewhere = at_another_epoch(record, name, metric)
                found[metric] = found[metric] if elsewhere is None else elsewhere
            lines.append({"seed": record.spec.seed, "rate": rate, **found})
    return pd.DataFrame(lines)


def best(dataset: str, seed: int, rate: float) -> dict[str, float]:
    """What decisions by the posterior of an utterance by itself reach, counted one by one."""
    twin = open_twin(TWINS[dataset])
    truth, levels = twin.bundle.labels[twin.bundle.rows("test")], twin.role.levels
    mask = draw(frames(rate), twin.bundle, "test", seed)
    mass = twin.bayes("test", mask.utterance, context=False, frames=mask.frames)
    sign = np.where(mass[:, levels > 0].sum(axis=1) > mass[:, levels < 0].sum(axis=1), 1.0, -1.0)
    mode, found = levels[mass.argmax(axis=1)], measures(truth, sign)
    return {"accuracy": found["accuracy"], "acc7": measures(truth, mode)["acc7"]}


def test_frames_alone_make_table_5_and_figs_7_and_8_and_nothing_else(made: Made) -> None:
    entries = made.entries()
    assert {name for name, e in entries.items() if e["status"] == "regenerated"} == FRAMED
    assert {e["status"] for name, e in entries.items() if name not in FRAMED} == {"needs data"}
    assert set(entries) == {a.id for a in ebmc.ARTIFACTS}
    assert "--data mosi=BUNDLE" in entries["table1"]["notes"][0] and not entries["theory"]["files"]
    # Data; first and second stages, the linear model, systems of one stage each.
    assert len(list(made.context.store.records())) == 2 * (2 + 5 + 1 + len(SYSTEMS))
    for name in DRAWN:
        assert [entries[name][k] for k in ("rows_built", "rows_in_paper")] == [9, 9]
        assert all((made.folder.parent / file).stat().st_size for file in entries[name]["files"])


def test_both_stages_of_all_rows_have_equal_budgets_and_see_the_same_masks(either: Made) -> None:
    for dataset in either.context.datasets:
        data, seeds = TWINS[dataset], either.seeds(dataset)
        bundle, found = open_bundle(data), {row: either.stored(data, row) for row in ROWS}
        assert [r.spec.seed for records in found.values() for r in records] == seeds * 5
        everything = [r for records in found.values() for r in records]
        parents = [r.spec.parent for r in everything]
        schedules = {s.training for s in [r.spec for r in everything] + [p for p in parents if p]}
        assert (
            len(schedules)
            == 1
            == len(
                {
                    tuple(o for o in s.backbone_options if o[0] != "routing")
                    for s in [r.spec for r in everything] + [p for p in parents if p]
                }
            )
        )
        assert schedules == {PROFILES["smoke"].training["default"]}
        for seed in seeds:
            prints = [
                r["masks"] for r in everything if r.spec.seed == seed and not r.spec.valid_mask
            ]
            expected = {
                f"test.{n}": draw(frames(p), bundle, "test", seed).fingerprint
                for n, p in zip(NAMES, RATES, strict=True)
            }
            expected["valid"] = draw(random_frames(), bundle, "valid", seed).fingerprint
            assert prints == [expected] * 4
            (half,) = (r["masks"] for r in found[HALF] if r.spec.seed == seed)
            assert half == expected | {
                "valid": draw(frames(0.5), bundle, "valid", seed).fingerprint
            }
        for ours, half in zip(
            found["EBMC"], found[HALF], strict=True
        ):  # one training, another choice of the epoch
            assert ours["selected"]["last"]["metrics"] == half["selected"]["last"]["metrics"]
        for row, records in found.items():
            for record in records:
                parent = record.spec.parent
                assert (
                    parent is not None
                    and parent.train_mask == complete()
                    and record.spec.train_mask.resampled
                )
                assert (
                    parent.method == ROWS[row][0]
                    and dict(parent.backbone_options)["routing"] == "own"
                )
                assert {parent.backbone, record.spec.backbone} == {"momke_frames"}


def test_ten_rates_are_followed_at_no_stage(made: Made) -> None:
    with_rates = [r for r in made.context.store.records() if len(r.spec.eval_masks) == len(RATES)]
    assert {r.spec.parent is None for r in with_rates} == {True, False}
    assert all(set(r["curves"]["test"]) == {"0 %"} for r in with_rates)


def test_table_5_has_every_row_on_either_data_set_in_seven_metrics(made: Made) -> None:
    frame = made.table("table5-numbers").query("n > 0").set_index(["row", "setting", "metric"])
    assert len(frame) == (5 + 1 + len(SYSTEMS)) * 2 * 7


def test_table_5_is_the_mean_over_ten_rates_within_each_run(either: Made) -> None:
    frame = either.table("table5-numbers").query("n > 0").set_index(["row", "setting", "metric"])
    one = len(either.context.datasets) == 1
    for dataset in either.context.datasets:
        seeds, setting = either.seeds(dataset), "average" if one else f"{SHOWN[dataset]} average"
        bounds = pd.DataFrame(
            [best(dataset, seed, rate) for seed in seeds for rate in RATES]
        ).mean()
        for row in ROWS:
            values = by_rate(either, dataset, row).groupby("seed").mean().drop(columns="rate")
            for metric, column in values.items():
                line = frame.loc[(row, setting, metric)]
                assert [line[k] for k in ("n", "mean", "sd")] == pytest.approx(
                    [len(seeds), column.mean(), column.std()], rel=1e-4, nan_ok=len(seeds) == 1
                )
                if metric in bounds:
                    assert line["best"] == pytest.approx(bounds[metric])
            assert set(frame.loc[row].dropna(subset="best").index.get_level_values("metric")) == {
                "accuracy",
                "weighted_f1",
                "acc7",
                "mae",
            }


def test_printed_rows_are_listed_but_for_the_wrong_one_and_no_value_stands_beside_twins(
    made: Made,
) -> None:
    frame, printed = made.table("table5-numbers"), published("ebmc", "table5")
    assert "paper" not in frame and set(frame["row"]) == {*printed["row"], *ROWS, LINEAR.name}
    assert set(frame[frame["n"] > 0]["row"]) == {*printed["row"], *ROWS, LINEAR.name}
    mine = {(r, s) for r, s in frame[frame["in_paper"]][["row", "setting"]].itertuples(index=False)}
    assert mine == {(r, f"{SHOWN[d]} average") for r in printed["row"].unique() for d in TWINS} - {
        ("TETFN", f"{SHOWN['mosei_frames']} average")
    }
    twice = printed[printed["row"] == "TETFN"].pivot(
        index="metric", columns="dataset", values="value"
    )
    assert (twice["mosi"] == twice["mosei"]).sum() == 6  # all but the correlation (C18)
    notes = " ".join(made.entries()["table5"]["notes"])
    assert all(word in notes for word in ("C18", "C20", "E23", "E24"))


@pytest.mark.parametrize(
    ("of", "name", "dataset"),
    [
        ("made", "fig7", "mosi_frames"),
        ("made", "fig8", "mosei_frames"),
        ("twice", "fig7", "mosi_frames"),
    ],
)
def test_curves_are_the_runs_metrics_by_rate_and_the_best_possible(
    request: pytest.FixtureRequest, of: str, name: str, dataset: str
) -> None:
    made: Made = request.getfixturevalue(of)
    frame, others = made.table(name), SYSTEMS if of == "made" else set()
    panels = ["weighted_f1", "acc7", "pearson", "mae"]
    assert (
        set(frame["row"]) == {*ROWS, *others, LINEAR.name, "best possible"} - {HALF}
        and list(frame["metric"].unique()) == panels
    )
    for row in (r for r in ROWS if r != HALF):
        mine = frame[frame["row"] == row].pivot(
            index=["seed", "rate"], columns="metric", values="value"
        )
        expected = by_rate(made, dataset, row).set_index(["seed", "rate"])
        np.testing.assert_allclose(mine[panels], expected[panels], rtol=1e-4)
    bound = frame[frame["row"] == "best possible"].pivot(
        index="rate", columns="metric", values="value"
    )
    assert set(bound) == {"weighted_f1", "acc7", "mae"}
    seeds = made.seeds(dataset)
    expected = [np.mean([best(dataset, seed, rate)["acc7"] for seed in seeds]) for rate in RATES]
    np.testing.assert_allclose(bound["acc7"], expected)
    assert bound.loc[0.9, "mae"] > bound.loc[0.0, "mae"]


def test_claims_are_differences_of_the_curves_by_seed(either: Made) -> None:
    frame, datasets = either.table("claims-numbers"), either.context.datasets
    assert len(frame) == len(datasets) * 11
    for dataset in datasets:
        data = TWINS[dataset]
        assert set(frame["seeds"]) == {len(either.seeds(dataset))}
        found = frame[frame["data"] == SHOWN[dataset]].set_index("test (above 0 supports)")[
            "difference"
        ]
        curves = {
            row: by_rate(either, dataset, row)
            .pivot(index="seed", columns="rate", values="weighted_f1")
            .mean()
            for row in ROWS
        }
        ours, plain = curves["EBMC"], curves[PLAIN]
        ahead = by_rate(either, dataset, "EBMC").mean() - by_rate(either, dataset, PLAIN).mean()
        labels = open_bundle(data).labels[open_bundle(data).rows("test")]
        share = max((labels > 0).sum(), (labels < 0).sum()) / (labels != 0).sum()
        expected = {
            "EBMC minus w/o IMTD": ours.mean() - curves["w/o IMTD"].mean(),
            f"EBMC minus {PLAIN}, mean": ours.mean() - plain.mean(),
            "EBMC minus MoMKE, mean": (ours - curves["MoMKE"]).mean(),
            "fall of": (plain[0.0] - plain[0.9]) - (ours[0.0] - ours[0.9]),
            f"EBMC minus {PLAIN}, 7-class": ahead["acc7"],
            f"EBMC minus {PLAIN}, correlation": ahead["pearson"],
            f"{PLAIN} minus EBMC, mean absolute error": -ahead["mae"],
            "EBMC at 90 %": ours[0.9] - 100 * share * 2 * share / (1 + share),
        }
        for start, value in expected.items():
            (name,) = (n for n in found.index if n.startswith(start))
            assert found[name] == pytest.approx(value, abs=1e-3), name


def test_two_modalities_of_different_lengths_without_dialogues_do_as_well(
    toy: Toy, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = toy(
        (1,) * 64, {"audio": 5, "vision": 4}, task=Task("score", range=(-3.0, 3.0)), frames=4
    )
    features = {"audio": bundle.features["audio"], "vision": bundle.features["vision"][:, :3]}
    lengths = {m: np.minimum(x, features[m].shape[1]) for m, x in bundle.lengths.items()}
    save_bundle(dataclasses.replace(bundle, features=features, lengths=lengths), tmp_path / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
        patch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
        context = ebmc.context("smoke", {"mosei-frames": str(tmp_path / "mine")}, seeds=1)
        make_runs(context, tmp_path_factory)
        assert notebooks.execute(context) is None  # it draws everything
    made = Made(context, tmp_path / "figures")
    entries = made.entries()
    assert {name for name, e in entries.items() if e["status"] == "regenerated"} == {
        "table5",
        "rates",
        "fig8",
        "claims",
    }
    assert (
        "mosei-frames" not in entries["fig8"]["notes"][0]
        and "--data mosi-frames" in entries["fig7"]["notes"][0]
    )
    numbers = made.table("table5-numbers").query("n > 0")
    assert (
        set(numbers["row"]) == {*ROWS, *SYSTEMS, LINEAR.name}
        and set(numbers["setting"]) == {"average"}
        and "best" not in numbers
    )


def test_vectors_and_frames_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    both, vectors = ebmc.context("smoke"), ebmc.context("smoke", {"mosei": "twin:mosei@smoke"})
    assert rows.vectors(both) == ["mosi", "mosei", "iemocap"] and rows.frames(both) == list(TWINS)
    assert both.main == "mosi" and not any(regenerate.lacks(both, a) for a in ebmc.ARTIFACTS)
    mixed = ebmc.context(
        "smoke", {"mosi-frames": TWINS["mosi_frames"], "iemocap4": "twin:iemocap4@smoke"}
    )
    assert mixed.main == "iemocap" and not regenerate.lacks(
        mixed, regenerate.artifacts(mixed, ["table2"])[0]
    )
    assert {a.id for a in ebmc.ARTIFACTS if regenerate.lacks(vectors, a)} == {
        *DRAWN,
        "rates",
        "table2",
    }
    budget = budgets.reduced(both, rows.frames(both), frames_tables.STAGES)
    assert both.profile.reduced.count(budget) == 1 and "Figs 7 and 8" not in vectors.profile.reduced
    other = dataclasses.replace(both, profile=dataclasses.replace(both.profile, reduced="another"))
    assert frames_tables.reduced(other) == f"Table 5, Figs 7 and 8: {budget[0].lower()}{budget[1:]}"
    for artifact in ebmc.ARTIFACTS:
        known = (
            both.datasets
            if artifact.id == "claims"
            else (rows.frames(both) if artifact.id in {*DRAWN, "rates"} else rows.vectors(both))
        )
        assert {cell.spec.data for cell in artifact.cells(both)} <= {
            both.reference(d) for d in known
        }
    for role, reference in (("mosi", TWINS["mosi_frames"]), ("mosi-frames", "twin:mosi@smoke")):
        with pytest.raises(InputError, match=f"role {role}"):
            ebmc.context("smoke", {role: reference})


def test_the_most_frequent_answer_is_of_the_test_utterances_of_each_fold() -> None:
    """Three folds with 1, 2 and 3 positive scores of four: F1 of one answer for all, by hand, and their mean."""
    labels = np.array([1, -1, -1, -1, 1, 1, -1, -1, 1, 1, 1, -1], dtype=float)
    folds = np.repeat([0, 1, 2], 4)

    class Folded:
        def with_fold(self, number: int) -> SimpleNamespace:
            return SimpleNamespace(
                labels=labels, rows=lambda split: np.flatnonzero(folds == number)
            )

    context = SimpleNamespace(bundle=lambda name: Folded(), folds=lambda name: [0, 1, 2])
    # Of the answer of a share p the F1 is 2 p / (1 + p), weighted with p; of the other one 0.
    by_hand = [100 * p * 2 * p / (1 + p) for p in (3 / 4, 1 / 2, 3 / 4)]
    assert frames_tables.majority_f1(context, "mine") == pytest.approx(np.mean(by_hand))  # type: ignore[arg-type]
