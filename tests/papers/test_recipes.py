"""Recipes: what a search on validation chooses, what data without a search get, and the committed file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmlib import paths
from mmlib.cli import main
from mmlib.data.bundle import Bundle, Task, save_bundle
from mmlib.data.catalog import open_bundle, open_twin
from mmlib.experiments import recipes, search
from mmlib.experiments.profiles import PROFILES
from mmlib.experiments.recipes import COLUMNS, NO_FOLD, choose
from mmlib.experiments.systems import SYSTEMS
from mmlib.masks import complete
from mmlib.papers.balm import rows as balm_rows
from mmlib.papers.balm.rows import FOCUS
from mmlib.papers.catalog import PAPERS
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.papers.side_by_side.rows import every_row
from mmlib.papers.side_by_side.rows import specs as row_specs
from mmlib.pipeline import recipes as command
from mmlib.pipeline import regenerate, trials
from mmlib.runs.spec import RunSpec, Training
from mmlib.runs.store import Store

Toy = Callable[..., Bundle]


def trial(lr: float, steps: int, valid: float, **other: object) -> dict[str, object]:
    known = dict.fromkeys(COLUMNS, 0) | {
        "profile": "quick",
        "data": "some",
        "fingerprint": "f",
        "task": "classes",
        "train": 100,
        "network": "mmgcn",
        "method": "",
        "fold": NO_FOLD,
        "weight_decay": 1e-5,
    }
    return {**known, "lr": lr, "steps": steps, "valid": valid, **other}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts trials where recipes are read from."""
    monkeypatch.setattr(recipes, "FILE", tmp_path / "recipes.csv")
    recipes.forget()

    def write(*trials: dict[str, object]) -> None:
        pd.DataFrame(trials, columns=[*COLUMNS]).to_csv(recipes.FILE, index=False)
        recipes.forget()

    yield write  # type: ignore[misc]
    monkeypatch.undo()
    recipes.forget()


def test_the_best_setting_is_chosen_with_the_fewest_steps_that_are_as_good() -> None:
    tried = [
        trial(0.01, 32, 60.0),
        trial(0.01, 64, 69.8),
        trial(0.01, 128, 70.0),
        trial(0.02, 32, 69.9),
        trial(0.02, 128, 69.9),
    ]
    recipe = choose(pd.DataFrame(tried))
    assert (recipe.lr, recipe.steps) == (0.01, 64)


def test_test_results_take_no_part() -> None:
    tried = [trial(0.01, 32, 60.0, test=10.0), trial(0.02, 32, 59.0, test=99.0)]
    assert choose(pd.DataFrame(tried)).lr == 0.01


def test_a_setting_of_which_a_run_diverged_is_not_chosen() -> None:
    tried = [trial(0.01, 32, 60.0), trial(0.02, 32, math.nan)]
    assert choose(pd.DataFrame(tried)).lr == 0.01


def test_folds_choose_their_rates_apart_and_share_the_number_of_steps(
    toy: Toy, file: Callable[..., None]
) -> None:
    whole = toy()
    bundle = dataclasses.replace(whole, fold=whole.dialogue % 3)
    own = {"fingerprint": bundle.fingerprint}
    file(
        trial(0.01, 32, 60.0, fold=0, **own),
        trial(0.02, 32, 50.0, fold=0, **own),
        trial(0.01, 32, 50.0, fold=1, **own),
        trial(0.02, 32, 60.0, fold=1, **own),
        trial(0.02, 64, 70.0, fold=1, **own),
    )
    rates = [recipes.find("quick", bundle, "mmgcn", fold) for fold in (0, 1)]
    assert [r.lr for r in rates if r] == [0.01, 0.02]
    assert {r.steps for r in rates if r} == {64}


def test_data_without_a_search_have_the_recipe_of_the_most_similar(
    toy: Toy, file: Callable[..., None]
) -> None:
    bundle = toy()
    train = len(bundle.rows("train"))
    file(
        trial(0.01, 32, 60.0, data="alike", fingerprint="a", train=2 * train),
        trial(0.02, 32, 60.0, data="larger", fingerprint="b", train=50 * train),
        trial(0.03, 32, 60.0, data="scores", fingerprint="c", train=train, task="score"),
    )
    recipe = recipes.find("quick", bundle, "mmgcn")
    assert recipe is not None and recipe.data == "alike"
    other = recipes.find("quick", bundle, "gcnet")
    assert other is not None and other.data == "alike"
    assert recipes.find("laptop", bundle, "mmgcn") is None
    assert not recipes.is_own("quick", bundle)


