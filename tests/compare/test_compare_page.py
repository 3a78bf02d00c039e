"""What a comparison's page says: leads with both intervals and units, errors as errors, no line that says nothing."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path
from types import SimpleNamespace

import mistune
import numpy as np
import pandas as pd
import pytest

from mmlib import masks
from mmlib.compare import facts, order, page, picture, scored
from mmlib.compare.plan import MAJORITY, Plan, Question, planned
from mmlib.compare.race import Standing
from mmlib.compare.results import Results, over_clusters
from mmlib.data.bundle import Task
from mmlib.data.catalog import open_twin
from mmlib.papers import side_by_side
from mmlib.papers.side_by_side import tables as costs
from mmlib.papers.side_by_side.grounds import Ground
from mmlib.report.artifact import FailedRun
from mmlib.report.stats import Interval
from mmlib.runs.store import Store

BEST, SECOND = "linear model, complete", "MMGCN, complete"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    store = Store(tmp_path_factory.mktemp("runs"))
    context = side_by_side.context("smoke", {"iemocap6": "twin:iemocap6@smoke"}, store=store)
    return planned(context, Ground("iemocap"))


def made_of(
    plan: Plan,
    levels: dict[str, float],
    seeds: dict[str, int],
    sd: float = 0.2,
    majority: float = 3.0,
) -> Results:
    """Results with given means, exact over the seeds, whose deviations are the same for nobody."""
    lines = []
    for place, (name, level) in enumerate({**levels, MAJORITY: majority}.items()):
        count = seeds.get(name, max(seeds.values()))
        noise = np.random.default_rng(place).normal(size=count)
        noise = sd * (noise - noise.sum() / max(1, count))
        lines += [
            {"contender": name, "condition": q, "seed": s, "value": level + noise[s]}
            for q, _ in plan.tests
            for s in range(count)
        ]
    frame = pd.DataFrame(lines)
    specs = {c.name: plan.specs(c, range(seeds.get(c.name, 0))) for c in plan.contenders}
    return Results(plan, frame, specs, {})


def few(plan: Plan, *names: str) -> Plan:
    return dataclasses.replace(
        plan, contenders=tuple(c for c in plan.contenders if c.name in names)
    )


def scored_plan(plan: Plan) -> Plan:
    """The comparison as of scores without a sign."""
    bundle = dataclasses.replace(plan.bundle, task=Task("score", range=(1.0, 7.0), signed=False))
    given = {**vars(plan.context), "bundle": lambda _: bundle, "folds": lambda _: [None]}
    return dataclasses.replace(plan, context=SimpleNamespace(**given))


def over(low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interval over other speakers be this one."""
    interval = Interval((low + high) / 2, low, high, 100, 20)
    monkeypatch.setattr(page, "over_clusters", lambda *given: ("speakers", interval))


