"""mmlib: missing- and imbalanced-modality learning, reproduced.

Five papers (BALM, DREAM, EBMC, MCULoRA, GMM-loss) as printed and as released, on embedded data
whose best possible answer is known, or on real features.
"""

__version__ = "0.1.0"
