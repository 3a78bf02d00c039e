"""``python -m mmlib``."""

from mmlib.cli import entry

if __name__ == "__main__":
    entry()
