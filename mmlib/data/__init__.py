"""Data sets: what one is (bundle), the readers of public formats, the embedded twins, and the checks."""
