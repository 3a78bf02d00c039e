"""What a run's training knows of the missingness that it is tested under, read from its specification.

MissMAC-Bench (arXiv 2602.00811) asks for two rules: no prior knowledge of the missingness in training, and one model
for complete and incomplete input. The grades are a reading of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmlib.masks import Law, is_random, nominal_rates
from mmlib.runs.spec import RunSpec

NONE, GENERIC, MATCHED = GRADES = ("none", "generic", "matched")  # from the least to the most


def prior(spec: RunSpec, modalities: Sequence[str], tests: Iterable[str] = ()) -> str:
    """What training, validation and every earlier stage know of some test masks, of all where none are named.

    ``none``: they see complete data alone. ``matched``: one of them has a test's law, or missing rates. ``generic``:
    they see something missing, but no test's law and rates. What a method hides by itself is not seen here.

    modalities: the data's.
    """
    seen = [law for law in _seen(spec) if not _hides_nothing(law)]
    if not seen:
        return NONE
    named = set(tests)
    tested = [law for name, law in spec.eval_masks if not named or name in named]
    known = any(_alike(law, test, modalities) for law in seen for test in tested)
    return MATCHED if known else GENERIC


def most(specs: Iterable[RunSpec], modalities: Sequence[str], tests: Iterable[str] = ()) -> str:
    """The most that training knows in any of some runs, one or more; modalities, tests: as in ``prior``."""
    named = tuple(tests)
    known = {prior(spec, modalities, named) for spec in dict.fromkeys(specs)}
    return max(known, key=GRADES.index)


def serves_all(answering: Iterable[RunSpec]) -> bool:
    """Whether with each seed and fold one run answers all conditions; answering: the runs behind them."""
    places: dict[tuple[int, int | None], list[RunSpec]] = {}
    for spec in answering:
        places.setdefault((spec.seed, spec.fold), []).append(spec)
    return all(map(one_model, places.values()))


def one_model(answering: Iterable[RunSpec]) -> bool:
    """Whether one run answers all conditions; answering: the run behind each of them."""
    return len(set(answering)) == 1


def _seen(spec: RunSpec) -> list[Law]:
    """The laws of training and validation, of this stage and those before."""
    own = [spec.train_mask, spec.valid_mask or spec.train_mask]
    return own if spec.parent is None else own + _seen(spec.parent)


def _hides_nothing(law: Law) -> bool:
    return law.kind == "complete"


def _alike(law: Law, test: Law, modalities: Sequence[str]) -> bool:
    """Whether two laws are one but for how often they are drawn, or random ones with the same rates, not all 0."""
    if _hides_nothing(test):
        return False
    if _undrawn(law) == _undrawn(test):
        return True
    if not (is_random(law) and is_random(test)):
        return False
    rates, of_test = nominal_rates(law, modalities), nominal_rates(test, modalities)
    return rates == of_test and any(rates.values())


def _undrawn(law: Law) -> tuple[object, ...]:
    return law.kind, law.rates, law.modalities, law.rate, law.layout, law.parameters
