"""Everything that makes sampling faster, at once."""

from fewstep.engine.attention import fuse_attention
from fewstep.engine.compiling import compile_networks
from fewstep.engine.precision import autocast_for, lay_out, prepare_backends

COMPILED = "data/cache/compiled"


def make_fast(model, device, cache=COMPILED):
    """Let a model sample fast on `device`; returns a factory of contexts to sample in. cache: the
    folder where compiled code is kept.

    Fused attention everywhere; on a GPU also bf16, TF32, channels-last and compilation, for which
    each batch size is compiled once. Images differ from plain ones by rounding: in bf16 by a few
    grey levels.
    """
    prepare_backends(device, tf32=True)
    fuse_attention(model)
    lay_out(model, device, "auto")
    compile_networks({"the network": model.network}, "auto", device, cache)
    return autocast_for(device, "auto")