def test_epochs_hold_the_steps_of_a_recipe(toy: Toy, file: Callable[..., None]) -> None:
    bundle = toy((3, 5) * 40)
    file(trial(0.02, 50, 60.0, fingerprint=bundle.fingerprint))
    schedule = recipes.schedule(PROFILES["quick"], bundle, "mmgcn")
    dialogues = len(np.unique(bundle.dialogue[bundle.rows("train")]))
    assert schedule.batch == round(recipes.UTTERANCES / 4)
    steps = math.ceil(dialogues / schedule.batch)
    assert schedule.epochs == math.ceil(50 / steps) and schedule.lr == 0.02


def test_a_method_has_its_networks_steps_and_the_rate_of_its_own_trials(
    toy: Toy, file: Callable[..., None]
) -> None:
    bundle = toy((3, 5) * 40)
    own = {"fingerprint": bundle.fingerprint}
    file(
        trial(0.02, 50, 60.0, **own),
        trial(0.01, 50, 59.0, **own),
        trial(0.02, 50, 40.0, method="balm", **own),
        trial(0.01, 50, 50.0, method="balm", **own),
    )
    quick = PROFILES["quick"]
    network = recipes.schedule(quick, bundle, "mmgcn")
    method = recipes.schedule(quick, bundle, "mmgcn", method="balm")
    assert (network.lr, method.lr) == (0.02, 0.01)
    assert dataclasses.replace(method, lr=network.lr) == network
    assert recipes.schedule(quick, bundle, "mmgcn", method="plain") == network
    assert recipes.schedule(quick, bundle, "gcnet", method="balm").lr == 0.02


def test_without_trials_of_its_own_a_method_has_its_networks_rate_not_another_data_sets(
    toy: Toy, file: Callable[..., None]
) -> None:
    bundle = toy((3, 5) * 40)
    own, train = {"fingerprint": bundle.fingerprint}, len(bundle.rows("train"))
    elsewhere = {"data": "other", "fingerprint": "o", "train": train}
    scores = {"data": "scores", "fingerprint": "s", "train": train, "task": "score"}
    quick = PROFILES["quick"]
    searched_elsewhere = [
        trial(0.03, 50, 60.0, **elsewhere),
        trial(0.04, 50, 60.0, method="balm", **elsewhere),
        trial(0.05, 50, 60.0, method="dream", **scores),
    ]
    file(trial(0.02, 50, 60.0, **own), *searched_elsewhere)
    assert recipes.schedule(quick, bundle, "mmgcn", method="balm").lr == 0.02
    file(*searched_elsewhere)
    rates = [recipes.schedule(quick, bundle, "mmgcn", method=m).lr for m in ("", "balm", "dream")]
    assert rates == [0.03, 0.04, 0.03]


def test_a_methods_stages_together_have_the_epochs_of_its_network(
    file: Callable[..., None],
) -> None:
    """Also where the network that guides has fewer than the one that it guides, and where they are odd."""
    context = PAPERS["side_by_side"].context("quick", {"iemocap6": "twin:iemocap6@quick"})
    own = {
        "data": context.reference("iemocap"),
        "fingerprint": context.bundle("iemocap").fingerprint,
        "train": 1500,
    }
    steps = {"mmgcn": 60, "corrkd": 36, "dream": 108, "momke": 60, "crossmodal": 84}
    file(*(trial(0.01, n, 60.0, network=network, **own) for network, n in steps.items()))
    totals: dict[str, list[int]] = {name: [] for name in steps}
    for row in every_row(context, "iemocap"):
        stage: RunSpec | None = row_specs(context, Ground("iemocap"), row, complete())[0]
        network, epochs = row.stages[-1].backbone, 0
        while stage is not None:
            epochs, stage = epochs + stage.training.epochs, stage.parent
        if network in totals:
            totals[network].append(epochs)
    # Twelve steps an epoch; the method and its network.
    assert totals == {
        "mmgcn": [5, 5],
        "corrkd": [],
        "dream": [9, 9],
        "momke": [5, 5],
        "crossmodal": [7, 7],
    }


