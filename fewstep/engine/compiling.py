"""torch.compile in place, its cache on disk, and plain running where it fails."""

import os
from pathlib import Path

import torch

from src.utils import reason_of

# Batches with and without gradients, of whole size and of self-generated inputs: each is a graph.
MOST_GRAPHS = 32
# Read now: torch fills in a place of its own once its compiler is imported.
CACHE = "TORCHINDUCTOR_CACHE_DIR"
NAMED_CACHE = os.environ.get(CACHE)
MODES = ("default", "max-autotune-no-cudagraphs")


def keep_compiled(folder):
    """Keep compiled code in `folder` for later runs, unless the environment names a place."""
    os.environ[CACHE] = NAMED_CACHE or str(Path(folder).resolve())
    config = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, name, max(MOST_GRAPHS, getattr(config, name)))
    # It cuts graphs at DDP's buckets, and cannot where activations are recomputed.
    config.optimize_ddp = False


def compile_networks(networks, mode, folder):
    """Compile {name: module} in this mode of `torch.compile`, unless it is "off", and keep the code
    in `folder`; the last step, after all copies are made."""
    if mode != "off":
        keep_compiled(folder)
        for name, module in networks.items():
            compile_in_place(module, mode, name)


def compile_in_place(module, mode, name):
    """Compile the forward pass of `module`, called `name` in messages; keys of its state stay.

    Do this last: a copy of a compiled module would run the original's weights.
    """
    module.forward = CompiledForward(module.forward, mode, name)


def _cause(error):
    # Dynamo's own first line names the compiler alone.
    return reason_of(getattr(error, "inner_exception", None) or error).strip()


class CompiledForward:
    """A compiled function that becomes the plain one, with one line, when compiling it fails."""

    def __init__(self, plain, mode, name):
        self.plain, self.name, self.has_begun, self.has_tried = plain, name, False, False
        # One graph for each shape: shapes are few, and fixed ones run faster.
        self.compiled = torch.compile(plain, mode=mode, dynamic=False)

    def __call__(self, *inputs):
        if self.compiled is None:
            return self.plain(*inputs)
        if not self.has_begun:
            self.has_begun = True
            print(f"compiling {self.name}: up to minutes, kept for later runs", flush=True)
        try:
            if torch.is_grad_enabled() and not self.has_tried:
                self._try(inputs)
            return self.compiled(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler, its tools or its cache run into
            output = self.plain(*inputs)  # raises what is wrong without compiling as well
            self.compiled = None
            print(f"--compile: {self.name} runs uncompiled ({_cause(error)})")
            return output

    def _try(self, inputs):
        """Compile the backward pass too, here, where its failure can be caught. Buffers are then as
        before, so that spectral normalisation has gone no step further than in a run that was not
        interrupted."""
        self.has_tried = True
        module = self.plain.__self__
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        wanted = [p for p in module.parameters() if p.requires_grad]
        wanted += [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
        with torch.random.fork_rng():
            output = self.compiled(*inputs)
            maps = output if isinstance(output, (list, tuple)) else [output]
            if wanted:
                total = sum(h.float().sum() for h in maps)
                torch.autograd.grad(total, wanted[:1], allow_unused=True)
        for buffer, before in buffers:
            buffer.copy_(before)

    def __deepcopy__(self, memo):
        raise TypeError(f"{self.name} is compiled; copy it before")
