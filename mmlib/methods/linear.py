"""The linear row: logistic regression, or ridge regression of a score, its strength chosen on validation.

No paper has it. A network that it beats on the same features is badly trained, so it stands in every comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from mmlib.backbones.linear import Linear as LinearNet
from mmlib.errors import InputError
from mmlib.methods.plain import Peek, Plain, PlainConfig
from mmlib.nn.batch import Batch
from mmlib.nn.objectives import task_loss

WEAKEST, STRONGEST = 2.0, -4.0  # decimal logarithms of C, the inverse of the penalty's strength
ITERATIONS = 2000
ABSENT = -30.0  # the logit of a class that the training data lack


@dataclass(frozen=True)
class LinearConfig(PlainConfig):
    """It has no options of its own."""


VARIANTS: dict[str, LinearConfig] = {"paper": LinearConfig()}


class Linear(Plain):
    """Solves the linear model exactly before each epoch, with a weaker penalty each time; steps change nothing.

    So the epoch that validation picks is the strength that validation picks. Missing modalities are zeros after
    standardisation, and each has an indicator.
    """

    Config = LinearConfig
    backbone: LinearNet

    def __init__(self, *parts: object, **named: object) -> None:
        super().__init__(*parts, **named)  # type: ignore[arg-type]
        if not isinstance(self.backbone, LinearNet):
            raise InputError(
                "linear",
                f"the backbone {type(self.backbone).__name__}",
                "the backbone linear",
                "Choose it.",
            )
        self.backbone.requires_grad_(False)

    def start_epoch(self, peek: Peek) -> dict[str, Tensor]:
        """Solve for this epoch's strength, on the training data under this epoch's mask."""
        inputs, labels = self._training(peek.train())
        strength = 10.0 ** np.linspace(STRONGEST, WEAKEST, peek.epochs)[peek.epoch]
        weight, bias = solve(self.task.kind, inputs, labels, float(strength), self.task.outputs)
        prediction = self.backbone.prediction
        prediction.weight.copy_(torch.as_tensor(weight))
        prediction.bias.copy_(torch.as_tensor(bias))
        return {}

    @torch.no_grad()
    def _training(self, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
        """The layer's inputs (n, d) and the labels of the training data; standardises first."""
        self.backbone.standardise(joined(batches))
        inputs = torch.cat([self(batch).hidden for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
        return inputs.double().cpu().numpy(), labels.cpu().numpy()

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """The task loss, whose gradient reaches no parameter."""
        nothing = torch.zeros((), device=batch.labels.device, requires_grad=True)
        yield task_loss(self.task, self(batch).logits, batch.labels) + nothing


def joined(batches: list[Batch]) -> Batch:
    """Features and observed modalities of all batches in one; its layout is that of the first."""
    if len(batches) == 1:
        return batches[0]
    features = {m: torch.cat([batch.features[m] for batch in batches]) for m in batches[0].features}
    return Batch(
        features,
        torch.cat([batch.observed for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.speaker for batch in batches]),
        batches[0].layout,
    )


def solve(
    kind: str, inputs: np.ndarray, labels: np.ndarray, strength: float, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, d) and bias (outputs,) of the penalised model.

    kind: of the task. strength: C of scikit-learn, whose inverse is the penalty on the squared weights.
    """
    if kind == "score":
        model = Ridge(alpha=1 / strength).fit(inputs, labels)
        return model.coef_[None], np.atleast_1d(model.intercept_)
    if kind == "classes":
        return _logistic(inputs, labels, strength, outputs)
    each = [_logistic(inputs, answers, strength, 2) for answers in labels.T]
    return np.concatenate([w for w, _ in each]), np.concatenate([b for _, b in each])


def _logistic(
    inputs: np.ndarray, labels: np.ndarray, strength: float, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of one question with so many answers; answers that the training data lack are never given."""
    weight, bias = np.zeros((outputs, inputs.shape[1])), np.full(outputs, ABSENT)
    answers = np.unique(labels)
    bias[answers] = 0.0
    if len(answers) == 1:
        return weight, bias
    model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(inputs, labels)
    if len(answers) == 2:  # scikit-learn gives the log odds of the second
        weight[answers[1]], bias[answers[1]] = model.coef_[0], model.intercept_[0]
    else:
        weight[answers], bias[answers] = model.coef_, model.intercept_
    return weight, bias
