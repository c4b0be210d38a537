"""Everything that makes sampling faster, at once."""

from fewstep.engine.attention import fuse_attention
from fewstep.engine.compiling import compile_networks
from fewstep.engine.precision import autocast_for, choices_of, lay_out, prepare_backends

COMPILED = "data/cache/compiled"


def make_fast(model, device, cache=COMPILED):
    """Let a model sample fast on `device`; returns a factory of contexts to sample in. cache: the
    folder where compiled code is kept.

    Fused attention everywhere; bf16 and channels-last on a GPU and on processors with units for
    bf16; on a GPU also TF32 and compilation, for which each batch size is compiled once. Images
    differ from plain ones by rounding: in bf16 by a few grey levels.
    """
    prepare_backends(device, tf32=True)
    fuse_attention(model)
    choices = choices_of(device)
    lay_out(model, choices.channels_last)
    compile_networks({"the network": model.network}, choices.compile, cache)
    print(f"--fast: {choices.describe(device)}")
    return autocast_for(device, choices.precision)
