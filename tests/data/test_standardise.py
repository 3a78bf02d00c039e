"""Standardised features: by NumPy over what is there in training, and nothing else changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mmlib import cli
from mmlib.data.bundle import Bundle, load_bundle
from mmlib.data.standardise import standardised
from mmlib.data.twins import make_twin
from mmlib.errors import InputError


def loud(role: str) -> Bundle:
    """A twin whose features are far from standard, some modalities missing, one dimension constant."""
    bundle = make_twin(role, "tiny").bundle
    draws = np.random.default_rng(0)
    features = {
        m: (7 + x * np.exp(draws.normal(size=x.shape[-1]))).astype(np.float32)
        for m, x in bundle.features.items()
    }
    features["audio"][..., 0] = 3.0
    observed = bundle.observed.copy()
    observed[::3, 1] = False
    return dataclasses.replace(bundle, features=features, observed=observed)


@pytest.mark.parametrize("role", ["mosi", "mosi-frames"])
def test_each_dimension_has_mean_0_and_deviation_1_over_what_training_has(role: str) -> None:
    bundle = loud(role)
    found = standardised(bundle)
    for index, m in enumerate(bundle.modalities):
        values, steps = bundle.features[m], bundle.lengths.get(m)
        rows = [i for i in range(len(bundle)) if bundle.split[i] == 0 and bundle.observed[i, index]]
        there = np.concatenate(
            [values[i : i + 1] if steps is None else values[i, : steps[i]] for i in rows]
        )
        mean, spread = there.astype(float).mean(axis=0), there.astype(float).std(axis=0)
        for i in range(len(bundle)):
            count = 1 if steps is None else steps[i]
            mine = np.atleast_2d(found.features[m][i])
            expected = (np.atleast_2d(values[i])[:count] - mean) / np.where(
                spread < 1e-6, 1, spread
            )
            if bundle.observed[i, index]:
                np.testing.assert_allclose(mine[:count], expected, atol=1e-4)
            assert not mine[count if bundle.observed[i, index] else 0 :].any()
    assert not found.features["audio"][..., 0].any()


def test_test_data_move_no_other_value_and_all_else_stays() -> None:
    bundle = loud("mosi")
    features = {
        m: np.where((bundle.split == 2)[:, None], 1e3 * x, x) for m, x in bundle.features.items()
    }
    found, other = (
        standardised(bundle),
        standardised(dataclasses.replace(bundle, features=features)),
    )
    for m in bundle.modalities:
        assert np.array_equal(
            found.features[m][bundle.split < 2], other.features[m][bundle.split < 2]
        )
    assert found.ids == bundle.ids and np.array_equal(found.labels, bundle.labels)
    assert (
        found.notes["scale"] == "standardised over train"
        and found.fingerprint != bundle.fingerprint
    )


def test_folds_pictures_and_absent_modalities_are_errors() -> None:
    with pytest.raises(InputError, match="folds"):
        standardised(make_twin("iemocap4", "tiny").bundle)
    bundle = loud("mosi")
    with pytest.raises(InputError, match="vectors or frames"):
        standardised(
            dataclasses.replace(
                bundle, features={m: x[:, None, None] for m, x in bundle.features.items()}
            )
        )
    none = bundle.observed & (bundle.split != 0)[:, None]
    with pytest.raises(InputError, match="nothing in the training split"):
        standardised(dataclasses.replace(bundle, observed=none))


def test_the_import_offers_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "made"
    source.mkdir()
    lines = ["id,split,label"] + [
        f"u{i},{('train', 'valid', 'test')[i % 3]},{i % 5 - 2}" for i in range(12)
    ]
    (source / "utterances.csv").write_text("\n".join(lines), encoding="utf-8")
    for m in ("audio", "text"):
        np.save(
            source / f"{m}.npy",
            np.arange(36, dtype=np.float32).reshape(12, 3) ** (1 + (m == "text")),
        )
    for flag in ([], ["--standardise"]):
        assert (
            cli.main(
                [
                    "data",
                    "import",
                    "folder",
                    str(source),
                    "--out",
                    str(tmp_path / f"b{len(flag)}"),
                    *flag,
                ]
            )
            == 0
        )
    plain, scaled = (load_bundle(tmp_path / f"b{i}") for i in range(2))
    assert np.array_equal(standardised(plain).features["text"], scaled.features["text"])
    assert "standardise" not in plain.notes and scaled.notes["scale"]
