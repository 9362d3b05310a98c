"""DistilBERT on NumPy arrays: the specification, which imports nothing of this package outside of this folder."""