def test_a_lead_that_other_speakers_do_not_confirm_is_a_lead_and_not_the_best(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_of(few(plan, BEST, SECOND), {BEST: 80.6, SECOND: 79.1}, {BEST: 5, SECOND: 5})
    question = made.plan.questions[0]
    over(-0.1, 3.1, monkeypatch)
    doubtful = page.sentence(made, question)
    assert f"{BEST} (weighted F1 80.6 %) leads, not decided over other speakers." in doubtful
    assert f"next, {SECOND}: +1.5 [" in doubtful
    assert (
        "points of weighted F1 over seeds, +1.5 [-0.1, +3.1] points of accuracy over speakers"
        in (doubtful)
    )
    over(0.1, 2.9, monkeypatch)
    sure = page.sentence(made, question)
    assert f"{BEST} (weighted F1 80.6 %) is the best." in sure and "+1.5 [+0.1, +2.9]" in sure
    apart = made.of(question)[BEST] - made.of(question)[SECOND]
    half = 2.776 * apart.std() / np.sqrt(5)  # Student's t with 4 degrees of freedom
    assert f"[{1.5 - half:+.1f}, {1.5 + half:+.1f}] points of weighted F1" in sure


def test_a_leader_that_waits_is_named_with_its_seeds(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(0.1, 2.9, monkeypatch)
    third = "GCNet, complete"
    made = made_of(
        few(plan, BEST, SECOND, third),
        {BEST: 80.6, SECOND: 79.1, third: 85.9},
        {BEST: 5, SECOND: 5, third: 1},
    )
    told = page.sentence(made, made.plan.questions[0])
    assert "is the best so far" in told
    assert f"1 of 3 contenders have fewer than 5 seeds; of these {third} has a better mean" in told
    line = page.contenders_table(made).set_index("contender").loc[third]
    assert line["seeds"] == 1 and line["complete data"] == "85.9"


def test_an_error_is_shown_as_an_error_and_the_axis_is_reversed(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(0.01, 0.09, monkeypatch)
    levels = {BEST: 0.85, SECOND: 0.90}
    made = made_of(few(plan, *levels), levels, dict.fromkeys(levels, 5), 0.002, 1.25)
    made = dataclasses.replace(made, plan=scored_plan(made.plan))
    assert made.metric == "mae"
    for axis in picture.draw(made).axes:
        left, right = axis.get_xlim()
        assert left > right, "better is to the right"
        means = [float(x.get_xdata()[0]) for x in axis.lines if x.get_markersize() == 4]
        assert means == pytest.approx([0.85, 0.90])
        assert axis.get_xlabel().startswith("mean absolute error (lower is better)\nmajority: 1.25")
    told = page.sentence(made, made.plan.questions[0])
    assert f"{BEST} (mean absolute error 0.850) is the best." in told
    assert "its error smaller by +0.050 [" in told
    assert "+0.050 [+0.010, +0.090] over speakers, in the unit of the score" in told
    monkeypatch.setattr(page, "cost_table", lambda of: pd.DataFrame())
    texts = {part.title: part.text for part in page.sections(made)}
    assert "lower is better" in texts["All contenders"]
    assert "lower is better" in texts["By test condition"]
    assert "its mean absolute error is smaller" in texts["The best against the others"]
    assert "minus" not in str(texts)


def test_every_contender_with_a_seed_is_drawn_and_no_marker_stands_on_the_edge(plan: Plan) -> None:
    levels = {c.name: 60.0 + place for place, c in enumerate(plan.contenders)}
    seeds = {name: 1 + place % 5 for place, name in enumerate(levels)}
    for axis in picture.draw(made_of(plan, levels, seeds)).axes:
        points = [line for line in axis.lines if line.get_markersize() == 4]
        assert sorted(float(p.get_xdata()[0]) for p in points) == pytest.approx(
            sorted(levels.values())
        )
        (low, high), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        for point in points:
            x, y = float(point.get_xdata()[0]), float(point.get_ydata()[0])
            assert low + 0.02 * (high - low) < x < high - 0.02 * (high - low)
            assert bottom + 0.3 <= y <= top - 0.3


def test_pairs_of_few_seeds_and_empty_rows_are_left_out(plan: Plan) -> None:
    levels = {c.name: 60.0 + place / 10 for place, c in enumerate(plan.contenders)}
    one = made_of(plan, levels, dict.fromkeys(levels, 1))
    assert page.against_table(one).empty and page.missing_table(one).empty
    none = made_of(plan, levels, {BEST: 1, **{n: 0 for n in levels if n != BEST}})
    assert list(page.contenders_table(none)["contender"]) == [BEST, MAJORITY]
    assert SECOND in page._no_time(none)


def test_the_table_of_pairs_is_short_and_says_how_many_more_there_are(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    over(-1, 1, monkeypatch)
    levels = {c.name: 60.0 + place / 100 for place, c in enumerate(plan.contenders)}
    made = made_of(plan, levels, dict.fromkeys(levels, 5), sd=2.0)
    table = page.against_table(made)
    assert table.groupby("question").size().max() <= page.RIVALS + 2
    for question, standing in made.standings.items():
        assert len(standing.open) > page.RIVALS + 1
        assert f"{len(standing.open) - 1 - page.RIVALS} on {question}" in page._unshown(made)


def test_the_cost_table_counts_the_linear_models_weights_as_its_parameters(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "learning rate": "0.01",
        "epochs": "1 + 1",
        "parameters, trained": "0",
        "frozen": "291",
    }
    monkeypatch.setattr(costs, "given", lambda *of: given)
    made = made_of(few(plan, BEST), {BEST: 80.0}, {BEST: 1})
    (line,) = page.cost_table(made).to_dict("records")
    assert (line["parameters"], line["frozen"], line["epochs"]) == ("291", "-", "-")
    texts = {part.title: part.text for part in page.sections(made)}
    assert "with a +, of its stages one after the other" in texts["Cost"]


def test_the_report_of_no_run_at_all_can_be_written(plan: Plan, tmp_path: Path) -> None:
    none = Results(plan, pd.DataFrame(columns=["contender", "condition", "seed", "value"]), {}, {})
    page.write_report(none, tmp_path, facts.Notes("mmlib compare mine --minutes 1"))
    text = (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert "too few seeds for an answer" in text and "mmlib compare mine" in text


def test_runs_of_an_older_version_of_the_code_are_named_by_their_records_and_made_again_with_more(
    plan: Plan,
) -> None:
    made = made_of(few(plan, BEST, SECOND), {BEST: 80.0, SECOND: 79.0}, {BEST: 1, SECOND: 1})
    (old,) = made.specs[SECOND]
    made = dataclasses.replace(made, ids={old: "0123-old"})
    assert page.run_ids(made)[SECOND] == ["0123-old"]
    assert facts.older_told(made).startswith("1 of 1 runs were made by an older version")
    again = order.first_look(made, {BEST: 1.0, SECOND: 1.0}, 100.0)
    assert [s.seed for s in again if s.backbone == old.backbone] == [0, 1, 2, 3, 4]
    assert [s.seed for s in again if s.backbone == "linear"] == [1, 2, 3, 4]


def test_every_line_says_what_training_knew_and_whether_one_model_serves_all(plan: Plan) -> None:
    mixed = "linear model, mixed combinations"
    made = made_of(few(plan, BEST, mixed), {BEST: 80.0, mixed: 80.0}, {BEST: 5, mixed: 5})
    tables = (page.contenders_table, page.conditions_table, page.missing_table, page.cost_table)
    for table in tables:
        known = table(made).set_index("contender")[["prior", "one model"]]
        assert known.loc[BEST].tolist() == ["none", "yes"]
        assert known.loc[mixed].tolist() == ["generic", "yes"]
    contenders = page.contenders_table(made).set_index("contender")
    assert contenders.loc[MAJORITY, "prior"] == "none"
    (law,) = {c.law for c in made.plan.contenders if c.name == mixed}
    of_test = {
        c: dataclasses.replace(s, eval_masks=(("own", law),)) for c, (s, *_) in made.specs.items()
    }
    asked = dataclasses.replace(made.plan, questions=(Question("own", (("own", law),)),))
    matched = dataclasses.replace(made, plan=asked, specs={c: [s] for c, s in of_test.items()})
    assert scored.flags(matched, mixed) == {"prior": "matched", "one model": "yes"}
    apart = [
        dataclasses.replace(s, eval_masks=(pair,))
        for s in made.specs[BEST]
        for pair in s.eval_masks
    ]
    assert scored.flags(dataclasses.replace(made, specs={BEST: apart}), BEST)["one model"] == "no"


def by_condition(made: Results, step: float) -> Results:
    """The same with values that fall from one condition to the next, differently with each seed."""
    values = made.values.copy()
    places = values["condition"].map({name: i for i, (name, _) in enumerate(made.plan.tests)})
    values["value"] -= step * places * (1 + values["seed"])
    return dataclasses.replace(made, values=values)


def test_scores_are_counted_by_hand_and_held_to_the_best_possible(plan: Plan) -> None:
    made = by_condition(made_of(few(plan, BEST), {BEST: 40.0}, {BEST: 5}, sd=4.0), 0.3)
    (line,) = scored.table(made, [BEST]).to_dict("records")
    wide = made.values[made.values["contender"] == BEST].pivot_table(
        index="seed", columns="condition", values="value"
    )
    complete = wide.pop("all modalities")
    mean, worst = wide.mean(axis=1), wide.min(axis=1)
    area = (
        0.15 * complete + 0.3 * wide["shared rate 30 %"] + 0.15 * wide["shared rate 60 %"]
    ) / 0.6
    by_hand = {
        "complete": complete,
        "mean": mean,
        "worst": worst,
        "drop": complete - mean,
        "area": area,
    }
    best = scored.bests(made, [BEST])
    twin, law = open_twin("twin:iemocap6@smoke"), masks.subset(["audio"])
    mask = masks.draw(law, twin.bundle, "test", 0).utterance
    assert best["audio alone"] == pytest.approx(twin.best("test", mask, "weighted_f1")[1])
    share = (100 * wide / pd.Series(best)).min(axis=1).mean()
    for name, values in by_hand.items():
        shown = [float(part) for part in line[name].split(" (")[0].split(" ± ")]
        assert shown == pytest.approx([values.mean(), values.std()], abs=0.051)
    assert line["worst"].endswith(f"({share:.1f})")
    assert "of the best possible" in scored.told(made, "points")


def test_errors_keep_their_sign_and_a_drop_is_how_much_worse(plan: Plan) -> None:
    made = by_condition(made_of(few(plan, BEST), {BEST: 0.85}, {BEST: 5}, sd=0.1), -0.01)
    made = dataclasses.replace(made, plan=scored_plan(made.plan))
    (line,) = scored.table(made, [BEST]).to_dict("records")
    wide = made.values[made.values["contender"] == BEST].pivot_table(
        index="seed", columns="condition", values="value"
    )
    complete = wide.pop("all modalities")
    assert line["worst"].startswith(f"{wide.max(axis=1).mean():.3f} ±")
    assert line["drop"].startswith(f"{(wide.mean(axis=1) - complete).mean():.3f} ±")
    assert "best possible" not in scored.told(made, "points") and "(" not in line["mean"]


def with_bundle(made: Results, **changes: object) -> Results:
    """The same results as of changed data; each run stands under the id that it had."""
    bundle = dataclasses.replace(made.plan.bundle, **changes)
    context = SimpleNamespace(**{**vars(made.plan.context), "bundle": lambda _: bundle})
    context.folds = lambda _: [None]
    context.reference = made.plan.context.reference
    return dataclasses.replace(made, plan=dataclasses.replace(made.plan, context=context))


def with_speakers(made: Results, speakers: int) -> Results:
    """The same with so many test speakers, and no dialogues."""
    bundle = made.plan.bundle
    alone, tested = np.arange(len(bundle)), bundle.split == 2
    people = np.where(tested, alone % speakers, 100 + alone // 20)
    return with_bundle(made, speaker=people, dialogue=alone)


@pytest.mark.parametrize(
    ("speakers", "whose"), [(1, "the same speaker"), (3, "the same 3 speakers")]
)
def test_an_interval_over_utterances_of_few_speakers_says_nothing_of_others(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, speakers: int, whose: str
) -> None:
    made = made_of(few(plan, BEST, SECOND), {BEST: 80.6, SECOND: 79.1}, {BEST: 5, SECOND: 5})
    made = with_speakers(made, speakers)
    outputs = np.random.default_rng(0).normal(size=(len(made.plan.bundle.rows("test")), 6))
    arrays = {f"predictions.valid.{name}": outputs for name, _ in made.plan.tests}
    monkeypatch.setattr(Store, "arrays", lambda *given: arrays)
    found = over_clusters(made, made.plan.questions[0], BEST, SECOND)
    assert found is not None
    assert found[0] == f"utterances of {whose}" and found[1].clusters == len(outputs)
    sure = Interval(4.3, 0.8, 7.8, len(outputs), len(outputs))
    monkeypatch.setattr(page, "over_clusters", lambda *given: (made.kind, sure))
    monkeypatch.setattr(page, "cost_table", lambda of: pd.DataFrame())
    told = page.sentence(made, made.plan.questions[0])
    assert "leads, not decided over other speakers." in told and "is the best" not in told
    assert f"[+0.8, +7.8] points of accuracy over utterances of {whose}." in told
    (pairs,) = [s for s in page.sections(made) if s.title == "The best against the others"]
    counted = f"{speakers} speaker" + "s" * (speakers > 1)
    assert (
        f"for other utterances of {whose} only, since the test split has {counted};" in pairs.text
    )
    assert "like these" not in pairs.text and "nothing of other speakers" in pairs.text
    assert pairs.table["over clusters"][0].endswith(f"{len(outputs)} utterances of {whose}")


def test_of_enough_speakers_the_interval_is_over_others(plan: Plan) -> None:
    made = made_of(few(plan, BEST, SECOND), {BEST: 80.6, SECOND: 79.1}, {BEST: 5, SECOND: 5})
    assert with_speakers(made, 5).kind == "speakers" and made.kind == "dialogues"


def test_before_any_seed_has_ended_the_live_table_says_so(plan: Plan) -> None:
    none = Results(plan, pd.DataFrame(columns=["contender", "condition", "seed", "value"]), {}, {})
    shown = page.live(none)
    assert set(shown["best mean"]) == {"no seed has ended"} and set(shown["still in"]) == {"-"}
    begun = page.live(made_of(few(plan, BEST), {BEST: 80.0}, {BEST: 1}))
    assert set(begun["best mean"]) == {f"{BEST}, 80.0"} and set(begun["still in"]) == {1}


def test_others_with_trials_are_spoken_of_only_where_there_are_such(plan: Plan) -> None:
    made = made_of(plan, {BEST: 80.0}, {BEST: 1})
    networks = tuple(dict.fromkeys(c.row.name for c in plan.contenders))
    assert networks[0] == "linear model"
    assert "all others" not in facts.trials_told(made, facts.Notes("", networks[1:]))
    assert "all others have as many" in facts.trials_told(made, facts.Notes("", networks[2:]))


def test_names_and_errors_are_text_in_the_markdown_page(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "cost_table", lambda of: pd.DataFrame())
    evil = "a|b [c](javascript:alert(1)) <img src=x onerror=alert(1)> $x$ `y`"
    names = (evil, *plan.bundle.task.names[1:])
    made = made_of(few(plan, BEST, SECOND), {BEST: 80.0}, {BEST: 1})
    made = with_bundle(made, task=dataclasses.replace(plan.bundle.task, names=names))
    run = FailedRun("0123-ab", "MMGCN", "complete", 0, None, "failed", "Look.")
    made = dataclasses.replace(
        made, failed={SECOND: "failed"}, failures={SECOND: [(run, f"ValueError: {evil}")]}
    )
    page.write_report(made, tmp_path, facts.Notes("again"))
    shown = mistune.create_markdown(escape=False, plugins=["table", "math"])(
        (tmp_path / "compare.md").read_text(encoding="utf-8")
    )
    assert "<img src=x" not in shown and "href" not in shown and "<code>" not in shown
    assert "<img src=x" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"</?span>", "", shown))
    assert f"task: classes {evil}" in text
    assert text.count(f"ValueError: {evil}") == 2, "in the table of failed runs, and by the ids"


def test_who_is_no_better_than_always_the_same_answer_is_marked(plan: Plan) -> None:
    names = (BEST, SECOND)
    made = made_of(few(plan, *names), {BEST: 80.0, SECOND: 30.0}, dict.fromkeys(names, 5), 0.2, 40)
    table = page.contenders_table(made).set_index("contender")
    question = made.plan.questions[0].name
    marked = {name: page.BELOW in table.loc[name, question] for name in table.index}
    assert marked == {BEST: False, SECOND: True, MAJORITY: False}


def test_a_pair_is_decided_by_its_own_lead_and_else_the_one_that_won_is_named(plan: Plan) -> None:
    standing = Standing("a", ("a", "b"), {"c": (5, "a"), "d": (5, "b")})
    told = {other: page._decided(standing, other) for other in "bcd"}
    assert told == {"b": "no", "c": "yes", "d": "out, behind b"}


def test_the_live_table_counts_contenders_without_the_majority(plan: Plan) -> None:
    names = (BEST, SECOND)
    made = made_of(few(plan, *names), {BEST: 80.0, SECOND: 30.0}, dict.fromkeys(names, 5))
    table = page.live(made)
    assert (table["still in"] + table["out"] + table["fewer seeds"]).tolist() == [2] * len(table)


def test_contenders_of_few_seeds_stand_below_the_others(plan: Plan) -> None:
    levels = {BEST: 80.0, SECOND: 70.0, "GCNet, complete": 90.0}
    seeds = {BEST: 5, SECOND: 5, "GCNet, complete": 1}
    made = made_of(few(plan, *levels), levels, seeds)
    order = page.contenders_table(made)["contender"].tolist()
    assert order == [BEST, SECOND, "GCNet, complete", MAJORITY]
