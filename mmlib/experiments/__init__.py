"""What all papers share: contexts, rows and stages, tables, claims, the main job.

``published`` holds the numbers that the papers print.
"""
