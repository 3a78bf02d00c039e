"""The page of the mechanisms of missingness: ``python docs/mechanisms.py`` writes it and its pictures anew.

``--check`` writes nothing and ends with 1 where the page is not that of the present laws, or a picture is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmlib import masks
from mmlib.report import mechanisms
from mmlib.report.artifact import figure_bytes
from mmlib.report.markup import markdown_table
from mmlib.report.mechanisms import RATE, SHOWN, SLOPE, SOURCE, TARGET, Shown

PAGE = Path(__file__).with_name("mechanisms.md")
PICTURES = PAGE.with_suffix("")
DPI = 160
MEAN_RATE = 1 / 3
HEAD = f"""# Why modalities are missing, and what that changes

A camera that fails at random, a clip that nobody could understand, a patient who does not want to be filmed when she
is sad: in all three the video is missing, and a table of results that says "missing rate 0.5" treats them alike. They
are not alike. In the last one, *that* the video is missing says something about the answer.

Rubin (1976) gave the three cases their names, by what the chance to be missing depends on.

* **Missing completely at random (MCAR):** on nothing.
* **Missing at random (MAR):** on what is observed, and given that on nothing else.
* **Missing not at random (MNAR):** on what is missing itself, or on the label.

In `mmlib` each is a [law](glossary.md#law), and on the [twins](glossary.md#twin) the best possible prediction under
each is known exactly, for a method that knows the law and for one that only looks at what it is shown. So "how much
did the method lose?" has an answer, and "how much could anybody have kept?" too.

## One formula

Utterance *i* lacks modality *m* where a uniform number falls below

$$\\pi_m(z) = \\Phi(a z + b_m).$$

* *z* is a **score**: what the mechanism looks at, as one number with mean 0 and standard deviation 1 over training.
* *a* is the **slope**: how much it matters. At 0 nothing matters; at infinity there is a threshold.
* *b* is solved such that the mean chance over training is the **rate** that was asked for, and is then fixed. It is
  one function for all splits, so another split's rate is whatever that function gives there; `masks.audit` prints
  both.
* $\\Phi$ is the normal distribution function, which makes the best possible prediction a formula and not a
  simulation.

The uniform numbers depend on seed, split, modality and epoch alone. So masks of two mechanisms, or of two slopes,
differ only where the mechanisms do, and with slope 0 every mechanism that has no candidates is `mcar`, bit for bit.

The score of a modality's **content** is, on a twin, its position on the axis along which the classes lie furthest
apart; on other data it is the first principal axis of the training features. An utterance that would lose everything
gets one modality back, at random; `masks.restored` names these utterances.

```python
from mmlib import masks
from mmlib.data.catalog import open_twin

twin = open_twin("twin:iemocap6@quick")
law = masks.mnar_self(0.5, slope=2)
mask = masks.draw(law, twin.bundle, "test", seed=0)
known = masks.fitted(law, twin.bundle).missingness
print(twin.best("test", mask.utterance, "accuracy"))  # what is shown, and no more
print(twin.best("test", mask.utterance, "accuracy", law=known))  # and how it came to be shown
```

## The mechanisms

Every picture is about the *{TARGET}* of a twin, at rate {RATE:g}, and has three panels: **what decides** (the chance
to be missing against the score, for several slopes), **what is lost** (the {TARGET}'s content where it is observed
and where it is missing, at slope {SLOPE:g}), and **what the mask says** (the share of each class that lacks {TARGET};
the dashed line is the share of all).
"""
TEXTS = {
    "mcar": (
        "`masks.mcar(rate)`. A cable that comes loose. The two histograms have one shape, and all classes lose "
        "as much: "
        "the observed utterances are a fair sample of all. Nearly every protocol in the literature is of this kind, "
        "under whatever name (`shared`, `imbalanced`, `random`, `keep_one`, `coins` and `fixed_subsets` here): they "
        "differ in their patterns, not in their mechanism."
    ),
    "mar_anchor": (
        f"`masks.mar_anchor(rate, slope, source)`. A camera that is switched on when the words sound interesting. The "
        f"{SOURCE} decides, and is never missing itself. The histograms differ, since {TARGET} and {SOURCE} go "
        f"together; but "
        f"among utterances whose {SOURCE} is alike they do not. A model that reads the {SOURCE} knows all that "
        f"the mask "
        "could tell it. Accuracy by pattern is not comparable with that under another law, for each pattern is now a "
        "selection of easy or of hard utterances."
    ),
    "mar_candidates": (
        "`masks.mar_candidates(rate, slope)`. The same without an anchor. Every utterance is dealt one candidate, "
        "and the *other* modalities decide whether it goes missing (after `ampute` of the R package mice). Any "
        "modality "
        "can be missing, never more than one at once, and what decides is always still there. The rates must sum "
        "to less "
        f"than 1; here they are {RATE / 2:g} each, and the curve is the chance of the candidate."
    ),
    "mnar_self": (
        "`masks.mnar_self(rate, slope)`. A person who turns the microphone off when they are about to shout. "
        "What is lost is "
        "what would have been seen: the middle panel is cut in two, and the right one shows that missingness has "
        "become "
        "evidence about the class. A model that fills the gap with an average has thrown it away."
    ),
    "mnar_self_nuisance": (
        '`masks.mnar_self(rate, slope, axis="nuisance")`, on twins. The modality\'s own content decides again, '
        "so this is "
        "missing not at random; but the part that decides (a room's hum, say) has nothing to do with the class. The "
        "panels look like those of `mcar`, and knowing the law is worth nothing. *Not at random* and *informative* are "
        "two different things."
    ),
    "mnar_quality": (
        "`masks.mnar_quality(rate, slope)`. A face detector that gives up on blurred faces. Quality is what was "
        "planted (audio-visual twins), how many raters agree (`crema-d-votes`), or how many frames there are. Where "
        "quality does not depend on the class, the mask does not tell of the class either. It tells of *reliability*: "
        "what is lost lies near the middle, since there was little in it, and what is still there is better than what "
        "a model was trained on. The picture is of an audio-visual twin, where quality was planted."
    ),
    "mnar_label": (
        "`masks.mnar_label(rate, slope)`. A clinic that films only the patients whom it thinks ill. The label decides, "
        "without any way through the content: here the most frequent class loses most and the second least. The "
        "mask alone "
        "classifies, and where training has the same law a network that is told the mask will learn to use it. "
        "Accuracies under this law say little without those of a method that does not read the mask. The label is "
        "needed to *simulate* the law; no training code sees it."
    ),
    "mnar_cross": (
        f"`masks.mnar_cross(rate, slope, source)`. `mar_anchor` with one change: the {SOURCE} may be missing too (here "
        f"completely at random). Where it is there, the {TARGET}'s mask tells nothing new; where it is not, "
        f"the {TARGET}'s mask is a faint trace of the lost {SOURCE}. From the data alone it can hardly be told "
        f"from an anchor."
    ),
}
EVIDENCE = """## What the best possible prediction does with a mask

Two predictions are called "best", and they answer two questions.

* The **blind** one, p(y | x): the class given the observed content x. It is `twin.bayes(split, mask)`.
* The one that **knows the law**, p(y | x, e): the class given x *and* the pattern e of what is missing. It is
  `twin.bayes(split, mask, law=known)`.

Bayes' rule joins them: p(y | x, e) is proportional to p(y | x) · P(e | x, y). The last factor is the **evidence of
the mask**. If it is the same for all classes the two predictions are one, and the missingness is *ignorable* for
prediction.

| mechanism | does P(e \\| x, y) depend on y? | so |
|---|---|---|
| `mcar` | no | the blind prediction is the best |
| `mar_anchor`, `mar_candidates` | no: x says all that decides | the same; but each pattern selects utterances |
| `mnar_self` | yes, through what is missing | missingness is evidence |
| `mnar_self`, nuisance | no | not at random, and yet ignorable |
| `mnar_quality` | no, where quality is independent of the class | the class is not told, reliability is |
| `mnar_label` | yes, through what is missing and what is observed | the mask alone classifies |
| `mnar_cross` | yes, where the source is missing | as `mnar_self`, but fainter |

On a twin the missing score is Gaussian given the class and what is observed, with mean μ and variance τ². The mean of
Φ(az + b) over it is again a normal distribution function, Φ((aμ + b) / √(1 + a²τ²)). With two modalities missing it
is the bivariate one, with correlation a₁a₂c / √((1 + a₁²τ₁²)(1 + a₂²τ₂²)), where c is the covariance of the two
scores; with more, it is sampled (`data.evidence.orthant`, which returns the standard error). An utterance with a
single modality may be one that got it back; the formula counts that too. The logarithm is added to the likelihood of
what is observed, before the dialogue is smoothed.
"""
TABLE = f"""### In numbers

On the test split of `twin:iemocap6@study`, at slope {SLOPE:g}; of {TARGET}. The *areas* (AUC) compare missing with
observed utterances: 0.5 is no difference. *Within* compares only utterances whose deciding scores are alike. *Bits*
is the information of the whole pattern about the class, less what chance gives; under MAR there is some too, but the
observed content holds it already, and knowing the law adds nothing. The last two columns are expected
accuracies in percent of an utterance by itself: of the best prediction that does not read the mask, and of the one
that knows the law.
"""
EFFECT = """### How much the slope matters

The same two accuracies by slope, for modalities that mask themselves and for the label. At slope 0 they are one. The
steeper the curve, the more the mask says, and the more a prediction loses that does not read it. The column *mask not
read* moves too, since other utterances are then left with little.
"""
SHARES = f"""## One rate, many protocols

Two protocols with one missing rate may differ many times in how many utterances are *complete*, and a method that
needs complete utterances, or pairs, meets another problem in each. All laws below ask for a mean rate of
{MEAN_RATE:.2f}. `masks.completeness` gives these shares of any mask, and `mmlib data check` those of data that lack
modalities themselves.
"""
LIMITS = """## Audits, and what to look out for

`masks.audit` gives rates; `masks.dependence` the areas, with intervals; `masks.information` what the mask says of the
label, with a permutation test; `masks.completeness` the shares of complete rows and pairs.

* **Utterances that got a modality back** make every mechanism a little not at random: a row that shows {target} may
  show it because all else was lost. `mar_anchor` and `mar_candidates` never empty a row, so claims about MAR should
  use those.
* **At one rate, another slope changes the share of complete rows**, too. Print it beside the rate.
* **A principal axis is not a class axis.** On real data the score is where the features vary most; whether the mask
  then says something of the class is what `masks.information` measures.
* **The best prediction knows the law.** A trained method can only know it if it was trained under it. That a method
  falls behind the column *law known* under a law that it never saw is no fault of its own; that it falls behind *mask
  not read* is.
* **One law in training, another at test.** The figure *Missing not at random* of the
  [side by side](../notebooks/06_side_by_side.ipynb) (`mmlib report --paper side_by_side --artifact matrix`) trains
  every method under four laws of one rate and tests it under all four, in percent of both best predictions. On
  `crema-d-votes` a fifth law is that of quality, the raters' agreement; there the figure is of weighted F1.
* **Stretches of frames** go missing with `masks.segment(rate)`: one run of frames in each modality, as a sensor that
  fails for a while leaves it.

The laws that all of this obeys are tests: `tests/test_mechanism.py` and `tests/data/test_evidence.py`, where every
formula is held against counting, integration or enumeration. `python docs/mechanisms.py` writes this page and its
pictures.
"""


def section(shown: Shown) -> str:
    """A mechanism's text and picture."""
    alt = f"Three panels for {shown.name}: what decides, what is lost, what the mask says of the class"
    return f"### `{shown.name}`\n\n{TEXTS[shown.name]}\n\n![{alt}](mechanisms/{shown.name}.png)"


def tables() -> tuple[str, str, str]:
    """The numbers of the mechanisms, of the slopes, and of protocols with one rate, as Markdown."""
    numbers = mechanisms.overview()
    percent = [name for name in map(str, numbers) if name.startswith("best")]
    slopes = mechanisms.effects(
        {
            "mnar_self": lambda slope: masks.mnar_self(RATE, slope),
            "mnar_label": lambda slope: masks.mnar_label(RATE, slope),
        }
    )
    third = MEAN_RATE
    shares = mechanisms.completeness(
        {
            "`mcar`": masks.mcar(third),
            "`mnar_self`, slope 2": masks.mnar_self(third, 2.0),
            "`mnar_label`, slope 2": masks.mnar_label(third, 2.0),
            "`mar_anchor`, slope 2": masks.mar_anchor(
                {"audio": 1.5 * third, "text": 0.0, "vision": 1.5 * third}, 2.0, "text"
            ),
            "`mar_candidates`, slope 2": masks.mar_candidates(0.999 * third, 2.0),
            "`keep_one`": masks.keep_one(1.5 * third),
            "`coins`": masks.coins(2 * third),
            "`fixed_subsets`": masks.fixed_subsets(2 * third),
        }
    )
    return (
        _rounded(numbers, {name: 1 for name in percent}, 3),
        _rounded(slopes, {}, 1),
        _rounded(shares, {}, 2),
    )


def _rounded(frame: pd.DataFrame, decimals: Mapping[str, int], others: int) -> str:
    text = frame.astype(object)
    for name in frame.select_dtypes("number").columns:
        places = decimals.get(str(name), others)
        text[name] = [f"{value:.{places}f}" for value in frame[name]]
    return markdown_table(text, escaped=True)


def page() -> str:
    """The page as Markdown."""
    numbers, slopes, shares = tables()
    limits = LIMITS.format(target=TARGET)
    parts = [HEAD, *map(section, SHOWN), EVIDENCE, TABLE, numbers, EFFECT, slopes, SHARES, shares]
    return "\n\n".join(part.strip() for part in [*parts, limits]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page and its pictures, or with ``--check`` say whether they are current."""
    made = page()
    files = {shown.name: PICTURES / f"{shown.name}.png" for shown in SHOWN}
    if "--check" in arguments:
        there = all(path.exists() for path in files.values())
        return int(not there or not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made)
    PICTURES.mkdir(exist_ok=True)
    for shown in SHOWN:
        picture = mechanisms.picture(shown)
        files[shown.name].write_bytes(figure_bytes(picture, "png", dpi=DPI))
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
