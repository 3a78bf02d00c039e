"""MCULoRA's artifacts: what they say, computed again from the stored runs, and which of these look at test."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shared_runs import at_another_epoch, make_runs

from mmlib.data import posterior
from mmlib.data.catalog import open_twin
from mmlib.experiments import cases
from mmlib.experiments import claims as judged
from mmlib.experiments.context import Context
from mmlib.experiments.published import published
from mmlib.experiments.rows import Row, runs_of
from mmlib.experiments.systems import PRINTED_AS, SYSTEMS
from mmlib.fit import _Whole
from mmlib.methods.mculora import VARIANTS
from mmlib.methods.plain import Peek
from mmlib.papers import mculora
from mmlib.papers.catalog import PAPERS
from mmlib.papers.mculora import claims, figures, rows
from mmlib.pipeline import regenerate
from mmlib.report.artifact import read_all
from mmlib.runs.execute import build, prepare
from mmlib.runs.spec import RunSpec

pytestmark = pytest.mark.slow

SEVEN = [
    "audio",
    "text",
    "vision",
    "audio+vision",
    "audio+text",
    "text+vision",
    "audio+text+vision",
]
SIX, COUNTED = (
    SEVEN[:6],
    [SEVEN[i] for i in (2, 1, 5, 0, 3, 4, 6)],
)  # counted: read as binary numbers, 001 to 111
SHORT = {c: "{" + ", ".join(m[0] for m in c.split("+")) + "}" for c in SEVEN}
OF_SIX, OF_SEVEN = "average of the missing conditions", "average of all conditions"
TWINS = {"CMU-MOSEI twin": "twin:mosei@smoke", "IEMOCAP twin": "twin:iemocap4@smoke"}
OF_SYSTEMS = {stage.backbone for system in SYSTEMS for stage in system.stages}
OTHERS = {
    "MCTN": "mctn paper mctn",
    "EUAR": "euar paper euar",
    "MMIN": "mmin paper mmin",
    "IF-MMIN": "if_mmin paper if_mmin",
    "MRAN-style": "mran style mran",
    "DiCMoR": "dicmor paper dicmor",
    "IMDer": "imder paper imder",
}
KINDS = {
    "MCULoRA": "mculora paper crossmodal",
    "w/o DPFT": "mculora fixed crossmodal",
    "MoMKE": "plain paper momke",
    "GCNet": "plain paper gcnet",
    "w/o MCLA": "mculora no_mcla crossmodal",
    "joint training": "mculora neither crossmodal",
    "w/o MCLA, w/o DPFT": "mculora neither crossmodal",
    "pre-training alone": "plain paper crossmodal",
    "linear model": "linear paper linear",
    "LEAKS test inputs (Eq. 9 as printed)": "mculora leaking_test_inputs crossmodal",
    "LEAKS test labels (released rule, G1)": "mculora leaking_test_accuracy crossmodal",
}
Made = tuple[Context, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A smoke context whose runs are all done and drawn, in a folder of its own."""
    folder = tmp_path_factory.mktemp("mculora")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMLIB_RUNS", str(folder / "runs"))
        patch.setenv("MMLIB_FIGURES", str(folder / "figures"))
        context = mculora.context("smoke")
        make_runs(context, tmp_path_factory)
        for artifact in regenerate.artifacts(context):
            regenerate.draw(context, artifact.id)
        regenerate.finish(context)
    return context, folder / "figures"


def table(made: Made, name: str) -> pd.DataFrame:
    return pd.read_csv(made[1] / "twins" / "mculora" / f"{name}.csv")


def entries(made: Made) -> dict[str, dict[str, Any]]:
    return {e["id"]: e for e in read_all(made[1])}


def specs(context: Context, dataset: str, row: Row) -> list[RunSpec]:
    """A row's runs, one for each seed and fold."""
    return runs_of(rows.cells(context, dataset, [row]), row.name)


