"""CorrKD's student: the network ``corrkd`` under a name of its own, since recipes are searched by network."""

from __future__ import annotations

from mmlib.backbones.corrkd import CorrKD


class CorrKDStudent(CorrKD):
    """The same layers as its teacher's, whose parent run has the backbone ``corrkd``."""
