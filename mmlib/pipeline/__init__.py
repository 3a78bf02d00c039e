"""From papers to files: what is lacking is run in one pool, tables and figures are drawn, notebooks executed."""