def values(
    made: Made, row: str, twin: str = "CMU-MOSEI twin", metric: str = "accuracy"
) -> pd.DataFrame:
    """From records.csv: seeds by test mask, the mean over folds."""
    columns = ["data", "method", "variant", "backbone", "metric", "train_mask", "selection"]
    wanted = [TWINS[twin], *(KINDS | OTHERS)[row].split(), metric, "patterns", "valid"]
    found = table(made, "records").query("options.isna() or options == 'high=1.2, low=0.8'")
    return (
        found[(found[columns] == wanted).all(axis=1)]
        .groupby(["seed", "mask"])["value"]
        .mean()
        .unstack()
    )


def test_what_trains_the_network_has_its_learning_rate_and_what_trains_adapters_theirs() -> None:
    """At the adapters' rate the whole network forgets its pre-training, and MCLA would seem needed for that alone."""
    context = PAPERS["mculora"].context("laptop", {"mosei": "twin:mosei@study"})
    chosen = [*rows.ABLATION, *rows.DEPARTURES, *rows.alone_rows(context, "neither")]
    specs = [cell.spec for cell in rows.cells(context, "mosei", chosen)]
    networks = {name for name, c in VARIANTS.items() if not (c.mcla and c.freeze)}
    assert networks == set(rows.WHOLE_NETWORK)
    rates: dict[bool, set[tuple[float, float]]] = {True: set(), False: set()}
    for spec in specs:
        assert spec.parent is not None
        rates[spec.variant in networks].add((spec.parent.training.lr, spec.training.lr))
    (of_network,) = rates[True]
    (of_adapters,) = rates[False]
    assert of_network[0] == of_network[1] == of_adapters[0]
    assert of_adapters[1] != of_adapters[0], "the recipes no longer differ: choose other data"


def test_every_artifact_has_the_files_of_its_kind_and_the_papers_rows(made: Made) -> None:
    endings, found = (
        {"table": {".csv", ".md", ".tex"}, "figure": {".png", ".csv"}},
        entries(made),
    )
    assert set(found) == {a.id for a in mculora.ARTIFACTS if not a.on_request}
    assert found.pop("two-modalities")["status"] == "needs data", "a smoke run has twins alone"
    for name, entry in found.items():
        sizes = {
            Path(f).name.removeprefix(name): (made[1].parent / f).stat().st_size
            for f in entry["files"]
        }
        assert (
            entry["status"] == "regenerated"
            and endings[entry["kind"]] <= set(sizes)
            and all(sizes.values())
        )
        printed = name in ("table1", "table2")
        names = set(published("mculora", name)["row"].replace(PRINTED_AS)) if printed else set()
        assert not names or [entry[k] for k in ("rows_in_paper", "rows_built")] == [
            len(names),
            len(names & set(KINDS | OTHERS)),
        ]


@pytest.mark.parametrize(
    ("name", "count", "groups"),
    [
        ("table1", 4, 6),  # of one seed, and of five folds
        ("random", 4, 6),
        ("table2", 4, 6),
        ("main", 2, 2),  # of two seeds
        ("leak", 5, 1),
        ("departures", 8, 1),
    ],
)
def test_rows_share_budget_masks_and_but_for_momke_a_parent(
    made: Made, name: str, count: int, groups: int
) -> None:
    places: dict[tuple[Any, ...], list[Any]] = {}
    (artifact,) = regenerate.artifacts(made[0], [name])
    for spec in dict.fromkeys(cell.spec for cell in artifact.cells(made[0])):
        found = made[0].record(spec)
        assert found is not None
        places.setdefault((spec.data, spec.seed, spec.fold), []).append(found)
    drawn = [{json.dumps(r["masks"], sort_keys=True) for r in place} for place in places.values()]
    assert len(drawn) == groups == len(set.union(*drawn)) and {len(group) for group in drawn} == {1}
    for place in places.values():
        of_others = [r.spec for r in place if r.spec.backbone == "gcnet"]
        runs = [r.spec for r in place if r.spec.backbone not in ("gcnet", "linear", *OF_SYSTEMS)]
        parents = [spec.parent for spec in runs if spec.parent]
        shared = {s.parent for s in runs if s.method == "mculora"}
        assert (
            len({s.training for s in (*runs, *parents)})
            == 1
            == len({s.train_mask for s in runs})
            == len(shared)
        )
        assert len(runs) == count and {s for s in runs if s.parent is None} <= shared != {None}
        assert all(p in shared or p.backbone == "momke" for p in parents)
        # GCNet has no stage before, and is trained as long as both stages of the others.
        assert len(of_others) == (name == "table1" and "mosei" in runs[0].data)
        for spec in of_others:
            assert (spec.parent, spec.train_mask) == (None, runs[0].train_mask)
            assert spec.training.epochs == 2 * runs[0].training.epochs


