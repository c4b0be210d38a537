"""How networks are computed: layouts, precision, fused attention, recomputation, compilation.

Nothing here changes a weight, a name or a provided file; what a network gives stays the same up to
rounding.
"""
