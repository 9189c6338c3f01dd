"""An ONNX graph as a torch module: for networks that ship as ONNX files and shall be batched on a GPU.

It knows the operators of the graphs that the wheels of `embedded` bring, in the meaning of opsets 9 to 12:
https://github.com/onnx/onnx/blob/main/docs/Operators.md
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from curation.errors import CurationError
from curation.models.onnx_file import Graph, Node

OPSETS = range(9, 13)  # from 13 on, Softmax, Squeeze and Unsqueeze mean something else


class OnnxModule(torch.nn.Module):
    """Computes a graph of one input and one output. Weights follow `to`; shapes and scales stay on the CPU.

    Raises CurationError for an operator that it does not know.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        unknown = {node.operator for node in graph.nodes} - {*OPERATORS, "Identity"}
        if unknown or graph.opset not in OPSETS or len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise CurationError(
                f"an ONNX graph (opset {graph.opset}, {len(graph.inputs)} inputs, {len(graph.outputs)} outputs, "
                f"unknown operators: {', '.join(sorted(unknown)) or 'none'}) cannot be computed here; "
                "say `device: cpu`"
            )
        names: dict[str, str] = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.operator == "Identity"}
        self.nodes = [_renamed(node, names) for node in graph.nodes if node.operator != "Identity"]
        self.input, self.output = graph.inputs[0], _origin(graph.outputs[0], names)
        self.constants: dict[str, Tensor] = {}
        self.floats: dict[str, str] = {}
        scales = {node.inputs[2] for node in self.nodes if node.operator == "Resize"}
        for i, (name, array) in enumerate(graph.weights.items()):
            tensor = torch.from_numpy(array)
            if tensor.is_floating_point() and name not in scales:
                self.floats[name] = f"weight{i}"  # names of ONNX have dots, those of torch must not
                self.register_buffer(f"weight{i}", tensor)
            else:
                self.constants[name] = tensor
        self.last_use = _last_uses(self.nodes)

    def forward(self, images: Tensor) -> Tensor:
        values: dict[str, Tensor] = dict(self.constants)
        values |= {name: getattr(self, buffer) for name, buffer in self.floats.items()}
        values[self.input] = images
        for i, node in enumerate(self.nodes):
            inputs = [values[name] if name else None for name in node.inputs]
            values[node.outputs[0]] = OPERATORS[node.operator](*inputs, **node.attributes)
            for name in set(node.inputs):
                if self.last_use[name] == i and name != self.output:
                    values.pop(name, None)  # a batch's activations would add up to gigabytes
        return values[self.output]


def _origin(name: str, names: dict[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def _renamed(node: Node, names: dict[str, str]) -> Node:
    return Node(node.operator, tuple(_origin(name, names) for name in node.inputs), node.outputs, node.attributes)


def _last_uses(nodes: Sequence[Node]) -> dict[str, int]:
    return {name: i for i, node in enumerate(nodes) for name in node.inputs}


def _padded(x: Tensor, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], auto_pad: str,
            value: float = 0.0) -> Tensor:  # fmt: skip
    """Padded as an operator's `pads` (top, left, bottom, right) or `auto_pad` say; dilations are 1."""
    if auto_pad == "SAME_UPPER":
        totals = [
            max(0, (math.ceil(side / stride) - 1) * stride + width - side)
            for side, stride, width in zip(x.shape[2:], strides, kernel, strict=True)
        ]
        pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    elif auto_pad not in ("NOTSET", "VALID"):
        raise NotImplementedError(f"auto_pad {auto_pad}")
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


NONE, ONES = (0, 0, 0, 0), (1, 1)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, group: int = 1, strides: Sequence[int] = ONES,
          pads: Sequence[int] = NONE, dilations: Sequence[int] = ONES, kernel_shape: Sequence[int] = (),
          auto_pad: str = "NOTSET") -> Tensor:  # fmt: skip
    if auto_pad == "NOTSET" and pads[:2] == pads[2:]:
        return functional.conv2d(x, weight, bias, list(strides), list(pads[:2]), list(dilations), group)
    x = _padded(x, weight.shape[2:], strides, pads, auto_pad)
    return functional.conv2d(x, weight, bias, list(strides), 0, list(dilations), group)