# In Table 1: the linear model, other systems, and on MOSEI GCNet.
BESIDE = {"CMU-MOSEI twin": 1 + 5 + 1, "IEMOCAP twin": 1 + 4}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", ["table1", "table2"])
def test_averages_are_over_six_and_over_seven_conditions(made: Made, name: str, twin: str) -> None:
    frame = table(made, f"{name}-numbers").query("n > 0 and setting.str.startswith(@twin)")
    means = frame.pivot(index=["row", "metric"], columns="setting", values="mean").rename(
        columns=lambda setting: setting.removeprefix(f"{twin} ")
    )
    assert (
        rows.conditions(made[0], "mosei") == SEVEN
        and set(means) == {*SEVEN, OF_SIX, OF_SEVEN}
        and len(means) == 2 * (4 + BESIDE[twin] * (name == "table1"))
    )
    np.testing.assert_allclose(means[OF_SIX], means[SIX].mean(axis=1))
    np.testing.assert_allclose(means[OF_SEVEN], means[SEVEN].mean(axis=1))
    for line in frame[frame["setting"].str.endswith(OF_SEVEN)].itertuples():
        found = values(made, str(line.row), twin, str(line.metric)).loc[[0], SEVEN]
        np.testing.assert_allclose(means[SEVEN].T[line.row, line.metric], found.mean())
        assert line.n == 1 and np.isnan(line.sd)  # five folds are one value


def test_the_main_comparison_has_the_mean_and_the_spread_of_two_seeds(made: Made) -> None:
    frame = table(made, "main-numbers").query("n > 0").set_index(["row", "metric", "setting"])
    for row, metric in itertools.product(
        ("MCULoRA", "joint training"), ("accuracy", "weighted_f1")
    ):
        found = values(made, row, metric=metric)
        assert list(found.index) == [0, 1]
        of = {OF_SIX: found[SIX].mean(axis=1), "all modalities": found[SEVEN[-1]]}
        for setting, each in of.items():
            line = frame.loc[row, metric, setting]
            assert [line["n"], line["mean"], line["sd"]] == pytest.approx(
                [2, each.mean(), each.std()]
            )


def test_a_printed_average_over_seven_stands_as_such_and_all_others_at_the_six(made: Made) -> None:
    lines = published("mculora", "table1").replace(
        {"mosei": "CMU-MOSEI twin", "iemocap": "IEMOCAP twin", **PRINTED_AS}
    )
    lines = lines[~lines["metric"].str.startswith("delta")]
    printed = lines.pivot(index=["row", "metric", "dataset"], columns="setting", values="value")
    of_seven = (printed["average"] - printed[SEVEN].mean(axis=1, skipna=False)).abs() < 0.05  # F16
    expected = {
        (*key[:2], f"{key[2]} {OF_SEVEN if of_seven[key] else OF_SIX}")
        for key in of_seven.index.to_list()
    }
    frame = table(made, "table1-numbers").query("in_paper and setting.str.contains('average')")
    assert set(frame[["row", "metric", "setting"]].itertuples(index=False, name=None)) == expected


