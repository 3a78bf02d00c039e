"""Missing rates by name: given ones take the place of the papers' imbalanced settings, and tables say which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmlib.cli import main
from mmlib.data.bundle import Task, make_bundle, save_bundle
from mmlib.errors import InputError
from mmlib.experiments.context import NO_ROLE, Context
from mmlib.experiments.rows import with_parents
from mmlib.papers import balm, side_by_side
from mmlib.papers.balm import rows, tables
from mmlib.papers.side_by_side import grounds
from mmlib.papers.side_by_side.figures import of_data
from mmlib.pipeline import notebooks, regenerate

ODD = ("voice", "eeg", "gaze", "face")
GIVEN = {"voice": 0.1, "eeg": 0.2, "gaze": 0.25, "face": 0.8}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What writes a bundle of some modalities, with classes in dialogues of three, and gives its folder."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))

    def save(names: tuple[str, ...]) -> str:
        r, n = np.random.default_rng(0), 24
        features = {m: r.normal(size=(n, 3)).astype(np.float32) for m in names}
        split = ["train"] * 12 + ["valid"] * 6 + ["test"] * 6
        ids, dialogues = [f"u{i:02}" for i in range(n)], [f"d{i // 3}" for i in range(n)]
        task = Task("classes", ("a", "b"))
        labels = np.arange(n) % 2
        bundle = make_bundle("mine", task, features, labels, split, ids, dialogue=dialogues)
        folder = tmp_path / "-".join(names)  # a bundle that was opened stays what it was
        save_bundle(bundle, folder)
        return str(folder)

    return save


def laws(context: Context) -> set[tuple[tuple[str, float], ...]]:
    """The rates of every imbalanced law that any run of any artifact trains or tests under."""
    specs = [
        spec
        for artifact in context.declared.artifacts
        if not regenerate.lacks(context, artifact)
        for spec in with_parents(cell.spec for cell in artifact.cells(context))
    ]
    masks = [law for spec in specs for law in (spec.train_mask, *dict(spec.eval_masks).values())]
    return {law.rates for law in masks if law.kind == "imbalanced"}


@pytest.mark.parametrize("paper", [balm, side_by_side])
def test_given_rates_take_the_place_of_every_setting_with_three_different_ones(
    paper: object, saved: Callable[..., str]
) -> None:
    folder = saved(ODD)
    context = paper.context("laptop", {NO_ROLE: folder}, rates=GIVEN)  # type: ignore[attr-defined]
    three = {rates for rates in laws(context) if len({rate for _, rate in rates}) > 2}
    assert three == {tuple(sorted(GIVEN.items()))}
    default = paper.context("laptop", {NO_ROLE: folder})  # type: ignore[attr-defined]
    printed = {frozenset(rate for _, rate in rates) for rates in laws(default)}
    assert frozenset((0.3, 0.5, 0.7)) in printed and frozenset(GIVEN.values()) not in printed


def test_settings_are_named_by_every_modalitys_rate_in_the_order_that_the_head_says(
    saved: Callable[..., str],
) -> None:
    context = balm.context("quick", {NO_ROLE: saved(ODD)})
    assert rows.order(context) == "eeg/face/gaze/voice"  # a bundle's modalities are sorted
    assert rows.setting_of(context, (0.5, 0.7, 0.3)) == "0.5/0.7/0.3/0.5"
    given = balm.context("quick", {NO_ROLE: saved(ODD)}, rates=GIVEN)
    assert rows.setting_of(given, rows.FOCUS) == "0.2/0.8/0.25/0.1"
    assert rows.mean_of_settings(given) == "at 0.2/0.8/0.25/0.1"
    names = {cell.setting for cell in tables.TABLE1.cells(given)}
    assert names == {"0.2/0.8/0.25/0.1", "complete"}
    assert set(
        grounds.trainings(
            side_by_side.context("quick", {NO_ROLE: saved(ODD)}, rates=GIVEN),
            grounds.Ground("iemocap"),
        )
    ) == {grounds.COMPLETE, grounds.MIXED, "imbalanced 0.2/0.8/0.25/0.1"}


def test_side_by_side_shows_the_rates_of_its_modalities_and_keeps_the_names_of_its_runs(
    saved: Callable[..., str],
) -> None:
    context = side_by_side.context("quick", {NO_ROLE: saved(("left", "right"))})
    ground = grounds.grounds(context)[0]
    names = list(grounds.trainings(context, ground))
    assert names[2:] == ["imbalanced 0.5/0.7/0.3", "imbalanced 0.5/0.3/0.7"]
    shown = [grounds.in_words(context, ground, name) for name in names]
    assert shown == [*names[:2], "imbalanced 0.5/0.7", "imbalanced 0.5/0.3"]
    assert grounds.of_rates(context) == "of left and right"


def test_no_two_settings_of_two_modalities_are_the_same_under_another_name(
    saved: Callable[..., str],
) -> None:
    context = balm.context("laptop", {NO_ROLE: saved(("left", "right"))})
    for artifact in context.declared.artifacts:
        if not regenerate.lacks(context, artifact):
            places = [(c.row, c.setting, c.mask, c.spec) for c in artifact.cells(context)]
            assert len(set(places)) == len(places), artifact.id


def test_notes_say_which_modality_has_which_rate_only_where_names_do_not(
    saved: Callable[..., str],
) -> None:
    data = {NO_ROLE: saved(ODD)}
    note = tables.notes_on_data(balm.context("quick", data), ["iemocap"])[0]
    assert "r_A of eeg, voice; r_L of face; r_V of gaze" in note and "--rates eeg=" in note
    context = balm.context("quick", data, rates=GIVEN)
    note = tables.notes_on_data(context, ["iemocap"])[0]
    assert note.startswith("Missing rates as given: eeg 0.2, face 0.8, gaze 0.25, voice 0.1.")
    beside = side_by_side.context("quick", data, rates=GIVEN)
    assert of_data(beside)[0] == note
    usual = balm.context("quick", {NO_ROLE: saved(("audio", "vision"))})
    assert not any("r_A" in text for text in tables.notes_on_data(usual, ["iemocap"]))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ("eeg=0.1", "one for each modality"),
        ("eeg=0.1,face=0.1,gaze=0.1,voice=0.1,smell=0.1", "one for each modality"),
        ("eeg=0.1,face=0.1,gaze=0.1,voice=1", "below 1"),
        ("eeg=0.1,face=-0.1,gaze=0.1,voice=0.1", "at least 0"),
        ("eeg=0.1,face=nan,gaze=0.1,voice=0.1", "MODALITY=RATE"),
        ("eeg=0.1,eeg=0.2,face=0.1,gaze=0.1,voice=0.1", "eeg twice"),
        ("eeg", "MODALITY=RATE"),
        ("", "--rates"),
    ],
)
def test_rates_are_one_for_each_modality(
    rates: str, said: str, saved: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--list", "--profile", "smoke", "--data", saved(ODD), "--rates", rates]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_papers_without_rates_run_beside_those_with_some_and_not_alone(
    saved: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    rates = ",".join(f"{name}={rate}" for name, rate in GIVEN.items())
    arguments = ["run", "--list", "--profile", "smoke", "--data", saved(ODD), "--rates", rates]
    assert main(arguments) == 0
    papers = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert papers == {"balm", "dream", "ebmc", "mculora", "side_by_side"}
    assert main([*arguments, "--paper", "ebmc"]) == 2
    assert "balm or side_by_side" in capsys.readouterr().err
    with pytest.raises(InputError, match="rates for"):
        regenerate.PAPERS["ebmc"].context("smoke", rates=GIVEN)


def test_a_notebook_is_given_the_rates(saved: Callable[..., str]) -> None:
    context = balm.context("smoke", {NO_ROLE: saved(ODD)}, rates=GIVEN)
    text = notebooks._parameters(context)["own_rates"]
    assert text == "eeg=0.2,face=0.8,gaze=0.25,voice=0.1"
    assert "own_rates" not in notebooks._parameters(regenerate.PAPERS["ebmc"].context("smoke"))
