"""``mmlib bench``: ``command.py`` is the command line, ``page.py`` writes docs/bench, every other file is a case."""
