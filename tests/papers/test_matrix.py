"""The matrix of laws: its masks, its two best predictions, and that no share can be above 100 %."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmlib import masks
from mmlib.data.bundle import Bundle
from mmlib.data.catalog import open_bundle, open_twin
from mmlib.experiments.baselines import LINEAR
from mmlib.experiments.comparison import best_possible
from mmlib.experiments.context import Context
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side import matrix
from mmlib.runs.execute import execute, mask_of, prepare
from mmlib.runs.expected import answers
from mmlib.runs.results import draw_seed
from mmlib.runs.spec import RunSpec, spec_from_json
from mmlib.runs.store import Store

NAMES = ("audio", "text", "vision")
RUN = (matrix.ZEROS, LINEAR.name)
TWIN = "twin:iemocap6@smoke"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """With the runs of two rows under two laws."""
    store = Store(tmp_path_factory.mktemp("runs"))
    made = side_by_side.context("smoke", store=store, seeds=1)
    laws = matrix.laws(NAMES)
    wanted = {
        cell.spec
        for cell in matrix.cells(made)
        if cell.row in RUN and cell.spec.train_mask in (laws["mcar"], laws["mnar_label"])
    }
    for spec in wanted:
        store.put(execute(spec))
    return made


def test_all_laws_have_the_same_rates_and_the_one_that_decides_is_always_there() -> None:
    bundle = open_twin(TWIN).bundle
    for law in matrix.laws(bundle.modalities).values():
        assert masks.nominal_rates(law, bundle.modalities) == {
            "audio": 0.5,
            "text": 0.5,
            "vision": 0,
        }
        mask = masks.draw(law, bundle, "test", 0)
        assert mask.utterance[:, 2].all()
        chances = masks.fitted(law, bundle).chances(bundle.rows("train"))
        assert chances.mean(axis=0) == pytest.approx([0.5, 0.5, 0], abs=1e-9), "solved on train"


@pytest.mark.parametrize("seed", [0, 1])
def test_who_knows_the_law_is_never_worse_and_gains_only_where_missingness_tells(seed: int) -> None:
    gained = {}
    for name, law in matrix.laws(NAMES).items():
        aware, blind = matrix.best("twin:iemocap6@quick", law, seed)
        assert aware >= blind - 1e-9
        gained[name] = aware - blind
    assert gained["mcar"] == pytest.approx(0, abs=1e-9) == gained["mar"]
    assert gained["mnar_label"] > gained["mnar_self"] > 1


def test_the_best_two_are_counted_by_hand() -> None:
    twin, law = open_twin(TWIN), matrix.laws(NAMES)["mnar_label"]
    mask = masks.draw(law, twin.bundle, "test", 3).utterance
    aware = twin.bayes("test", mask, law=masks.fitted(law, twin.bundle).missingness)
    blind = twin.bayes("test", mask)
    rows = range(len(aware))
    by_hand = [100 * np.mean([aware[i, of[i].argmax()] for i in rows]) for of in (aware, blind)]
    assert matrix.best(TWIN, law, 3) == pytest.approx(by_hand)


def test_a_run_of_a_mechanism_draws_the_laws_masks_in_every_split_and_survives_its_json() -> None:
    law = masks.mnar_self({"audio": 0.5, "text": 0.5, "vision": 0}, math.inf)
    spec = RunSpec(TWIN, 4, train_mask=law, eval_masks=(("test", law),))
    bundle = prepare(spec)
    for split in ("train", "valid", "test"):
        drawn = masks.draw(law, bundle, split, 4).fingerprint
        assert mask_of(spec, law, bundle, split).fingerprint == drawn
    again = spec_from_json(spec.to_json())
    assert again == spec and again.key(bundle.fingerprint) == spec.key(bundle.fingerprint)


def test_expected_accuracy_knows_the_law_that_the_mask_was_drawn_by(context: Context) -> None:
    law = matrix.laws(NAMES)["mnar_label"]
    cell = next(
        c
        for c in matrix.cells(context)
        if c.row == matrix.ZEROS and c.spec.train_mask == law and c.mask == "mnar_label"
    )
    record = context.record(cell.spec)
    assert record is not None
    twin = open_twin(TWIN)
    mask = masks.draw(law, twin.bundle, "test", cell.spec.seed).utterance
    aware = twin.bayes("test", mask, law=masks.fitted(law, twin.bundle).missingness)
    found = answers(cell.spec, law, cell.spec.seed)
    assert found == pytest.approx(aware) and found != pytest.approx(twin.bayes("test", mask))
    part = record["selected"]["valid"]
    if part["epochs"]["mnar_label"]["expected_accuracy"] == part["epoch"]["mnar_label"]:
        outputs = context.store.arrays(record.id)["predictions.valid.mnar_label"]
        chance = 100 * aware[np.arange(len(aware)), outputs.argmax(axis=1)].mean()
        assert part["metrics"]["mnar_label"]["expected_accuracy"] == pytest.approx(chance)


def test_shares_are_of_the_best_under_the_same_masks_and_none_is_above_all(
    context: Context,
) -> None:
    frame = matrix.shares(context, matrix.cells(context))
    assert set(frame["row"]) == set(RUN) and len(frame) == 2 * 2 * 4
    assert (frame[matrix.AWARE_SHARE] <= 100 + 1e-9).all() and (frame["value"] > 0).all()
    law = matrix.laws(NAMES)
    for line in frame.to_dict("records"):
        aware, blind = matrix.best(TWIN, law[line["setting"]], line["seed"])
        assert line[matrix.AWARE_SHARE] == pytest.approx(100 * line["value"] / aware)
        assert line[matrix.BLIND_SHARE] == pytest.approx(100 * line["value"] / blind)


def test_the_picture_has_a_line_for_each_row_and_law_and_one_for_the_blind(
    context: Context,
) -> None:
    output = matrix.draw(context, matrix.cells(context))
    assert output.figure is not None and output.rows_built == 2
    panels = [axis for axis in output.figure.axes if axis.get_title(loc="left")]
    assert [len(axis.get_xticklabels()) for axis in panels] == [4, 4]
    assert len(panels[0].get_yticklabels()) == 1 + 2 * 2
    assert panels[0].collections[0].get_clim() == panels[1].collections[0].get_clim()
    assert any("complete" in note and "bits" in note for note in output.notes)


def made_up(seeds: int) -> pd.DataFrame:
    """Shares in which indicators are worth 10 points where both laws are that of the label, else nothing."""
    r, lines = np.random.default_rng(0), []
    for row in (matrix.ZEROS, matrix.INDICATORS, matrix.DROPOUT):
        for training in matrix.laws(NAMES):
            for setting in matrix.laws(NAMES):
                blind = 80.0 if setting == "mnar_label" else 100.0
                for seed in range(seeds):
                    reads = row == matrix.INDICATORS and training == setting == "mnar_label"
                    share = 75 + 10 * reads + 0.2 * r.normal()
                    lines.append((row, training, setting, seed, share, 100.0, blind))
    columns = ["row", "training", "setting", "seed", "value", "aware", "blind"]
    frame = pd.DataFrame(lines, columns=columns)
    shares = {
        matrix.AWARE_SHARE: frame["value"],
        matrix.BLIND_SHARE: 100 * frame["value"] / frame["blind"],
    }
    return frame.assign(**shares)


def test_the_finding_names_the_law_whose_mask_says_most_and_counts_cells_beyond() -> None:
    frame = made_up(5)
    told = matrix.finding(frame)
    assert told.startswith("The mask says most under MNAR label") and "80.0 %" in told
    means = frame.groupby(["row", "training", "setting"])[matrix.BLIND_SHARE].mean()
    assert (means > 100).sum() == 1
    assert f"1 of {len(means)} cells" in told and "1 of them with one law" in told


def test_intervals_are_simultaneous_and_few_seeds_have_none() -> None:
    frame = made_up(6)
    (told,) = matrix._decided(frame)
    wide = frame.pivot_table(
        index="seed", columns=["row", "training", "setting"], values=matrix.AWARE_SHARE
    )
    both = ("mnar_label", "mnar_label")
    apart = wide[matrix.INDICATORS, *both] - wide[matrix.ZEROS, *both]
    half = scipy_stats.t.ppf(1 - 0.025 / 7, 5) * apart.std() / math.sqrt(6)
    ends = f"{apart.mean():+.2f} [{apart.mean() - half:.2f}, {apart.mean() + half:.2f}] better"
    assert f"indicators minus none, both laws MNAR label: {ends}" in told
    assert matrix._decided(made_up(4)) == ()


@pytest.mark.parametrize(("profile", "plain", "methods"), [("quick", 1, 1), ("laptop", 10, 5)])
def test_at_laptop_methods_have_as_many_seeds_as_an_interval_needs_and_others_ten(
    profile: str, plain: int, methods: int
) -> None:
    context = side_by_side.context(profile)
    seeds: dict[str, set[int]] = {}
    for cell in matrix.cells(context):
        seeds.setdefault(cell.row, set()).add(cell.spec.seed)
    cheap = (matrix.ZEROS, matrix.INDICATORS, matrix.DROPOUT, LINEAR.name)
    assert {row: len(of) for row, of in seeds.items()} == {
        row: plain if row in cheap else methods for row in seeds
    }
    assert not matrix.lacks(context)
    asked = side_by_side.context("quick", seeds=7)
    assert {cell.spec.seed for cell in matrix.cells(asked) if cell.row == "EBMC"} == set(range(7))


def test_on_votes_a_law_of_the_raters_agreement_is_added(votes: Context) -> None:
    assert not matrix.lacks(votes)
    assert {name for name, _ in matrix.cells(votes)[0].spec.eval_masks} == set(matrix.CALLED)
    bundle = votes.bundle("crema-d")
    law = matrix.laws(bundle.modalities, quality=True)["mnar_quality"]
    mask = masks.draw(law, bundle, "test", 0)
    agreement = bundle.features["audio"][bundle.rows("test"), : len(bundle.task.names)].max(axis=1)
    kept = mask.utterance[:, bundle.modalities.index("audio")]
    assert agreement[kept].mean() > agreement[~kept].mean() + 0.1, "what is lost was disputed"
    assert mask.utterance[:, bundle.modalities.index("vision")].all()


def test_on_real_data_without_a_quality_there_is_no_matrix() -> None:
    real = dataclasses.replace(
        side_by_side.context("smoke", {"crema-d": "crema-d-votes"}), data={"crema-d": "nobody"}
    )
    lost = dataclasses.replace(votes_bundle(), name="others")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmlib.experiments.context.open_bundle", lambda reference: lost)
        assert matrix.cells(real) == [] and "quality" not in matrix.lacks(real)
        assert "how good each modality is" in matrix.lacks(real)


def votes_bundle() -> Bundle:
    return open_bundle("crema-d-votes")


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """With the linear model's runs under all laws."""
    store = Store(tmp_path_factory.mktemp("votes"))
    made = side_by_side.context("smoke", {"crema-d": "crema-d-votes"}, store=store)
    for spec in {cell.spec for cell in matrix.cells(made) if cell.row == LINEAR.name}:
        store.put(execute(spec))
    return made


