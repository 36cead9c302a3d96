"""Naive single-member versions of every method, written from the papers, independent of fastifo."""
