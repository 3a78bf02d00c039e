"""A planted effect and a planted null are decided as what they are, by ``mmlib decide`` with real runs.

Two classes of Gaussian features whose best possible accuracy is known: text alone reaches 80 %, audio adds 1.5 points,
and vision says nothing. The planted claims are that a network needs audio, and that it needs vision.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mmlib.cli import main
from mmlib.experiments.claims import Claim, Claims, of_metric
from mmlib.experiments.context import Cell, Context
from mmlib.experiments.measures import Lead
from mmlib.masks import complete
from mmlib.papers import catalog
from mmlib.pipeline import decide as module
from mmlib.runs.spec import RunSpec, Training

EFFECT = 1.5
ROWS = {"all": (), "without audio": ("text", "vision"), "without vision": ("audio", "text")}
SIZES = {"train": 1200, "valid": 300, "test": 3000}


def distance(accuracy: float) -> float:
    """Between the means of two classes, in sds, of which the best answer is right so often."""
    return 2 * float(norm.ppf(accuracy))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, sum(SIZES.values()))
    text = distance(0.80)
    audio = np.sqrt(distance(0.80 + EFFECT / 100) ** 2 - text**2)
    noise = {"audio": 2, "text": 3, "vision": 3}
    features = {m: random.normal(size=(len(labels), d)) for m, d in noise.items()}
    features["text"][:, 0] += text * labels
    features["audio"][:, 0] += audio * labels
    splits = [name for name, count in SIZES.items() for _ in range(count)]
    table = [
        {"id": f"u{number:04d}", "split": split, "label": ("no", "yes")[label]}
        for number, (split, label) in enumerate(zip(splits, labels, strict=True))
    ]
    (folder / "in").mkdir()
    pd.DataFrame(table).to_csv(folder / "in" / "utterances.csv", index=False)
    for modality, values in features.items():
        np.save(folder / "in" / f"{modality}.npy", values)
    out = folder / "planted"
    assert (
        main(
            ["data", "import", "folder", str(folder / "in"), "--name", "planted", "--out", str(out)]
        )
        == 0
    )
    return catalog.PAPERS["balm"].context("smoke", {"": str(out)})


def declared(context: Context) -> list[Claim]:
    cells = [
        Cell(
            row,
            "complete",
            RunSpec(
                context.reference(context.main),
                seed,
                backbone="mlp",
                backbone_options=(("hidden", 8),),
                modalities=modalities,
                eval_masks=(("complete", complete()),),
                training=Training(6, 32, 1e-2),
            ),
            "complete",
            context.main,
        )
        for row, modalities in ROWS.items()
        for seed in range(context.seed_count)
    ]
    source = of_metric(context.main, cells, "accuracy")
    return [
        Claim(
            f"{what} is needed",
            "1",
            what,
            source,
            Lead("all", f"without {what}", "complete"),
            primary=True,
        )
        for what in ("audio", "vision")
    ]


def test_a_planted_effect_is_supported_and_a_planted_null_is_no_difference_that_matters(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted = Claims(declared, "points of accuracy", "mlp")
    monkeypatch.setitem(module.CLAIMS, "balm", planted)
    monkeypatch.setattr(module.job, "report", lambda *_: 0)
    assert module.decide([context], jobs=1) == 0
    table = module.table([context])
    assert table["verdict"].tolist() == ["supported", "no difference that matters"]
    assert table["seeds"].tolist() == [10, 10]
