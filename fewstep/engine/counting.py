"""What a step takes, without taking it: memory and operations, on tensors without values."""

import warnings
import weakref
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Counter(TorchDispatchMode):
    """Counts in all operators that run: the bytes of tensors that were made since and are still in
    use, `now` and at most `peak`; and `operations`, multiplications and additions of products.

    (torch's `FlopCounterMode` counts those as well, but watches modules, which keeps alive what
    recomputing would free.)
    """

    def __init__(self, formulas):
        super().__init__()
        self.formulas, self.operations = formulas, 0
        self.sizes, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = operator(*args, **kwargs)
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage())
        formula = self.formulas.get(operator._overloadpacket)
        if formula:
            self.operations += formula(*args, **kwargs, out_val=output)
        return output

    def _add(self, storage):
        key = storage._cdata  # one for all views
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key):
        self.now -= self.sizes.pop(key)


@contextmanager
def replaced_weights():
    """`Module.to` gives modules new tensors: those without values cannot be changed in place."""
    plain, nn.Module._apply = nn.Module._apply, _replace_weights
    try:
        yield
    finally:
        nn.Module._apply = plain


@torch.no_grad()
def _replace_weights(module, convert, recurse=True):
    for part in module.modules() if recurse else [module]:
        for key, weight in part._parameters.items():
            if weight is not None:
                part._parameters[key] = nn.Parameter(convert(weight), weight.requires_grad)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = convert(buffer)
    return module


class Rehearsal:
    """A context in which torch computes shapes alone (`FakeTensorMode`), on any of its devices:
    networks of any size take neither time nor memory. Reading a value raises an error of torch's.

    Inside, `peak()` is what was in use at most since the last call, in bytes, and `operations()`
    how many multiplications and additions were made since then.
    """

    def __enter__(self):
        # Imported here: both load sympy, a fifth of every command's start.
        from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
        from torch.utils.flop_counter import flop_registry

        class OneMode(FakeTensorMode):
            """Copies of its tensors (averages of networks) belong to the same mode."""

            def __deepcopy__(self, memo):
                return self

        self.counter = Counter(flop_registry)
        with ExitStack() as entered:
            # About the addresses that a deep copy compares: there are none.
            entered.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            entered.enter_context(replaced_weights())
            # Values that are written on the host go nowhere.
            FakeTensor.numpy = lambda tensor: np.empty(tensor.shape)
            entered.callback(delattr, FakeTensor, "numpy")
            for mode in (OneMode(), self.counter):
                entered.enter_context(mode)
            self.entered = entered.pop_all()
        return self

    def __exit__(self, *exception):
        return self.entered.__exit__(*exception)

    def peak(self):
        peak, self.counter.peak = self.counter.peak, self.counter.now
        return peak

    def operations(self):
        count, self.counter.operations = self.counter.operations, 0
        return count