def test_a_trial_gives_each_stage_of_a_method_the_epochs_of_its_network(
    file: Callable[..., None],
) -> None:
    """As the papers' tables do: rates that few steps chose were too large for them."""
    reference = "twin:iemocap6@quick"
    own = {"data": reference, "fingerprint": open_bundle(reference).fingerprint, "train": 1500}
    steps = {"corrkd": 36, "dream": 108, "momke": 60, "crossmodal": 84, "mmgcn": 60}
    file(*(trial(0.01, n, 60.0, network=network, **own) for network, n in steps.items()))
    epochs = {}
    for (network, method), (spec, *_) in trials.of_methods(PROFILES["quick"], reference).items():
        if network in steps:
            before = [] if spec.parent is None else [spec.parent.training.epochs]
            epochs[method] = [*before, spec.training.epochs]
    assert epochs == {"balm": [5], "dream": [3, 9], "ebmc": [5, 5], "mculora": [7, 7]}


def test_baselines_that_a_methods_code_trains_have_their_networks_rate(
    file: Callable[..., None],
) -> None:
    context = PAPERS["balm"].context(profile="quick")
    own = {
        "data": context.reference("iemocap"),
        "fingerprint": context.bundle("iemocap").fingerprint,
        "train": 1500,
    }
    file(
        trial(0.02, 50, 60.0, **own),
        trial(0.01, 50, 50.0, method="balm", **own),
        trial(0.03, 50, 50.0, network="crossmodal", **own),
        trial(0.01, 50, 50.0, network="crossmodal", method="mculora", **own),
    )
    rates = {
        row.name: {
            cell.spec.training.lr for cell in balm_rows.cells(context, "iemocap", row, FOCUS)
        }
        for row in (balm_rows.balm("mmgcn"), balm_rows.watched_plain("mmgcn"))
    }
    assert rates == {"MMGCN+BALM": {0.01}, "MMGCN": {0.02}}
    other = PAPERS["side_by_side"].context(profile="quick", data={"iemocap6": own["data"]})
    found = {
        row.name: row_specs(other, Ground("iemocap"), row, complete())[0].training.lr
        for row in every_row(other, "iemocap")
        if "MCULoRA" in row.name
    }
    assert found == {"MCULoRA's network": 0.03, "MCULoRA": 0.01}


def test_all_stages_of_a_method_are_tried_and_none_of_its_networks() -> None:
    some = RunSpec("none", 0, method="gmm_loss", training=Training(lr=0.5), keep=("weights",))
    early = dataclasses.replace(some, method="plain")
    last = dataclasses.replace(some, parent=dataclasses.replace(some, parent=early))
    tried = search.at_every_setting(PROFILES["quick"], [last], "gmm_loss")
    settings = search.SETTINGS["quick"]
    assert [(s.training.lr, s.training.weight_decay) for s in tried] == [*settings]
    for spec, (lr, decay) in zip(tried, settings, strict=True):
        assert spec.parent is not None and spec.parent.parent == early
        assert (spec.parent.training.lr, spec.parent.training.weight_decay) == (lr, decay)