def looked_at(spec: RunSpec) -> set[str]:
    """The whole splits that a run's method asks for before its first epoch, were it free to."""
    whole = _Whole(bundle := prepare(spec), True, torch.device("cpu"))
    build(spec, bundle).start_epoch(Peek(0, 2, list, list, list, lambda *_: None, whole))
    return set(whole.batches)


def test_rows_that_look_at_test_say_so_and_are_in_no_comparison_of_the_papers(made: Made) -> None:
    ranks, alone = rows.rank_rows(made[0]).values(), rows.alone_rows(made[0], "fixed")
    papers = [*claims.COMPARED, *ranks, *rows.PROBED, *alone]
    every = dict.fromkeys([*papers, *rows.LEAK, *rows.DEPARTURES])
    seen = {row: looked_at(specs(made[0], "mosei", row)[0]) for row in every}
    leaking = {row for row, splits in seen.items() if "test" in splits}
    assert leaking == {row for row in every if row.name.startswith("LEAKS")} and not leaking & set(
        papers
    )
    assert [row.name for row, splits in seen.items() if "valid" in splits] == ["DPFT on validation"]
    found, names = table(made, "records"), {row.name for row in leaking}
    for name, count in (
        ("table1", 0),
        ("random", 0),
        ("table2", 0),
        ("leak", 2),
        ("departures", 2),
    ):
        variants = set(found[found["run_id"].isin(entries(made)[name]["run_ids"])]["variant"])
        assert (
            sum(v.startswith("leaking") for v in variants)
            == count
            == len(names & set(table(made, name)["method"]))
        )


def test_each_fold_is_tested_on_its_own_session_and_cases_have_every_utterance_once(
    made: Made,
) -> None:
    context = dataclasses.replace(made[0], data={"iemocap4": TWINS["IEMOCAP twin"]})
    bundle, frame = (
        context.bundle("iemocap"),
        figures.cases(context, figures.case_cells(context)).numbers,
    )
    assert (
        bundle.fold is not None
        and frame is not None
        and sorted(frame["utterance"]) == sorted(bundle.ids)
    )
    session = frame["utterance"].map(dict(zip(bundle.ids, bundle.fold, strict=True)))
    for k, spec in enumerate(specs(context, "iemocap", rows.OURS)):
        found, part = context.store.get(spec.run_id(bundle.fingerprint)), frame[session == k]
        assert found is not None and spec.fold == k
        metrics = found["selected"]["valid"]["metrics"]
        truth = bundle.labels[sorted(np.flatnonzero(bundle.fold == k), key=lambda i: bundle.ids[i])]
        for name in SEVEN:
            guess = context.store.arrays(found.id)[f"predictions.valid.{name}"].argmax(axis=1)
            elsewhere = at_another_epoch(found, name, "accuracy")
            expected = 100 * np.mean(guess == truth) if elsewhere is None else elsewhere
            assert metrics[name]["accuracy"] == pytest.approx(expected)
        guess = context.store.arrays(found.id)["predictions.valid.random"].argmax(axis=1)
        assert part["MCULoRA right"].mean() == pytest.approx(np.mean(guess == truth))
        for rate in (r for r in found["rates"] if r["mask"] == "random"):
            assert part["missing"].str.contains(rate["modality"]).mean() == pytest.approx(
                rate["realised"]
            )


