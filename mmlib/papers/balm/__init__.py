"""BALM's tables and figures: what the paper shows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mmlib.experiments import own
from mmlib.experiments.context import Context, Paper
from mmlib.experiments.declare import OURS, Declare, Later, no_runs
from mmlib.experiments.tables import Table
from mmlib.experiments.takes import VECTORS, Takes
from mmlib.papers.balm import analyses, claims, figures, rows, tables
from mmlib.papers.balm.choices import GUESSES, OBSTACLES
from mmlib.report.artifact import Artifact, Text, said

_declare = Declare("balm", "BALM")
_METRICS = "accuracy and weighted F1 (%)"
_ONE = own.measured("One missing rate for all modalities: {}", _METRICS)
_MSE = "KL replaced by a mean squared error (BALM-M)"


def _on(role: str, text: Text) -> Callable[[Context], str]:
    """The caption of a table of one role's data, which is not said of own data."""

    def caption(context: Context) -> str:
        data = "" if context.own else f", data in the role of {role}"
        return f"{said(context, text)}{data}."

    return caption


def _settings(context: Context) -> str:
    """Tables 1 and 2: what they show."""
    order, count = rows.order(context), len(rows.kept(context, rows.SETTINGS))
    rates = f"Six imbalanced missing rates ({order})"
    if context.given_rates:
        rates = f"The given missing rates ({order})"
    elif context.own:
        rates = f"Imbalanced missing rates ({order}), {count} settings"
    return f"{rates}: {own.metrics(context, _METRICS)}"


def _at_focus(text: str) -> Callable[[Context], str]:
    """A caption with the rates of the focus setting in the place of ``{}``."""
    return lambda context: text.format(rows.setting_of(context, rows.FOCUS))


def _subsets(context: Context) -> str:
    count = own.count(len(rows.subsets(context, context.main)))
    trained = rows.setting_of(context, rows.FOCUS)
    return f"Mean over the {count} modality subsets, trained at {trained}, with and without FCM."


def _severe(context: Context) -> str:
    if context.own:
        return f"Severe missing rates ({rows.order(context)}): up to 0.9."
    return "Severe missing rates: one modality at 0.9."


def _tuned(text: str) -> Callable[[Context], str]:
    """The caption of Table 7 or Fig 7, with the settings in the place of ``{}``."""
    settings = ("two configurations", "the given rates")
    return lambda context: text.format(settings[bool(context.given_rates)])


def _combined(number: int, metric: str, table: Table) -> Artifact:
    def caption(context: Context) -> str:
        by_name = rows.by_name(context)
        rates = f"by missing rates ({rows.order(context)})" if by_name else "at six missing rates"
        return f"Training and test with only some of the modalities, {rates}: {metric} (%)."

    return _declare.artifact(
        f"table{number}",
        "table",
        f"Table {number}",
        caption,
        table.cells,
        partial(tables.combinations, table),
        3,
        left_out=table.left_out,
        needs="iemocap",
    )


def _tsne(id_: str, title: str, what: str, part: str, panels: int, source: str = "") -> Artifact:
    draw = figures.Embeddings(part).draw
    caption = _at_focus(f"t-SNE with and without BALM at {{}}: {what}.")
    return _declare.artifact(
        id_, "figure", title, caption, figures.tsne_cells, draw, panels, source, varies=True
    )


def _along_training(number: int, figure: figures.Discrepancies) -> Artifact:
    id_, title = f"fig{number}", f"Fig {number}"
    return _declare.artifact(
        id_, "figure", title, figure.caption, figure.cells, figure.draw, 4, any_score=True
    )