def _conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, group: int = 1,
                    strides: Sequence[int] = ONES, pads: Sequence[int] = NONE, dilations: Sequence[int] = ONES,
                    kernel_shape: Sequence[int] = ()) -> Tensor:  # fmt: skip
    if pads[:2] != pads[2:]:
        raise NotImplementedError("ConvTranspose with uneven pads")
    return functional.conv_transpose2d(
        x, weight, bias, list(strides), list(pads[:2]), groups=group, dilation=list(dilations)
    )


def _max_pool(x: Tensor, *, kernel_shape: Sequence[int], strides: Sequence[int] = ONES, pads: Sequence[int] = NONE,
              auto_pad: str = "NOTSET", ceil_mode: int = 0) -> Tensor:  # fmt: skip
    x = _padded(x, kernel_shape, strides, pads, auto_pad, -math.inf)
    return functional.max_pool2d(x, list(kernel_shape), list(strides), ceil_mode=bool(ceil_mode))


def _average_pool(x: Tensor, *, kernel_shape: Sequence[int], strides: Sequence[int] = ONES,
                  pads: Sequence[int] = NONE, ceil_mode: int = 0, count_include_pad: int = 0) -> Tensor:  # fmt: skip
    if any(pads):
        raise NotImplementedError("AveragePool with pads")
    return functional.avg_pool2d(x, list(kernel_shape), list(strides), ceil_mode=bool(ceil_mode))


def _resize(x: Tensor, region: Tensor | None, scales: Tensor, *, mode: str, coordinate_transformation_mode: str,
            nearest_mode: str) -> Tensor:  # fmt: skip
    """Repeats each pixel: the one way of enlarging that the graphs use."""
    factors = [round(scale) for scale in scales.tolist()]
    if (mode, coordinate_transformation_mode, nearest_mode) != ("nearest", "asymmetric", "floor"):
        raise NotImplementedError(f"Resize {mode} {coordinate_transformation_mode} {nearest_mode}")
    return x.repeat_interleave(factors[2], 2).repeat_interleave(factors[3], 3)


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape.tolist())])


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None,
           steps: Tensor | None = None) -> Tensor:  # fmt: skip
    at = [slice(None)] * x.ndim
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis, step = (i if axes is None else int(axes[i])), (1 if steps is None else int(steps[i]))
        at[axis] = slice(start, end, step)
    return x[tuple(at)]


def _softmax(x: Tensor, *, axis: int = 1) -> Tensor:
    if axis not in (-1, x.ndim - 1):  # before opset 13 the axes behind it would be flattened into it
        raise NotImplementedError("Softmax over an axis that is not the last")
    return x.softmax(-1)


def _batch_norm(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5,
                momentum: float = 0.9) -> Tensor:  # fmt: skip
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def _squeeze(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def _hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


def _global_average_pool(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _reduce_mean(x: Tensor, *, axes: Sequence[int], keepdims: int = 1) -> Tensor:
    return x.mean(tuple(axes), keepdim=bool(keepdims))


def _concat(*tensors: Tensor, axis: int) -> Tensor:
    return torch.cat(tensors, axis)


def _transpose(x: Tensor, *, perm: Sequence[int]) -> Tensor:
    return x.permute(*perm)


def _shape(x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": torch.div,
    "Erf": torch.erf,
    "GlobalAveragePool": _global_average_pool,
    "HardSigmoid": _hard_sigmoid,
    "MatMul": torch.matmul,
    "MaxPool": _max_pool,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "ReduceMean": _reduce_mean,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
