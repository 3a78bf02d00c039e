"""The data check: counts against the papers, and the warning about features that saw the labels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmlib import paths
from mmlib.data.av_twins import make_av_twin
from mmlib.data.bundle import Bundle, Task, make_bundle
from mmlib.data.check import check, compare_files, load_manifest, sha256
from mmlib.data.probe import PROBE, clustered_error, probe, steady
from mmlib.data.readers import read_bundle
from mmlib.data.twins import make_twin
from mmlib.errors import InputError

Cli = Callable[[Sequence[str]], int]


def drawn(
    leak: float = 0.0, signal: float = 0.5, frames: bool = False, task: str = "classes"
) -> Bundle:
    """80 dialogues of 10; text knows the label by ``signal`` everywhere, and by ``leak`` in train alone."""
    generator = np.random.default_rng(7)
    n, dialogue = 800, np.repeat(np.arange(80), 10)
    split = np.where(dialogue < 50, 0, np.where(dialogue < 60, 1, 2))
    label = generator.integers(0, 2, n)
    sign = 2.0 * label - 1
    text = generator.normal(size=(n, 6))
    text[:, 0] += (signal + leak * (split == 0)) * sign
    lengths = {}
    if frames:
        late = generator.normal(size=(n, 4, 6)) * 50
        late[:, 0] = text
        text, lengths = late, {"text": np.ones(n, dtype=int)}
    scores = sign * generator.uniform(0.1, 3, n) * (np.arange(n) % 20 > 0)
    kinds = {
        "classes": (Task("classes", ("no", "yes")), label),
        "score": (Task("score", range=(-3, 3)), scores),
        "binaries": (Task("binaries", ("a", "b")), np.stack([label, 1 - label], axis=1)),
    }
    return make_bundle(
        "drawn",
        kinds[task][0],
        {"audio": generator.normal(size=(n, 4)), "text": text},
        kinds[task][1],
        split,
        [f"u{i:03d}" for i in range(n)],
        dialogue=dialogue,
        lengths=lengths,
    )


def test_features_that_saw_the_labels_of_train_are_warned_of() -> None:
    report = check(drawn(leak=2.5))
    assert not report.ok
    assert list(report.probe[report.probe["leak"]]["inputs"]) == ["text", "all"]
    assert "labels of the train split" in report.warnings[0] and report.warnings[0] in str(report)


@pytest.mark.parametrize("signal", [0.0, 0.5, 3.0])
def test_honest_features_are_not_warned_of(signal: float) -> None:
    assert check(drawn(signal=signal)).ok


def test_noise_whose_held_out_splits_have_other_classes_than_train_has_seen_no_label() -> None:
    bundle = drawn(signal=0.0)
    label = np.random.default_rng(1).choice(2, len(bundle), p=(0.8, 0.2))
    other = dataclasses.replace(bundle, labels=np.where(bundle.split == 0, label, 1))
    table = check(other).probe.set_index("inputs")
    assert (table["cv"] - table["held_out"]).min() > 0.3, "the probe is far better inside train"
    assert not table["leak"].any()


def test_a_gap_within_sampling_error_is_not_warned_of() -> None:
    bundle = drawn(leak=2.5)
    few = np.isin(bundle.dialogue, [0, 1, 2, 50, 60])
    small = make_bundle(
        "small",
        bundle.task,
        {m: f[few] for m, f in bundle.features.items()},
        bundle.labels[few],
        bundle.split[few],
        [i for i, k in zip(bundle.ids, few, strict=True) if k],
        dialogue=bundle.dialogue[few],
    )
    wide = dataclasses.replace(small, labels=np.arange(50) % 2)
    assert not probe(wide)["leak"].any()


def with_steady(bundle: Bundle, sd: float, elsewhere: float, share: float = 1.0) -> Bundle:
    """The bundle, dimension 1 of its text 3 with an sd in train, and so far away in a share of the other rows."""
    generator, text = np.random.default_rng(3), bundle.features["text"].copy()
    far = (bundle.split != 0) & (generator.random(len(bundle)) < share)
    text[:, 1] = 3 + sd * generator.normal(size=len(bundle)) + elsewhere * far
    return dataclasses.replace(
        bundle, features={**bundle.features, "text": text.astype(np.float32)}
    )


@pytest.mark.parametrize("standardised", [False, True])
def test_a_dimension_that_is_nearly_constant_in_train_is_named_and_no_extractor_blamed(
    standardised: bool,
) -> None:
    odd = with_steady(drawn(signal=1.0), 1e-5, 2.0)
    odd = odd.standardised_over_train() if standardised else odd
    (found,) = steady(odd)
    assert (found.modality, found.number) == ("text", 1)
    assert found.sd == pytest.approx(1e-5, rel=0.1) and found.apart == pytest.approx(2.0, rel=0.01)
    assert probe(odd)["leak"].any(), "the probe of all dimensions fails elsewhere"
    report = check(odd)
    assert not report.ok and not [w for w in report.warnings if "feature extractor" in w]
    (told,) = [w for w in report.false if "hardly vary in train" in w]
    assert "dimension 1 of text (sd 9.9e-06 in train, elsewhere 2 from the mean of train)" in told
    leaking = check(with_steady(drawn(leak=3.0), 1e-5, 2.0))
    kinds = [("hardly vary" in w, "feature extractor" in w) for w in leaking.false]
    assert kinds == [(True, False), (False, True)], "the dimension comes before the extractor"


def test_dimensions_that_vary_in_train_or_are_rare_elsewhere_are_not_named() -> None:
    assert not steady(drawn())
    assert not steady(with_steady(drawn(), 0.1, 2.0)), "an sd of a twentieth is one"
    assert not steady(with_steady(drawn(), 0.0, 0.0)), "constant everywhere"
    assert not steady(with_steady(drawn(), 0.0, 1.0, share=0.05)), "a rare word"
    assert [d.number for d in steady(with_steady(drawn(), 0.0, 1.0))] == [1]


def test_where_train_is_one_dialogue_there_is_no_probe_and_a_reason() -> None:
    whole = drawn()
    one = dataclasses.replace(whole, dialogue=np.where(whole.split == 0, 0, whole.dialogue))
    assert len(one.dialogues("train")) == 1 and probe(one)["cv"].isna().all()
    text = str(check(one))
    assert "linear probe: none, since" in text and "nan" not in text


def test_held_out_accuracy_is_that_of_a_logistic_regression_on_train() -> None:
    bundle = drawn()
    x = bundle.features["text"].astype(np.float64)
    train = bundle.split == 0
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    expected = (
        LogisticRegression()
        .fit(x[train], bundle.labels[train])
        .score(x[~train], bundle.labels[~train])
    )
    found = probe(bundle).set_index("inputs")
    assert list(probe(bundle).columns) == PROBE
    assert found.loc["text", "held_out"] == pytest.approx(expected, abs=2 / 300)
    assert found.loc["text", "majority"] == np.bincount(bundle.labels[~train]).max() / 300


def test_dialogues_stay_whole_in_cross_validation() -> None:
    """With labels constant in a dialogue and a feature naming it, only a split dialogue could be guessed."""
    dialogue = np.repeat(np.arange(40), 10)
    generator = np.random.default_rng(0)
    label = generator.permutation(np.repeat([0, 1], 20))[dialogue]
    bundle = make_bundle(
        "named",
        Task("classes", ("no", "yes")),
        {"audio": np.eye(40)[dialogue], "text": generator.normal(size=(400, 2))},
        label,
        np.where(dialogue < 25, 0, np.where(dialogue < 30, 1, 2)),
        [f"u{i:03d}" for i in range(400)],
        dialogue=dialogue,
    )
    assert probe(bundle).set_index("inputs").loc["audio", "cv"] < 0.7


def test_frames_are_averaged_over_their_lengths_alone() -> None:
    short, flat = probe(drawn(signal=2.0, frames=True)), probe(drawn(signal=2.0))
    assert short.loc[1, "held_out"] == pytest.approx(flat.loc[1, "held_out"])


def test_scores_and_binaries_are_probed_by_sign_and_by_column() -> None:
    assert probe(drawn(signal=3.0, task="score")).loc[1, "held_out"] > 0.95
    both = probe(drawn(signal=1.0, task="binaries"))
    assert both.loc[1, "held_out"] == pytest.approx(
        probe(drawn(signal=1.0)).loc[1, "held_out"], abs=0.01
    )


def test_clustered_error_agrees_with_resampling_of_dialogues() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 8)
    right = (generator.random(480) < generator.beta(2, 1, 60)[groups]).astype(float)
    means = right.reshape(60, 8).mean(axis=1)
    resampled = generator.choice(means, size=(4000, 60)).mean(axis=1).std()
    assert clustered_error(right, groups) == pytest.approx(resampled, rel=0.08)


def test_clustered_error_of_single_utterances_is_the_binomial_one() -> None:
    right = np.array([1.0] * 70 + [0.0] * 30)
    assert clustered_error(right, np.arange(100)) == pytest.approx(np.sqrt(0.7 * 0.3 / 99))


def test_paper_counts_are_compared_role_by_role() -> None:
    bundle = drawn(task="score")
    asked = [line for line in check(bundle, "mosei").lines if line.startswith("mosei, BALM")]
    assert len(asked) == 1 and "ledger 1.1" in asked[0] and "agrees" not in asked[0]
    assert "train utterances (500, the paper has 16326)" in asked[0]
    (others,) = [line for line in check(bundle).lines if line.startswith("no count of: ")]
    assert "BALM (mosei)" in others and others.endswith("--role ROLE lists them")


def test_a_role_of_another_task_is_a_warning() -> None:
    report = check(drawn(), role="mosi")
    (line,) = report.false
    assert not report.ok and "asks for a score; this bundle has 2 classes" in line
    assert check(drawn(task="score"), role="mosi").ok


def test_manifest_has_every_role_and_the_counts_of_balm_table_5() -> None:
    roles = load_manifest()["role"]
    assert sorted(roles) == sorted(
        [
            "iemocap6",
            "iemocap4",
            "iemocap4-frames",
            "mosi",
            "mosi-frames",
            "mosei",
            "mosei-frames",
            "crema-d",
            "ave",
        ]
    )
    balm = {r: e["paper"][0] for r, e in roles.items() if e["paper"][0]["name"] == "BALM"}
    assert balm["iemocap6"]["dialogues"] == {"train+valid": 120, "test": 31}
    assert balm["mosei"]["utterances"] == {"train": 16326, "valid": 1871, "test": 4659}
    assert {p["ledger"] for e in roles.values() for p in e["paper"]} == {
        "1.1",
        "2.1",
        "3.1",
        "4.1",
        "5.1",
    }


def test_sha256_names_files_relative_to_their_folder(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one")
    assert sha256([tmp_path / "in", tmp_path / "a"]) == {
        "deep/b": hashlib.sha256(b"two").hexdigest(),
        "a": hashlib.sha256(b"one").hexdigest(),
    }
    with pytest.raises(InputError, match="no such file"):
        sha256([tmp_path / "absent"])


@pytest.mark.parametrize("role", ["iemocap6", "mosi"])
def test_twins_pass_the_check(role: str) -> None:
    assert check(make_twin(role, "quick").bundle, role).ok


def test_a_small_twin_with_some_of_its_roles_classes_is_no_warning_and_other_data_with_them_are() -> (
    None
):
    bundle = make_av_twin("ave", "tiny").bundle
    assert len(bundle.task.names) == 8
    for role in ("ave", None):
        report = check(bundle, role)
        assert report.ok and any(line.startswith("ave, GMM-loss") for line in report.lines)
    assert "asks for 6 classes; this bundle has 8" in check(bundle, "crema-d").warnings[0]
    other = dataclasses.replace(bundle, notes={})
    assert "asks for 28 classes; this bundle has 8" in check(other, "ave").warnings[0]


def test_dims_that_never_change_are_counted_in_vectors_and_frames_but_not_in_pictures() -> None:
    bundle = make_av_twin("crema-d", "tiny").bundle
    text = str(check(bundle))
    assert "\n  audio: 1 x 8 x 8, pictures;" in text
    assert "\n  vision: 1 x 3 x 8 x 8, pictures;" in text
    frames = drawn(frames=True)
    still = {"audio": frames.features["audio"].copy(), "text": frames.features["text"].copy()}
    still["audio"][:, :2], still["text"][..., 1] = 5, 7
    text = str(check(dataclasses.replace(frames, features=still)))
    assert "audio: 4 (2 constant);" in text and "text: 4 x 6 (1 constant);" in text


def mosi(split: str) -> Bundle:
    folder = paths.real_data() / "mosi-bclstm"
    if not folder.exists():
        pytest.skip(f"no real data at {folder}")
    index = paths.real_data() / "gcnet-layout" / "CMUMOSI" / "CMUMOSI_features_raw_2way.pkl"
    return read_bundle("bclstm-mosi", [folder, index], {"split": split})


def test_real_mosi_trap_is_found_in_the_leaky_split() -> None:
    report = check(mosi("leaky"), "mosi")
    table = report.probe.set_index("inputs")
    assert not report.ok
    assert list(table.index[table["leak"]]) == ["text", "vision", "all"]
    assert table.loc["text", "cv"] == pytest.approx(0.98, abs=0.01)
    assert table.loc["text", "held_out"] == pytest.approx(0.755, abs=0.015)


def test_real_mosi_unseen_videos_pass() -> None:
    report = check(mosi("unseen"), "mosi")
    assert report.ok and any("recorded bundle mosi-unseen" in line for line in report.lines)


def test_real_source_files_have_the_recorded_checksums() -> None:
    folder = paths.real_data() / "crema-d-votes"
    if not folder.exists():
        pytest.skip(f"no real data at {folder}")
    assert compare_files("crema-d-votes", [folder]) == [
        "source files: 3 of 3 have the recorded sha256"
    ]


def test_source_files_that_differ_are_named(tmp_path: Path) -> None:
    (tmp_path / "y_test.h5").write_bytes(b"other")
    text = compare_files("mmmo", [tmp_path])[0]
    assert text.startswith("source files: 0 of 9") and "y_test.h5" in text
    assert compare_files("unheard-of", [tmp_path]) == []


def test_check_command_returns_1_where_results_would_be_false(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmlib.data.bundle import save_bundle

    save_bundle(drawn(leak=2.5), tmp_path / "leaky")
    assert cli(["data", "check", str(tmp_path / "leaky")]) == 1
    assert "WARNING" in capsys.readouterr().out
    assert cli(["data", "check", "twin:mosi@tiny"]) == 0


def test_of_many_utterances_some_are_asked_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = drawn(signal=1.0)
    every = probe(bundle)
    assert "drawn at random" not in str(check(bundle))
    monkeypatch.setattr("mmlib.data.probe.MOST", len(bundle) // 2)
    part = probe(bundle)
    assert part.equals(probe(bundle)), "always the same ones"
    assert not part.equals(every)
    assert (abs(part["held_out"] - every["held_out"]) < 4 * part["held_out_se"]).all()
    assert (part["held_out_se"] > every["held_out_se"]).all()
    assert f"{len(bundle) // 2:,} of the {len(bundle):,} utterances" in str(check(bundle))
