"""What data each paper takes: refused before a run, by the paper's name and the role's, without stopping others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmlib.cli import main
from mmlib.data.bundle import Bundle, Task, make_bundle, save_bundle
from mmlib.errors import InputError
from mmlib.experiments.context import NO_ROLE
from mmlib.experiments.takes import DataRefused
from mmlib.papers import catalog, side_by_side
from mmlib.pipeline import notebooks

SHAPES = {"vectors": (3,), "frames": (2, 3), "images": (1, 4, 4), "clips": (2, 3, 4, 4)}
TASKS = {"classes": Task("classes", ("a", "b")), "score": Task("score", range=(-3.0, 3.0))}
# Written by hand from the papers: what each role takes, of shape, number of modalities and task.
VECTORS, FRAMES = frozenset({"vectors"}), frozenset({"frames"})
TAKEN = {
    "balm": dict.fromkeys(("iemocap6", "mosei"), VECTORS),
    "dream": dict.fromkeys(("mosi-frames", "mosei-frames", "iemocap4-frames"), VECTORS | FRAMES),
    "ebmc": {
        **dict.fromkeys(("mosi", "mosei", "iemocap4"), VECTORS),
        **dict.fromkeys(("mosi-frames", "mosei-frames"), FRAMES),
    },
    "mculora": dict.fromkeys(("mosei", "iemocap4", "crema-d"), VECTORS),
    "gmm_loss": dict.fromkeys(("crema-d", "ave"), frozenset({"vectors", "images", "clips"})),
    "side_by_side": dict.fromkeys(
        ("mosei", "iemocap6", "crema-d", "mosei-frames"), VECTORS | FRAMES
    ),
}
CASES = [
    (paper, role, shape) for paper, roles in TAKEN.items() for role in roles for shape in SHAPES
]


def made(shape: str, modalities: int = 2, task: str = "classes", other: str = "") -> Bundle:
    """Twelve utterances of a shape; other: the shape of the first modality."""
    r = np.random.default_rng(0)
    sizes = [SHAPES[other or shape], *[SHAPES[shape]] * (modalities - 1)]
    features = {
        f"m{i}": r.normal(size=(12, *size)).astype(np.float32) for i, size in enumerate(sizes)
    }
    labels = np.arange(12) % 2 if task == "classes" else np.tile([-1.0, 1.0], 6)
    lengths = {m: np.full(12, x.shape[1]) for m, x in features.items() if x.ndim == 3}
    split = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    return make_bundle(
        "made",
        TASKS[task],
        features,
        labels,
        split,
        [f"u{i:02}" for i in range(12)],
        lengths=lengths,
    )


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Bundle], str]:
    """What writes a bundle and gives its folder; runs and figures go to the test's own."""
    monkeypatch.setenv("MMLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MMLIB_FIGURES", str(tmp_path / "figures"))

    def save(bundle: Bundle) -> str:
        folder = tmp_path / "bundles" / f"b{len(list(tmp_path.glob('bundles/*')))}"
        save_bundle(bundle, folder)
        return str(folder)

    return save


def test_the_roles_of_every_paper_are_in_this_list() -> None:
    roles = {name: set(module.roles.values()) for name, module in catalog.PAPERS.items()}
    assert roles == {name: set(taken) for name, taken in TAKEN.items()}


@pytest.mark.parametrize(("paper", "role", "shape"), CASES)
def test_a_role_takes_the_shapes_that_its_networks_take_and_refuses_others(
    paper: str, role: str, shape: str, saved: Callable[[Bundle], str]
) -> None:
    module, data = catalog.PAPERS[paper], {role: saved(made(shape))}
    if shape in TAKEN[paper][role]:
        assert module.context("smoke", data).data == data
        return
    with pytest.raises(DataRefused) as refusal:
        module.context("smoke", data)
    said = str(refusal.value)
    assert said.startswith(
        f"{catalog.PAPERS[paper].called}, role {role}, bundle made: found 2 modalities (m0 {SHAPES[shape]}"
    )


@pytest.mark.parametrize("paper", TAKEN)
def test_vectors_beside_frames_are_taken_by_dream_alone(
    paper: str, saved: Callable[[Bundle], str]
) -> None:
    role = next(iter(TAKEN[paper]))
    data = {role: saved(made("vectors", other="frames"))}
    if paper == "dream":
        catalog.PAPERS[paper].context("smoke", data)
        return
    with pytest.raises(DataRefused, match=f"role {role}"):
        catalog.PAPERS[paper].context("smoke", data)


@pytest.mark.parametrize(("modalities", "task"), [(3, "classes"), (2, "score")])
def test_gmm_loss_takes_two_modalities_and_classes_alone(
    modalities: int, task: str, saved: Callable[[Bundle], str]
) -> None:
    with pytest.raises(DataRefused, match=r"expected two modalities.*classes as labels"):
        catalog.PAPERS["gmm_loss"].context(
            "smoke", {"ave": saved(made("vectors", modalities, task))}
        )


