"""The fast encoder. Nothing outside of this folder imports numba or llvmlite."""
