"""``mmlib compare``: which method and network to use on one's own data, and under which missing modalities.

``plan.py`` says who takes part and under which conditions; ``race.py`` is the rule by which seeds are spent on those
that may still be the best; ``command.py`` makes the runs; ``results.py`` reads them; ``scored.py`` says what training
knew of the missingness, and scores over all conditions; ``page.py`` writes the report.
"""