def test_without_a_best_possible_the_matrix_is_of_weighted_f1(votes: Context) -> None:
    frame = matrix.reached(votes, matrix.cells(votes))
    assert len(frame) == 5 * 5 and matrix.measure(frame) == "weighted F1 (%)"
    line = frame.iloc[7]
    cell = next(
        c
        for c in matrix.cells(votes)
        if c.row == LINEAR.name
        and c.spec.seed == line["seed"]
        and c.spec.train_mask
        == matrix.laws(("audio", "vision"), quality=True)[str(line["training"])]
    )
    record = votes.record(cell.spec)
    assert record is not None
    metrics = record["selected"]["valid"]["metrics"][line["setting"]]
    assert line["value"] == pytest.approx(metrics["weighted_f1"])
    output = matrix.draw(votes, matrix.cells(votes))
    assert output.figure is not None
    panels = [axis for axis in output.figure.axes if axis.get_title(loc="left")]
    assert [len(axis.get_xticklabels()) for axis in panels] == [5]
    assert any("raters who agree" in note for note in output.notes)
    assert not any("GMM-loss takes two modalities" in note for note in output.notes)


def test_networks_of_the_matrix_have_one_size_and_one_schedule(context: Context) -> None:
    of = {cell.row: cell.spec for cell in matrix.cells(context)}
    three = [of[name] for name in (matrix.ZEROS, matrix.INDICATORS, matrix.DROPOUT)]
    assert len({spec.backbone_options for spec in three}) == 1
    assert len({spec.training for spec in three}) == 1
    assert [spec.method for spec in three] == ["plain", "plain", "modality_dropout"]


