"""What all papers share: contexts, rows and training stages, tables, claims.

``published`` holds the numbers that the papers print.
"""
