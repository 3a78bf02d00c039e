"""A comparison on a small twin: what takes part, what its numbers are, when it stops, and what the page says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score

from mmlib.cli import main
from mmlib.compare import command, facts, failed, page, picture, results
from mmlib.compare.plan import MAJORITY, Plan, planned
from mmlib.data.catalog import open_bundle
from mmlib.errors import InputError
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.runs.store import Store

TWIN = "twin:iemocap6@smoke"
RATES = {"audio": 0.5, "text": 0.1, "vision": 0.3}


def plan_on(store: Store, rates: dict[str, float] | None = None) -> Plan:
    context = side_by_side.context("smoke", {"iemocap6": TWIN}, store=store, rates=rates)
    return planned(context, Ground("iemocap"))


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> results.Results:
    """The linear model and a network after two looks, of two and three seeds."""
    plan = plan_on(Store(tmp_path_factory.mktemp("runs")))
    few = tuple(c for c in plan.contenders if c.row.name in ("linear model", "concatenation"))
    return command.spend(dataclasses.replace(plan, contenders=few, looks=(2, 3)), None, 1)


def test_every_method_and_network_that_takes_vectors_and_classes_takes_part(tmp_path: Path) -> None:
    plan = plan_on(Store(tmp_path), RATES)
    assert {c.row.name for c in plan.contenders} == {
        "linear model",
        "MMGCN",
        "BALM on MMGCN",
        "DREAM's network",
        "DREAM",
        "EBMC's network",
        "EBMC",
        "MCULoRA's network",
        "MCULoRA",
        "GCNet",
        "MM-DFN",
        "concatenation",
        "CorrKD's network",
    }
    assert {c.training for c in plan.contenders} == {"complete", "mixed combinations", "own rates"}
    assert [len(q.tests) for q in plan.questions] == [1, 3, 3, 2, 1]


def test_contenders_are_tested_on_the_same_masks_and_paired_by_seed(tmp_path: Path) -> None:
    plan = plan_on(Store(tmp_path))
    specs = [plan.specs(c, [0, 1]) for c in plan.contenders]
    assert {tuple(s.seed for s in of_one) for of_one in specs} == {(0, 1)}
    assert {s.eval_masks for of_one in specs for s in of_one} == {plan.tests}


def test_values_are_those_of_stored_predictions(spent: results.Results) -> None:
    bundle = spent.plan.bundle
    truth = bundle.labels[bundle.rows("test")]
    for name, specs in spent.specs.items():
        arrays = spent.plan.context.store.arrays(specs[1].run_id(bundle.fingerprint))
        guess = arrays["predictions.valid.text alone"].argmax(axis=1)
        frame = spent.values
        of_run = frame[(frame["contender"] == name) & (frame["seed"] == 1)]
        (value,) = of_run[of_run["condition"] == "text alone"]["value"]
        assert value == pytest.approx(100 * f1_score(truth, guess, average="weighted"))


def test_the_majority_stands_below_the_axes_and_over_no_point(spent: results.Results) -> None:
    for axis in picture.draw(spent).axes:
        assert not axis.texts
        assert axis.get_xlabel().splitlines()[1].startswith("majority: ")


def test_the_majority_is_what_a_constant_answer_reaches(spent: results.Results) -> None:
    bundle = spent.plan.bundle
    truth = bundle.labels[bundle.rows("test")]
    dummy = DummyClassifier().fit(
        np.zeros((len(bundle.rows("train")), 1)), bundle.labels[bundle.rows("train")]
    )
    expected = 100 * f1_score(truth, dummy.predict(np.zeros((len(truth), 1))), average="weighted")
    for question in spent.plan.questions:
        assert spent.of(question)[MAJORITY].to_numpy() == pytest.approx(expected)


def test_a_question_averages_its_conditions(spent: results.Results) -> None:
    question = spent.plan.questions[2]
    frame = spent.values
    named = frame[frame["condition"].isin(["audio alone", "text alone", "vision alone"])]
    expected = named.groupby(["contender", "seed"])["value"].mean()
    table = spent.of(question)
    for (name, seed), value in expected.items():
        assert table.loc[seed, name] == pytest.approx(value)


def test_clusters_give_the_difference_in_accuracy(spent: results.Results) -> None:
    question = spent.plan.questions[0]
    first, *_, second = spent.specs
    bundle = spent.plan.bundle
    truth = bundle.labels[bundle.rows("test")]
    count = min(len(spent.specs[first]), len(spent.specs[second]))
    shares = []
    for name in (first, second):
        ids = [s.run_id(bundle.fingerprint) for s in spent.specs[name][:count]]
        arrays = [
            spent.plan.context.store.arrays(i)["predictions.valid.all modalities"] for i in ids
        ]
        shares.append(np.mean([100 * np.mean(a.argmax(axis=1) == truth) for a in arrays]))
    made = results.over_clusters(spent, question, first, second)
    assert made is not None
    kind, interval = made
    assert kind == "dialogues" and interval.clusters == len(
        np.unique(bundle.dialogue[bundle.rows("test")])
    )
    assert interval.difference == pytest.approx(shares[0] - shares[1], abs=1e-4)
    assert interval.low <= interval.difference <= interval.high


def test_a_finished_comparison_makes_no_run_again(spent: results.Results) -> None:
    ids = spent.plan.context.store.ids()
    again = command.spend(spent.plan, None, 1)
    assert spent.plan.context.store.ids() == ids
    pd.testing.assert_frame_equal(again.values, spent.values)


def test_who_is_out_everywhere_gets_no_more_seeds(spent: results.Results) -> None:
    values = spent.values.copy()
    (worst,) = [c for c in spent.plan.contenders if c.name == "concatenation, complete"]
    values.loc[values["contender"] == worst.name, "value"] = (
        np.arange(len(values[values["contender"] == worst.name])) % 7 * 1e-3
    )
    changed = dataclasses.replace(spent, values=values)
    assert worst not in changed.still_in and worst not in changed.waiting
    assert all(worst.name in s.out for s in changed.standings.values())


def test_the_page_is_whole_and_answers_every_question(
    spent: results.Results, tmp_path: Path
) -> None:
    page.write_report(spent, tmp_path, facts.Notes("mmlib compare mine --minutes 5"))
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "mmlib compare mine --minutes 5" in html
    text = (tmp_path / "compare.md").read_text(encoding="utf-8")
    for question in spent.plan.questions:
        assert page.sentence(spent, question) in text
    for specs in spent.specs.values():
        run_id = specs[0].run_id(spent.plan.bundle.fingerprint)
        assert run_id in html and run_id in text
    numbers = pd.read_csv(tmp_path / "numbers.csv")
    assert len(numbers) == len(spent.values)


def without(made: results.Results, name: str, seeds: int) -> results.Results:
    """The results with a contender that has only so many seeds."""
    values = made.values
    there = (values["contender"] != name) | (values["seed"] < seeds)
    folds = len(made.plan.context.folds(made.plan.ground.dataset))
    specs = {**made.specs, name: made.specs[name][: seeds * folds]}
    return dataclasses.replace(made, values=values[there], specs=specs)


def test_who_has_no_seed_is_named_in_a_sentence_and_stands_in_no_table(
    spent: results.Results, tmp_path: Path
) -> None:
    name = "concatenation, complete"
    made = without(spent, name, 0)
    page.write_report(made, tmp_path, facts.Notes("again"))
    text = (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert re.search(r"\bnan\b", text, re.IGNORECASE) is None
    tables = {part.title: part.table for part in page.sections(made)}
    assert name not in "".join(part.to_csv() for part in tables.values())
    assert f"minutes ended before the first seed: {name}." in text


def test_before_the_first_look_nobody_is_marked_in_table_or_picture(
    spent: results.Results,
) -> None:
    made = spent
    for name in spent.specs:
        made = without(made, name, 1)
    table = page.contenders_table(made).set_index("contender").drop(index=MAJORITY)
    assert "*" not in table.to_csv()
    assert "*" in page.contenders_table(spent).to_csv()
    means = [line for line in picture.draw(made).axes[0].lines if line.get_markersize() == 4]
    assert len(means) == len(made.specs)
    assert all(line.get_markerfacecolor() == "white" for line in means)


def test_the_text_says_of_whom_the_tables_are(spent: results.Results) -> None:
    def texts(made: results.Results) -> dict[str, str]:
        return {part.title: part.text for part in page.sections(made)}

    starred = page.contenders_table(spent)
    starred = starred[
        starred.drop(columns="contender").astype(str).apply("".join, axis=1).str.contains(r"\*")
    ]
    of_all = {part.title: part.table for part in page.sections(spent)}["By test condition"]
    assert set(of_all["contender"]) == set(starred["contender"])
    assert "of all that may be the best in some question." in texts(spent)["By test condition"]
    assert "fewer than" not in texts(spent)["All contenders"]
    assert "Not shown" not in texts(spent)["All contenders"]
    short = without(spent, "concatenation, complete", 1)
    assert "Those with fewer than 2 seeds are neither" in texts(short)["All contenders"]
    few = spent
    for name in spent.specs:
        few = without(few, name, 1)
    assert texts(few)["By test condition"].endswith("have a seed; nobody has 2 seeds yet.")


def test_the_smallest_error_is_called_the_best_and_not_the_highest(spent: results.Results) -> None:
    errors = dataclasses.replace(
        spent, values=spent.values.assign(value=spent.values["value"] / 50)
    )
    shown = str([(part.text, list(part.table)) for part in page.sections(errors)])
    assert "best mean" in shown and "highest" not in shown
    assert "best mean" in page.live(errors) and "highest mean" not in page.live(errors)
    close = spent.values.assign(
        value=spent.values["seed"] * 1.0
        + (spent.values["contender"].str.len() % 2) * (spent.values["seed"] % 2)
    )
    told = page.sentence(dataclasses.replace(spent, values=close), spent.plan.questions[0])
    assert "has the best mean" in told


def test_with_folds_the_page_counts_the_first_of_them() -> None:
    bundle = open_bundle(TWIN)
    dialogues = np.unique(bundle.dialogue, return_inverse=True)[1].astype(np.int64)
    folded = dataclasses.replace(bundle, fold=np.minimum(dialogues % 4, 2))
    sizes = [int((folded.fold == number).sum()) for number in (2, 1, 0)]  # train, valid, test
    assert len(set(sizes)) > 1 and sizes[2] != len(bundle.rows("test"))
    told = facts._utterances(folded)
    first = f"{sizes[0]} train, {sizes[1]} valid, {sizes[2]} test"
    assert told == f"{len(bundle)}, each tested in one of 3 folds; in the first {first}"
    assert facts._utterances(bundle) == ", ".join(
        f"{len(bundle.rows(split))} {split}" for split in ("train", "valid", "test")
    )


def test_the_page_says_whose_learning_rate_was_searched_elsewhere(spent: results.Results) -> None:
    told = facts.trials_told(spent, facts.Notes("again", ("MMGCN", "EBMC")))
    assert (
        "not searched on these data for MMGCN, EBMC, which have those of the most similar" in told
    )
    assert "as many trials for every" in facts.trials_told(spent, facts.Notes("again"))


def test_the_page_says_what_an_import_warned_of(spent: results.Results) -> None:
    bundle = spent.plan.bundle
    listed = dict(facts.listed(spent, facts.Notes("again")))
    assert "warning" not in listed and "missing in the data" not in listed
    labels = np.zeros_like(bundle.labels)
    labels[bundle.split == 0] = bundle.labels[bundle.split == 0]
    observed = bundle.observed.copy()
    observed[::4, 0] = False
    odd = dataclasses.replace(bundle, labels=labels, observed=observed)
    context = SimpleNamespace(**{**vars(spent.plan.context), "bundle": lambda _: odd})
    plan = dataclasses.replace(spent.plan, context=context)
    told = facts.listed(dataclasses.replace(spent, plan=plan), facts.Notes("again"))
    warnings = " ".join(text for name, text in told if name == "warning")
    assert "A guess of that class is always right there" in warnings
    assert "lack a modality in the data themselves" in dict(told)["missing in the data"]


def test_failed_runs_are_listed_with_their_reason_and_end_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "runs")
    plan = plan_on(store)
    few = tuple(c for c in plan.contenders if c.row.name in ("linear model", "concatenation"))
    plan = dataclasses.replace(plan, contenders=few, looks=(2, 3))
    (lost,) = [c for c in few if c.name == "concatenation, complete"]
    (spec,) = plan.specs(lost, [1])
    run_id = spec.run_id(plan.bundle.fingerprint)
    whole = command.spend(plan, None, 1)
    assert whole.failures == {} and failed.lines(whole, "compare") == []
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(command, "plan_for", lambda *given: plan)
    monkeypatch.setattr(command, "lacking", lambda *given: set())
    monkeypatch.setattr(command, "spend", lambda *given: results.read(plan))
    capsys.readouterr()
    assert command.compare(TWIN, profile="quick") == 0 and not capsys.readouterr().err

    for ending in (".json", ".safetensors", ".time.json"):
        store.path(run_id, ending).unlink()
    reason = "Diverged: training diverged: the mean loss is not finite, epoch 3, value nan"
    store.fail(run_id, spec, f"Traceback ...\n{reason}", "diverged")
    assert command.compare(TWIN, profile="quick") == 1
    line, advice = capsys.readouterr().err.strip().splitlines()
    named = f"concatenation, complete, seed 1, run {run_id}: {reason}"
    assert line == f"failed (diverged): compare: {named}" and "--standardise" in advice
    text = (command.folder_of(plan) / "compare.md").read_text(encoding="utf-8")
    others = ", ".join(s.run_id(plan.bundle.fingerprint) for s in whole.specs[lost.name][::2])
    line = f"* concatenation, complete: {others}, failed (diverged): {named}"
    assert line in text.split("## Run ids")[1]
    assert run_id in (command.folder_of(plan) / "index.html").read_text(encoding="utf-8")


def test_too_few_seeds_give_no_answer(spent: results.Results) -> None:
    none = dataclasses.replace(spent, values=spent.values.iloc[:0], specs={})
    assert "too few seeds" in page.sentence(none, spent.plan.questions[0])


def test_rates_must_name_every_modality(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vision"):
        plan_on(Store(tmp_path), {"audio": 0.5, "text": 0.1})
    with pytest.raises(InputError, match="odour"):
        plan_on(Store(tmp_path), {**RATES, "odour": 0.5})


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-data"],
        [TWIN, "--profile", "smoke"],
        [TWIN, "--profile", "night"],
        [TWIN, "--minutes", "0"],
        [TWIN, "--minutes", "inf"],
        [TWIN, "--rates", "audio=0,text=0,vision=0"],
        [TWIN, "--jobs", "0"],
        [TWIN, "--rates", "text=2"],
    ],
)
def test_bad_input_ends_with_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))
    assert main(["compare", *arguments]) == 2
    assert not (tmp_path / "figures").exists()