def test_results_over_several_draws_are_held_to_the_best_of_the_same_draws(
    context: Context,
) -> None:
    cell = next(c for c in matrix.cells(context) if c.row == LINEAR.name)
    spec = dataclasses.replace(cell.spec, draws=3)
    laws = matrix.laws(NAMES)
    each = [matrix.best(TWIN, laws["mnar_self"], draw_seed(spec, number)) for number in range(3)]
    assert len(set(each)) == 3
    assert matrix._bests(spec, "mnar_self") == pytest.approx(np.mean(each, axis=0))
    metrics = execute(spec).record["selected"]["valid"]["metrics"]
    for name in laws:
        assert metrics[name]["expected_accuracy"] <= matrix._bests(spec, name)[0] + 1e-9


def test_the_best_possible_of_tables_knows_the_law_too(context: Context) -> None:
    cells = [c for c in matrix.cells(context) if c.row == LINEAR.name][:4]
    found = best_possible(cells, ("accuracy",))
    assert found is not None
    bound = found.set_index("setting")["value"]
    twin = open_twin(TWIN)
    truth = twin.bundle.labels[twin.bundle.rows("test")]
    for name, law in matrix.laws(NAMES).items():
        mask = masks.draw(law, twin.bundle, "test", cells[0].spec.seed).utterance
        aware = twin.bayes("test", mask, law=masks.fitted(law, twin.bundle).missingness)
        assert bound[name] == pytest.approx(100 * (aware.argmax(axis=1) == truth).mean())