def test_a_refused_paper_does_not_stop_the_others_and_is_told_in_a_line(
    saved: Callable[[Bundle], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = saved(made("frames", task="score"))
    assert main(["run", "--list", "--profile", "smoke", "--data", f"mosei-frames={frames}"]) == 0
    capsys.readouterr()
    assert main(["run", "--list", "--profile", "smoke", "--data", f"mosei={frames}"]) == 1
    told = capsys.readouterr()
    assert {line.split()[0] for line in told.out.splitlines()} == {"side_by_side"}
    lines = told.err.splitlines()
    assert [line.split(":")[2].split(",")[0].strip() for line in lines] == [
        "BALM",
        "EBMC",
        "MCULoRA",
    ]
    assert all("role mosei, bundle made" in line for line in lines)
    assert (
        main(
            [
                "run",
                "--paper",
                "balm,ebmc",
                "--list",
                "--profile",
                "smoke",
                "--data",
                f"mosei={frames}",
            ]
        )
        == 2
    )
    assert capsys.readouterr().err.count("bundle made") == 2
    assert not (tmp_path / "figures").exists() and not (tmp_path / "runs").exists()


def test_a_wrong_option_is_wrong_for_all_and_stops_all() -> None:
    assert not issubclass(InputError, DataRefused)
    assert main(["run", "--list", "--profile", "smoke", "--seeds", "-1"]) == 2


def likeliest(paper: str, shape: str, modalities: int, task: str) -> str | None:
    """By hand: the role that a reader would choose for some data; None where the notebook does not take them."""
    if paper == "gmm_loss":
        fits = modalities == 2 and task == "classes" and shape != "frames"
        return "crema-d" if fits else None
    if shape in ("images", "clips") or (shape == "frames" and paper in ("balm", "mculora")):
        return None
    scored, framed = task == "score", shape == "frames"
    pair = "crema-d" if modalities == 2 else ""
    return {
        "balm": "mosei" if scored else "iemocap6",
        "dream": "mosi-frames" if scored else "iemocap4-frames",
        "ebmc": "mosi-frames" if framed else "mosi" if scored else "iemocap4",
        "mculora": "mosei" if scored else pair or "iemocap4",
        "side_by_side": "mosei-frames" if framed else "mosei" if scored else pair or "iemocap6",
    }[paper]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("modalities", [2, 3, 6])
def test_data_without_a_role_are_taken_in_the_one_that_fits(
    shape: str, task: str, modalities: int, saved: Callable[[Bundle], str]
) -> None:
    folder = saved(made(shape, modalities, task))
    for name, paper in catalog.PAPERS.items():
        role = likeliest(name, shape, modalities, task)
        if role is None:
            with pytest.raises(DataRefused, match=rf"^{paper.called}, bundle made: found "):
                paper.context("smoke", {NO_ROLE: folder})
            continue
        context = paper.context("smoke", {NO_ROLE: folder})
        assert context.data == {role: folder} and context.own
        assert not paper.context("smoke", {role: folder}).own


def test_twins_and_a_papers_own_counts_decide_the_role_before_the_shape() -> None:
    ebmc = catalog.PAPERS["ebmc"]
    context = ebmc.context("smoke", {NO_ROLE: "twin:mosei-frames@tiny"})
    assert context.data == {"mosei-frames": "twin:mosei-frames@tiny"}
    assert not context.own, "a twin's tables stay a twin's"
    # 22,856 utterances and these dims are CMU-MOSEI's in EBMC, where CMU-MOSI stands first.
    r = np.random.default_rng(0)
    n, dims = 22856, {"audio": 74, "text": 768, "vision": 35}
    features = {m: np.zeros((n, d), dtype=np.float32) for m, d in dims.items()}
    split = ["train"] * (n - 20) + ["valid"] * 10 + ["test"] * 10
    ids = [f"u{i}" for i in range(n)]
    bundle = make_bundle("big", TASKS["score"], features, r.uniform(-1, 1, n), split, ids)
    assert ebmc.role_for(bundle) == "mosei"


def test_papers_that_do_not_take_data_without_a_role_are_named_and_are_no_failure(
    saved: Callable[[Bundle], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = saved(made("frames", task="score"))
    assert main(["run", "--list", "--profile", "smoke", "--data", frames]) == 0
    told = capsys.readouterr()
    taken = [line for line in told.err.splitlines() if " takes " in line]
    refused = [line for line in told.err.splitlines() if "left out" in line]
    assert [line.split(f" takes {frames} in the role ") for line in taken] == [
        ["mmlib: DREAM", "mosi-frames."],
        ["mmlib: EBMC", "mosi-frames."],
        ["mmlib: Side by side", "mosei-frames."],
    ]
    assert [line.split(": ")[2].split(",")[0] for line in refused] == [
        "BALM",
        "MCULoRA",
        "GMM-loss",
    ]
    assert {line.split()[0] for line in told.out.splitlines()} == {"dream", "ebmc", "side_by_side"}
    arguments = ["run", "--list", "--paper", "balm", "--profile", "smoke", "--data", frames]
    assert main(arguments) == 2, "no paper that was asked for takes them"
    assert not (tmp_path / "figures").exists() and not (tmp_path / "runs").exists()


def test_scores_without_a_neutral_value_are_declined_side_by_side_and_compared_by_their_error(
    saved: Callable[[Bundle], str], capsys: pytest.CaptureFixture[str]
) -> None:
    scale, labels = Task("score", range=(1, 12)), np.arange(1, 13, dtype=np.float32)
    bundle = dataclasses.replace(made("vectors", 3, "score"), task=scale, labels=labels)
    ratings = saved(bundle)
    assert main(["run", "--list", "--profile", "smoke", "--data", ratings]) == 0
    told = capsys.readouterr()
    refused = [line for line in told.err.splitlines() if "left out: Side by side" in line]
    assert len(refused) == 1, "one line"
    assert "score without a neutral value as labels; expected two or more" in refused[0]
    assert "a score needs a neutral value (bundle.toml)" in refused[0]
    assert {line.split()[0] for line in told.out.splitlines()} == {
        "balm",
        "dream",
        "ebmc",
        "mculora",
    }
    assert main(["data", "check", ratings]) == 0
    checked = [line for line in capsys.readouterr().out.splitlines() if "06_side" in line]
    assert len(checked) == 1 and "not taken" in checked[0] and "neutral value" in checked[0]
    # `mmlib compare` goes by the error of such scores, and still takes them.
    assert side_by_side.context("smoke", {NO_ROLE: ratings}).data == {"mosei": ratings}
    signed = saved(made("vectors", 3, "score"))
    assert catalog.PAPERS["side_by_side"].context("smoke", {"mosei": signed}).data


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["twin:mosei@tiny", "mosei=twin:mosei@tiny"], "one data set without a role"),
        (["mosei=twin:mosei@tiny", "twin:mosei@tiny"], "one data set without a role"),
        (["twin:mosei@tiny", "twin:iemocap6@tiny"], "one data set without a role"),
        (["mosei"], "the role mosei without data"),
        (["nowhere"], "bundle: found 'nowhere'"),
        (["=twin:mosei@tiny"], "BUNDLE or ROLE=BUNDLE"),
    ],
)
def test_data_without_a_role_stand_alone_and_exist(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        catalog.parse_data(given)


def test_a_notebook_is_given_data_as_they_were_given(saved: Callable[[Bundle], str]) -> None:
    folder = str(Path(saved(made("vectors", 3))).resolve())
    for given in ({NO_ROLE: folder}, {"iemocap6": folder}):
        context = catalog.PAPERS["balm"].context("smoke", given)
        text = str(notebooks._parameters(context)["data"])
        again = catalog.PAPERS["balm"].context("smoke", catalog.parse_data(text.split(",")))
        assert (again.data, again.own) == (context.data, context.own)


def test_a_notebook_is_given_a_folder_that_it_finds_from_where_it_runs(
    saved: Callable[[Bundle], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(saved(made("vectors", 3)))
    monkeypatch.chdir(folder.parent)
    for given in ({NO_ROLE: folder.name}, {"iemocap6": folder.name}):
        context = catalog.PAPERS["balm"].context("smoke", given)
        assert str(notebooks._parameters(context)["data"]).split("=")[-1] == str(folder.resolve())


def test_the_readers_table_has_every_notebook_with_what_it_takes() -> None:
    root = Path(__file__).parents[2]
    texts = [(root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/extend.md")]
    head = "| notebook | takes | roles for `ROLE=NAME` |\n"
    tables = [text.split(head)[1].split("\n\n")[0] for text in texts]
    assert tables[0].strip() == tables[1].strip()
    lines = {line.split("`")[1]: line.split("|")[2:4] for line in tables[0].splitlines()[1:]}
    assert list(lines) == [paper.notebook for paper in catalog.PAPERS.values()]
    for name, paper in catalog.PAPERS.items():
        takes, roles = lines[paper.notebook]
        assert set(re.findall(r"`([^`]+)`", roles)) == set(TAKEN[name])
        shapes = frozenset().union(*TAKEN[name].values())
        assert {shape for shape in SHAPES if shape in takes} == shapes
        assert ("two modalities" in takes and "classes" in takes) == (name == "gmm_loss")
        assert ("score with a neutral value" in takes) == (name == "side_by_side")
