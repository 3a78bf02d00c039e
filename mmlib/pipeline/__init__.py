"""From papers to files: make missing runs in one pool, draw tables and figures, execute notebooks."""
