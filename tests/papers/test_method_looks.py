"""A method has one colour and marker in all notebooks; its network has them hollow and dashed."""

from __future__ import annotations

from mmlib.experiments import comparison, method_looks
from mmlib.experiments.baselines import LINEAR
from mmlib.papers.balm import rows as balm
from mmlib.papers.dream import rows as dream
from mmlib.papers.ebmc import rows as ebmc
from mmlib.papers.gmm_loss import rows as gmm_loss
from mmlib.papers.mculora import rows as mculora
from mmlib.papers.side_by_side import PAPER, grounds, rows
from mmlib.report import colours


def test_methods_have_the_names_that_the_papers_tables_have() -> None:
    named = {dream.OURS, ebmc.OURS.name, mculora.OURS.name, ebmc.MOMKE.name, LINEAR.name}
    assert named <= set(method_looks.METHODS)
    plain = {balm.NAMES[backbone] for backbone in balm.NAMES} | {mculora.JOINT.name}
    assert plain <= set(method_looks.NETWORKS)
    assert {balm.balm(backbone).name for backbone in balm.NAMES} <= set(method_looks.METHOD_ON)
    assert mculora.MOMKE.name == ebmc.MOMKE.name, "one method, one name, one colour"


def test_every_row_of_the_side_by_side_has_a_look_and_a_method_that_of_its_network() -> None:
    context = PAPER.context("smoke")
    for ground in grounds.grounds(context):
        every = rows.rows(context, ground)
        looks = method_looks.looks(row.name for row in every)
        assert set(looks) == {row.name for row in every}
        for row in every:
            if row.against:
                mine, network = looks[row.name], looks[row.against]
                assert mine["color"] == network["color"] and mine["marker"] == network["marker"]
                assert network["markerfacecolor"] == "white" != mine["markerfacecolor"]
                assert (mine["linestyle"], network["linestyle"]) == ("-", "--")
        methods = [row.name for row in every if row.against] + [LINEAR.name]
        assert len({looks[name]["color"] for name in methods}) == len(methods)


def test_a_network_that_only_a_notebook_names_has_its_methods_look() -> None:
    made = method_looks.looks([dream.OURS, dream.PLAIN, dream.P], {dream.PLAIN: dream.OURS})
    assert made[dream.PLAIN]["color"] == made[dream.OURS]["color"]
    assert dream.P not in made, "left to its place"
    ours = method_looks.looks([ebmc.OURS.name, ebmc.PLAIN.name], {ebmc.PLAIN.name: ebmc.OURS.name})
    assert ours[ebmc.PLAIN.name]["color"] != made[dream.PLAIN]["color"], "of another method"


def test_the_best_possible_of_tables_is_that_of_pictures() -> None:
    assert comparison.BOUND == colours.BEST


def test_further_methods_for_imbalance_have_looks_that_nothing_beside_them_has() -> None:
    beside = ["GMM-loss", LINEAR.name, *gmm_loss.FURTHER.values()]
    looks = method_looks.looks([*beside, "concatenation"])
    assert set(looks) == {*beside, "concatenation"}
    for what in ("color", "marker"):
        assert len({looks[name][what] for name in beside}) == len(beside)
    assert {looks[name]["linestyle"] for name in beside} == {"-"}
    pairs = list(method_looks.METHODS.values())
    assert len(set(pairs)) == len(pairs)
