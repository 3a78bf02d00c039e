"""The papers, a folder each: declarations of their tables and claims, figures, and analyses of our own."""