ARTIFACTS: tuple[Artifact, ...] = (
    _declare.artifact(
        "fig1",
        "figure",
        "Fig 1",
        "Realised missing rates of each modality under a shared rate of 0.5.",
        no_runs,
        figures.missing_rates,
        3,
    ),
    _declare.artifact(
        "fig2",
        "figure",
        "Fig 2",
        figures.against_shared,
        figures.shared_cells,
        figures.shared_against_imbalanced,
        6,
    ),
    _declare.table(
        "table1", "Table 1", _on("IEMOCAP", _settings), tables.TABLE1, 13, needs="iemocap"
    ),
    _declare.table(
        "table2", "Table 2", _on("CMU-MOSEI", _settings), tables.TABLE2, 12, needs="mosei"
    ),
    _declare.artifact(
        "table3",
        "table",
        "Table 3",
        _subsets,
        tables.TABLE10.cells,
        tables.average,
        2,
        any_score=True,
    ),
    _declare.table("table4", "Table 4", _severe, tables.TABLE4, 3),
    _declare.artifact(
        "fig4",
        "figure",
        "Fig 4",
        "Weighted F1 against the shared missing rate.",
        figures.rate_cells,
        figures.shared_rates,
        5,
    ),
    _declare.artifact(
        "fig5",
        "figure",
        "Fig 5",
        "Discrepancy of each modality during training: backbone alone, +FCM, +BALM.",
        figures.FIG5.cells,
        figures.FIG5.draw,
        6,
        any_score=True,
    ),
    _declare.artifact(
        "fig6",
        "figure",
        "Fig 6",
        "Gain of BALM for each combination of modalities.",
        tables.TABLE9.cells,
        figures.combination_gains,
        2,
        needs="iemocap",
    ),
    _declare.artifact(
        "table7",
        "table",
        "Table 7",
        _tuned("Weighted F1 over tau and rho under {}."),
        tables.grid_cells,
        tables.grid_table,
        10,
    ),
    _declare.artifact(
        "fig7",
        "figure",
        "Fig 7",
        _tuned("Sensitivity to tau and rho under {}."),
        tables.grid_cells,
        figures.sensitivity,
        2,
    ),
    _declare.artifact(
        "fig8-variants",
        "figure",
        "Fig 8 (variants)",
        "Discrepancy of each modality during training: distribution-driven part "
        "alone, spatial part alone, both.",
        figures.FIG8.cells,
        figures.FIG8.draw,
        6,
        "BALM Fig 8 (first)",
        any_score=True,
    ),
    _combined(8, "accuracy", tables.TABLE8),
    _combined(9, "weighted F1", tables.TABLE9),
    _tsne(
        "fig8-tsne",
        "Fig 8 (t-SNE)",
        "the input of the backbone",
        "input",
        6,
        "BALM Fig 8 (second)",
    ),
    _tsne("fig9", "Fig 9", "the embeddings z", "z", 6),
    _tsne("fig10", "Fig 10", "the fused representation h", "hidden", 2),
    _declare.table(
        "table10",
        "Table 10",
        _at_focus(
            "Each modality subset on complete test data, trained at {}, with and without FCM."
        ),
        tables.TABLE10,
        2,
    ),
    _declare.table("table11", "Table 11", _on("IEMOCAP", _ONE), tables.TABLE11, 5, needs="iemocap"),
    _declare.table("table12", "Table 12", _on("CMU-MOSEI", _ONE), tables.TABLE12, 5, needs="mosei"),
    _declare.table(
        "table13",
        "Table 13",
        "Ablation of the gradient rebalancing module: each of its two parts alone.",
        tables.TABLE13,
        2,
    ),
    _declare.table("table14", "Table 14", _on("IEMOCAP", _MSE), tables.TABLE14, 3, needs="iemocap"),
    _declare.table("table15", "Table 15", _on("CMU-MOSEI", _MSE), tables.TABLE15, 3, needs="mosei"),
    *(_along_training(number, figure) for number, figure in enumerate(figures.ALONG_TRAINING, 11)),
    _declare.main(tables.MAIN),
    _declare.claims(claims.CLAIMS, source="ours, on BALM's text"),
    _declare.artifact(
        "what-the-protocol-buys",
        "table",
        "Effect of selecting on test",
        "The same runs evaluated at the epoch chosen on validation, at the epoch "
        "chosen on test, and at the last epoch.",
        analyses.protocol_cells,
        analyses.protocol,
        source=OURS,
    ),
    _declare.artifact(
        "paper-or-released",
        "table",
        "Paper against released code",
        "All eight combinations of masks, spatial loss and gradient noise, each as "
        "printed or as released.",
        rows.factor_cells,
        analyses.factors,
        source=OURS,
    ),
    _declare.artifact(
        "of-the-best-possible",
        "table",
        "Share of the best possible accuracy",
        "Accuracy as a percentage of the Bayes accuracy, by modality subset.",
        analyses.best_cells,
        analyses.of_the_best,
        source=OURS,
        needs="twins",
    ),
    _declare.table(
        "controls",
        "Control experiments",
        _at_focus(
            "Other readings of the paper, and control experiments that it does not have, at {}."
        ),
        tables.CONTROLS,
    ),
    _declare.table(
        "forms",
        "Versions of the backbones",
        _at_focus("Official, released and other versions of each backbone, at {}."),
        tables.FORMS,
    ),
    _declare.artifact(
        "theory",
        "table",
        "Supplement B, measured",
        "Each claim of the supplement beside the measured value.",
        no_runs,
        Later("mmlib.papers.balm.theory", "theory"),
        source="ours, on BALM supplement B",
        any_score=True,
        needs=own.about_the_paper("the paper's statements are measured on synthetic data"),
    ),
    _declare.artifact(
        "cost",
        "table",
        "Cost of BALM",
        "Parameters and time per training step, compared with the backbone alone.",
        no_runs,
        Later("mmlib.papers.balm.cost", "cost"),
        source=OURS,
        any_score=True,
        needs=own.about_the_paper("networks are counted and timed with the paper's features"),
    ),
)

PAPER = Paper(
    "balm",
    "BALM",
    "BALM: balanced multimodal learning under imbalanced missing rates",
    "01_balm.ipynb",
    rows.ROLES,
    {"": Takes((VECTORS,))},
    rows.BACKBONES,
    ARTIFACTS,
    OBSTACLES,
    guesses=GUESSES,
    left_out="no printed row; the other systems are short readings of ours over the same features (`docs/systems.md`).",
    rated=True,
)
context = PAPER.context