def test_the_best_possible_is_the_mean_over_sessions_of_what_the_whole_datas_posterior_gets_right(
    made: Made,
) -> None:
    twin, best = open_twin(TWINS["IEMOCAP twin"]), pd.Series(dtype=float)
    b, role, latents = (
        twin.bundle,
        twin.role,
        np.stack([twin.latents[m] for m in SEVEN[:3]], axis=1),
    )
    for name in SEVEN:
        observed = np.tile([m in name.split("+") for m in SEVEN[:3]], (len(b), 1))
        like = posterior.log_likelihood(latents, observed, role.means, role.covariance)
        mass = posterior.smooth(
            like, b.dialogue * 2 + b.speaker, b.position, np.array(role.prior), role.transition
        )
        best[name] = np.mean(
            [100 * np.mean((mass.argmax(axis=1) == b.labels)[b.fold == k]) for k in range(5)]
        )
    best[OF_SIX], best[OF_SEVEN] = best[SIX].mean(), best[SEVEN].mean()
    frame = table(made, "table1-numbers").query(
        "metric == 'accuracy' and setting.str.startswith('IEMOCAP')"
    )
    np.testing.assert_allclose(
        frame["best"], best[frame["setting"].str.removeprefix("IEMOCAP twin ")]
    )
    assert (
        frame["share"].notna().sum() == (4 + BESIDE["IEMOCAP twin"]) * 9
        and not frame["approximate"].any()
    )
    np.testing.assert_allclose(frame["share"], 100 * frame["mean"] / frame["best"])


def test_cases_are_counted_as_the_stored_predictions_say(made: Made) -> None:
    bundle, right = made[0].bundle("mosei"), {}
    truth = bundle.labels[bundle.rows("test")]
    for row in (rows.OURS, rows.MOMKE):
        found = made[0].store.arrays(specs(made[0], "mosei", row)[0].run_id(bundle.fingerprint))
        right[row.name] = ((found["predictions.valid.random"][:, 0] > 0) == (truth > 0))[truth != 0]
        run = made[0].store.get(specs(made[0], "mosei", row)[0].run_id(bundle.fingerprint))
        assert run is not None
        if at_another_epoch(run, "random", "accuracy") is None:
            assert 100 * right[row.name].mean() == pytest.approx(
                values(made, row.name).loc[0, "random"]
            )
    ours, theirs, numbers = right["MCULoRA"], right["MoMKE"], table(made, "fig5-numbers")
    assert (
        f"of {len(ours)} test utterances MCULoRA corrects {(ours & ~theirs).sum()} of MoMKE's errors and makes "
        f"{(theirs & ~ours).sum()} of its own"
    ) in " ".join(entries(made)["fig5"]["notes"])
    gains = numbers[ours & ~theirs].sort_values("gain", ascending=False)
    assert list(table(made, "fig5")["utterance"]) == list(gains["utterance"][: cases.CASES]) != []


def test_shares_sum_to_one_stay_in_their_range_and_are_named_after_their_combinations(
    made: Made,
) -> None:
    found: dict[str, list[np.ndarray]] = {}
    for r in made[0].store.records():
        told = r["curves"].get("found", {})
        assert ("shares" in told) == (
            r.spec.method == "mculora" and r.spec.variant not in ("fixed", "neither")
        )
        if "shares" in told:
            np.testing.assert_allclose(np.sum(told["shares"], axis=1), 1)
            if r.spec.data == TWINS["CMU-MOSEI twin"] and len(r.spec.options) == 2:
                found.setdefault(r.spec.variant, []).append(100 * np.array(told["shares"]))
        if (
            r.spec.variant == "leaking_test_accuracy"
        ):  # measured before epoch 2, as tested after epoch 1
            assert told["measured"][1] == pytest.approx(
                [r["curves"]["test"][c]["accuracy"][0] / 100 for c in COUNTED]
            )
    assert 80 / 7 - 1e-9 <= np.min(found["paper"]) < np.max(found["paper"]) <= 120 / 7 + 1e-9  # F13
    # Of the paper's rule the main comparison has a second seed.
    assert [len(found[v]) for v in ("paper", "first_release", "leaking_test_accuracy")] == [2, 1, 1]
    context = dataclasses.replace(made[0], seed_count=2)
    (artifact,) = regenerate.artifacts(context, ["shares"])
    drawn = artifact.draw(context, artifact.cells(context)).table
    assert drawn is not None
    frame = drawn.set_index("rule").astype(float)
    for rule, variant in zip(
        frame.index, ("paper", "first_release", "leaking_test_accuracy"), strict=True
    ):
        every = np.concatenate(found[variant])
        expected = pd.Series(every.mean(axis=0), [SHORT[c] for c in COUNTED])
        expected["largest move from equal"] = np.abs(every - 100 / 7).max()
        assert str(rule).startswith("LEAKS") == variant.startswith("leaking")
        assert list(frame[expected.index].loc[rule]) == pytest.approx(list(expected), abs=0.0501)


