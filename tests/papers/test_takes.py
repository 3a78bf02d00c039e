"""What data each paper takes: refused before a run, by the paper's name and the role's, without stopping others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmlib.cli import main
from mmlib.data.bundle import Bundle, Task, make_bundle, save_bundle
from mmlib.errors import InputError
from mmlib.experiments.takes import DataRefused
from mmlib.papers import catalog

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