def test_a_search_gives_every_network_as_many_trials_and_resumes(
    toy: Toy,
    file: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(search, "STEPS", {"quick": (2, 4)})
    monkeypatch.setattr(search, "SEEDS", 2)
    (tmp_path / "docs").mkdir()
    save_bundle(toy(), tmp_path / "mine")
    data = str(tmp_path / "mine")
    call = ["recipes", data, "--profile", "quick", "--network", "momke,crossmodal", "--jobs", "1"]
    assert main([*call, "--max-minutes", "0.00001"]) == 1
    assert main(call) == 0
    table = recipes.trials_of(data)
    counts = table.groupby("network").size().to_dict()
    settings = len(search.SETTINGS["quick"])
    assert counts == {"crossmodal": 2 * settings, "momke": 2 * settings, "linear": 1}
    capsys.readouterr()
    own = tmp_path / "runs" / "recipes.csv"
    first = own.read_bytes()
    assert main(call) == 0 and own.read_bytes() == first
    printed = capsys.readouterr().out
    assert "crossmodal" in printed and "learning rate" in printed
    assert not recipes.FILE.exists() and not (tmp_path / "docs" / command.PAGE).exists()
    assert main(["recipes", data, "--profile", "paper"]) == 2
    assert main(["recipes", data, "--network", "mmgnc"]) == 2
    assert main(["recipes", data, "--method", "blam"]) == 2
    methods = ["recipes", data, "--profile", "quick", "--method", "ebmc", "--jobs", "1"]
    assert main(methods) == 0
    table = recipes.trials_of(data)
    of_method = table[table["method"] == "ebmc"]
    assert list(of_method["network"]) == ["momke"] * settings
    assert (of_method["runs"] == 2).all() and of_method["valid"].notna().all()
    assert len(table) == len(of_method) + 4 * settings + 1
    assert "at its network's setting" in capsys.readouterr().out


def test_scores_without_a_sign_are_searched_by_their_error(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate is that with the smallest error on validation, in percent of a constant answer's."""
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(search, "STEPS", {"quick": (2, 4)})
    monkeypatch.setattr(search, "SEEDS", 1)
    scores = toy(task=Task("score", range=(-3.0, 3.0)))
    ratings = dataclasses.replace(
        scores, labels=scores.labels + 4, task=Task("score", range=(1.0, 7.0), signed=False)
    )
    save_bundle(ratings, tmp_path / "mine")
    data = str(tmp_path / "mine")
    call = ["recipes", data, "--profile", "quick", "--network", "momke", "--jobs", "1"]
    assert main(call) == 0
    table = recipes.trials_of(data).query("network == 'momke' and steps == 4")
    store, bundle = Store(tmp_path / "runs"), open_bundle(data)
    labels = bundle.labels[bundle.rows("valid")]
    constant = np.abs(labels - np.median(bundle.labels[bundle.rows("train")])).mean()
    errors = {
        r.spec.training.lr: min(r["curves"]["valid"]["mae"])
        for r in store.records()
        if r.spec.training.weight_decay == 1e-5 and r.spec.backbone == "momke"
    }
    for lr, error in errors.items():
        (line,) = table[(table["lr"] == lr) & (table["weight_decay"] == 1e-5)]["valid"]
        assert line == pytest.approx(100 * (1 - error / constant), abs=1e-3)


def test_after_a_search_without_time_the_rest_is_known_to_lack(
    toy: Toy, file: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    save_bundle(toy(), tmp_path / "mine")
    data = str(tmp_path / "mine")
    every = command.lacking("quick", data)
    assert {("mmgcn", ""), ("mmgcn", "balm"), ("crossmodal", "mculora")} < every
    here = {"data": data, "fingerprint": toy().fingerprint, "task": "classes"}
    search.write(PROFILES["quick"], data, [trial(0.5, 8, 70.0, **here)])
    assert every - command.lacking("quick", data) == {("mmgcn", "")}


def test_trials_that_another_process_wrote_meanwhile_stay(file: Callable[..., None]) -> None:
    here = {"data": "twin:mosei@quick", "fingerprint": "here"}
    file(trial(0.1, 8, 70.0, **here))
    assert len(recipes.trials()) == 1  # read, and kept in memory
    others = recipes.FILE.read_text() + recipes.FILE.read_text().splitlines()[1].replace(
        "twin:mosei@quick,here", "twin:mosi@quick,there"
    )
    recipes.FILE.write_text(f"{others}\n")
    search.write(PROFILES["quick"], "twin:mosei@quick", [trial(0.5, 8, 70.0, **here)])
    left = recipes.trials().set_index("data")["lr"].to_dict()
    assert left == {"twin:mosei@quick": 0.5, "twin:mosi@quick": 0.1}


def test_trials_on_own_data_are_used_for_these_data_alone(
    toy: Toy, file: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    bundle, other = toy(), dataclasses.replace(toy(), name="other")
    here = {"data": "mine", "fingerprint": bundle.fingerprint, "task": bundle.task.kind}
    file(trial(0.01, 32, 60.0, task=bundle.task.kind))
    committed = recipes.FILE.read_bytes()
    search.write(PROFILES["quick"], "mine", [trial(0.5, 8, 70.0, **here)])
    mine = recipes.find("quick", bundle, "mmgcn")
    assert mine is not None and (mine.lr, mine.data) == (0.5, "mine")
    assert recipes.is_own("quick", bundle) and recipes.FILE.read_bytes() == committed
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "empty"))
    nearest = recipes.find("quick", bundle, "mmgcn")
    assert nearest is not None and (nearest.lr, nearest.data) == (0.01, "some")
    assert not recipes.is_own("quick", other)


@pytest.mark.parametrize("reference", ["crema-d-votes", "twin:mosi@quick", "mosi-unseen"])
def test_trials_on_the_projects_data_are_committed(reference: str) -> None:
    assert recipes.file_of(reference) == recipes.FILE


# GMM-loss trains with the paper's own optimizer and schedule.
@pytest.mark.parametrize("paper", [name for name in PAPERS if name != "gmm_loss"])
def test_networks_of_the_first_command_were_searched_on_its_own_data(paper: str) -> None:
    context = PAPERS[paper].context(profile="quick")
    needed = [
        spec
        for artifact in PAPERS[paper].artifacts
        if not regenerate.lacks(context, artifact)
        for spec in regenerate.runs_of(context, artifact)
    ]
    known = [network.backbone for network in search.NETWORKS]
    methods = ("balm", "dream", "ebmc", "mculora", "gmm_loss")
    trained = {
        (spec.data, spec.backbone, method)
        for spec in needed
        for method in ("", spec.method)
        if spec.backbone in known and (not method or method in methods)
    }
    table = recipes.trials()
    table = table[table["profile"] == "quick"]
    tried = set(zip(table["data"], table["network"], table["method"], strict=True))
    # A first stage of a system has the schedule that was searched for the whole.
    whole = {stage.backbone: system.backbone for system in SYSTEMS for stage in system.stages}
    missing = {
        (data, network, method)
        for data, network, method in trained - tried
        if (data, whole.get(network), method) not in tried
    }
    assert trained and not missing


# Paper to where its main comparison stands, and the row, setting and metric of the plain network on complete data.
PLAIN = {
    "balm": ("twins", "MMGCN", "complete", "weighted_f1"),
    "dream": ("twins", "same network, task loss alone", "all modalities", "f1_mean"),
    "ebmc": ("twins", "same network, task loss alone", "all modalities", "weighted_f1"),
    "mculora": ("embedded", "joint training", "all modalities", "weighted_f1"),
}


@pytest.mark.parametrize("paper", PLAIN)
def test_the_committed_plain_network_reaches_85_percent_of_the_best_possible(paper: str) -> None:
    collection, row, setting, metric = PLAIN[paper]
    numbers = pd.read_csv(paths.root() / "figures" / collection / paper / "main-numbers.csv")
    of_row = numbers[(numbers["row"] == row) & (numbers["metric"] == metric)]
    (line,) = of_row[of_row["setting"] == setting].to_dict("records")
    context = PAPERS[paper].context(profile="quick")
    twin = open_twin(context.reference(context.main))
    everything = np.ones((len(twin.bundle.rows("test")), 3), dtype=bool)
    best = twin.best("test", everything, "weighted_f1")[1]
    assert line["n"] == 10 and line["mean"] >= 0.85 * best


def test_the_committed_page_shows_the_committed_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = Path(__file__).parents[2] / "docs" / command.PAGE
    monkeypatch.setenv("MMLIB_HOME", str(tmp_path))
    (tmp_path / "docs").mkdir()
    command.write_page()
    assert (tmp_path / "docs" / command.PAGE).read_text() == committed.read_text()


def test_without_a_table_the_summary_is_that_of_the_projects_data() -> None:
    """As the sixth notebook asks for it."""
    pd.testing.assert_frame_equal(search.summary(), search.summary(recipes.trials()))