def test_verdicts_follow_from_the_values_and_numbers_are_unique(made: Made) -> None:
    noise, laws = (
        np.random.default_rng(0).normal(size=20),
        ((0, 3), (0, 0.1), (0, 0), (3, 0), (3, 1), (-3, 1)),
    )
    planted = [
        judged.Measured("", "", "", "", "", unit, mean + sd * noise)
        for unit in ("points of accuracy", "cosine")
        for mean, sd in laws
    ]
    known = judged.table(made[0], planted, "points of accuracy", (), ()).numbers
    assert known is not None
    # Twenty seeds: a mean of 3 with sd 1 is far from 0, 0.1 lies within the margin of points, a unit without one has
    # none; equal values decide where they are not 0.
    points = ["undecided", "no difference that matters", "no difference that matters"]
    far = ["supported", "supported", "contradicted"]
    cosine = ["undecided", "undecided", "no difference that matters"]
    assert list(known["verdict"]) == [*points, *far, *cosine, *far]
    stored = table(made, "claims-numbers")
    words = ["too few seeds" if seeds else "not run" for seeds in stored["seeds"]]
    assert list(stored["verdict"]) == words and stored["seeds"].max() < 5
    assert (
        list(table(made, "claims")["no"]) == list(stored["no"]) == list(range(1, len(stored) + 1))
    )


def test_claims_compare_the_stored_runs_seed_by_seed(made: Made) -> None:
    v = {row: values(made, row, metric="expected_accuracy")[SEVEN] for row in KINDS}
    gain, ours, weak = v["MCULoRA"] - v["MoMKE"], v["MCULoRA"], ["audio", "vision", "audio+vision"]
    expected = (
        {f"better under {SHORT[c]}": gain[c] for c in SEVEN}
        | {
            f"(ours) {row}: using test data pays": (v[row] - ours).mean(axis=1)
            for row in v
            if "LEAKS" in row
        }
        | {"weak combinations gain most": 2 * (gain[weak].mean(axis=1) - gain[SIX].mean(axis=1))}
    )  # three of six
    by_test = {f"MCULoRA minus {row}": (ours - v[row]).mean(axis=1) for row in v} | {
        "w/o MCLA minus w/o DPFT": (v["w/o MCLA"] - v["w/o DPFT"]).mean(axis=1)
    }
    for row in ("MoMKE", "joint training"):
        compared = (row, "MCULoRA")
        other, mine = (values(made, r, metric="expected_accuracy")["random"] for r in compared)
        by_test[f"MCULoRA minus {row}, random missing"] = mine - other
        other, mine = (values(made, r, metric="weighted_f1")[SEVEN] for r in compared)
        by_test[f"MCULoRA minus {row}, weighted F1"] = (mine - other).mean(axis=1)
    frame = (
        table(made, "claims-numbers")
        .rename(columns={"test (above 0 supports)": "test"})
        .query("data == 'CMU-MOSEI twin'")
    )
    rest = frame[frame["claim"].isin(expected) | frame["test"].isin(by_test)]
    assert len(rest) == 19 and set(expected) <= set(rest["claim"])
    # Primary claims have the seeds of the main comparison, where both of their rows are in it.
    assert list(rest[rest["seeds"] == 2]["test"]) == ["MCULoRA minus joint training"]
    for line in rest.to_dict("records"):
        found = expected[line["claim"]] if line["claim"] in expected else by_test[line["test"]]
        value = found.dropna()[: line["seeds"]]
        assert len(value) == line["seeds"]
        assert line["difference"] == pytest.approx(value.mean(), abs=1e-6)
