"""One evaluation of a student's network as ONNX, its weights in few bits."""

import io
import warnings

import numpy as np
import torch
from torch import nn

from fewstep.handin.page.plan import input_names
from fewstep.handin.rounding import encode
from src.errors import package_for
from src.flow import RectifiedFlow
from src.samplers import IMAGE_SHAPE

PURPOSE = "a page that generates"
OPSET = 17
DTYPES = ("int8", "fp16", "fp32")  # of large weights, smallest first


class OneEvaluation(nn.Module):
    """(x `[1, 3, 64, 64]`, its level `[1]`, and what comes next `[1]` where the network has the
    additional condition) -> the denoised image, or the velocity of a flow, `[1, 3, 64, 64]`."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.evaluate = model.predict if isinstance(model, RectifiedFlow) else model.denoise

    def forward(self, x, *levels):
        return self.evaluate(x, *levels)


def export_model(model):
    """The `onnx.ModelProto` of one evaluation of `model`, on the CPU, for one image, in fp32."""
    onnx = package_for(PURPOSE, "onnx")
    names = input_names(model)
    inputs = (torch.zeros(1, *IMAGE_SHAPE), *(torch.ones(1) for _ in names[1:]))
    written = io.BytesIO()
    with warnings.catch_warnings():
        # That the number of images becomes a constant is wanted; later versions of torch advise
        # another exporter, which needs one package more.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            OneEvaluation(model).eval(),
            inputs,
            written,
            input_names=names,
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(written.getvalue())


def with_weights(exported, dtype):
    """A copy of an `onnx.ModelProto` in fp32 with its large weights stored as `dtype`.

    As in published weights (docs/pretrained.md) "int8" has a scale for each output channel. The
    model itself turns them into fp32, once, when it is loaded: all arithmetic stays fp32.
    """
    onnx = package_for(PURPOSE, "onnx")
    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    if dtype == "fp32":
        return copy
    kept, before = [], []
    for initializer in exported.graph.initializer:
        value = onnx.numpy_helper.to_array(initializer)
        if value.dtype != np.float32:
            kept.append(initializer)
            continue
        name = initializer.name
        tensors = encode({name: torch.tensor(value)}, dtype)
        if tensors[name].dtype == torch.float32:
            kept.append(initializer)
            continue
        stored = {f"{name}.stored": tensors.pop(name).numpy()}
        restored = f"{name}.restored" if tensors else name
        before.append(
            onnx.helper.make_node("Cast", list(stored), [restored], to=onnx.TensorProto.FLOAT)
        )
        for scale_name, scale in tensors.items():
            stored[scale_name] = scale.numpy().reshape(-1, *[1] * (value.ndim - 1))
            before.append(onnx.helper.make_node("Mul", [restored, scale_name], [name]))
        kept += [onnx.numpy_helper.from_array(array, key) for key, array in stored.items()]
    nodes = [*before, *exported.graph.node]
    del copy.graph.initializer[:], copy.graph.node[:]
    copy.graph.initializer.extend(kept)
    copy.graph.node.extend(nodes)
    return copy
