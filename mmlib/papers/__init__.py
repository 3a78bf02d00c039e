"""One file per paper: its artifacts, the runs each needs, and how they are drawn.

``published`` holds the numbers that the papers print.
"""
