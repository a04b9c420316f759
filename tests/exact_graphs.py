"""Find operations in a graph of TensorFlow whose results could differ between processors."""

from collections.abc import Iterable, Iterator
from typing import Any

# They move, choose or compare elements, compute with single elements, each with one rounding that
# IEEE 754 fixes, or compute with integers.
_OF_ELEMENTS = {
    "Abs", "AddN", "AddV2", "All", "ArgMax", "Assert", "AssignAddVariableOp", "AssignSubVariableOp",
    "AssignVariableOp", "Bitcast", "BitwiseAnd", "BroadcastGradientArgs", "BroadcastTo", "Cast",
    "Ceil", "ClipByValue", "ConcatV2", "Const", "Equal", "ExpandDims", "Fill", "Floor",
    "FloorDiv", "FloorMod", "GatherV2", "Greater", "GreaterEqual", "Identity", "IdentityN",
    "IteratorGetNext", "LeftShift", "Less", "LessEqual", "LogicalAnd", "LogicalNot",
    "LogicalOr", "Max", "MaxPool", "Maximum", "Min", "Minimum", "Mul", "Neg", "NoOp",
    "NotEqual", "OneHot", "OnesLike", "Pack", "Pad", "PadV2", "Placeholder", "PreventGradient",
    "Range", "Rank", "ReadVariableOp", "RealDiv", "Relu", "Relu6", "Relu6Grad", "ReluGrad",
    "Reshape", "ReverseV2", "RightShift", "Round", "Select", "SelectV2", "Shape", "Sign",
    "Size", "Slice", "Split", "Sqrt", "Square", "Squeeze", "StatelessRandomGetKeyCounter",
    "StatelessRandomUniformIntV2", "StatelessRandomUniformV2", "StopGradient", "StridedSlice",
    "StridedSliceGrad", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike",
}  # fmt: skip
# They call other functions of the graph, which are searched, too.
_CALLS = {
    "Case", "If", "PartitionedCall", "StatefulPartitionedCall", "StatelessIf", "StatelessWhile",
    "While",
}  # fmt: skip
# They add; the numbers are the places of the inputs that are terms or factors.
_SUMS = {
    "Conv2D": (0, 1),
    "Conv2DBackpropFilter": (0, 2),
    "Conv2DBackpropInput": (1, 2),
    "DepthwiseConv2dNative": (0, 1),
    "DepthwiseConv2dNativeBackpropFilter": (0, 2),
    "DepthwiseConv2dNativeBackpropInput": (1, 2),
    "MatMul": (0, 1),
    "Sum": (0,),
}
# They move elements of a grid, or multiply elements of two grids, which gives a grid.
_STAY_ON_GRID = {
    "ConcatV2": slice(-1),
    "Mul": slice(2),
    "Pad": slice(1),
    "Reshape": slice(1),
    "ReverseV2": slice(1),
    "Square": slice(1),
    "Transpose": slice(1),
}
_FLOAT32, _FLOAT64 = 1, 2  # the numbers of the types in `types_pb2`
_FLOATS = (_FLOAT32, _FLOAT64, 14, 19)  # the last two have half precision

_Nodes = dict[str, Any]


def find_forbidden_operations(function: Any) -> list[str]:
    """Return the operations that act on a result and may differ between processors, sorted.

    Allowed are operations on single elements, maxima, operations on integers, and sums of terms
    that were rounded to a grid. An operation that is on no list is forbidden, too.

    Args:
        function: a `ConcreteFunction` for known sizes: with unknown sizes, gradients have sums of
            TensorFlow, which have nothing to add when they run.

    Returns:
        type and name of each.
    """
    graph = function.graph.as_graph_def()
    functions = {definition.signature.name: definition for definition in graph.library.function}
    results = [tensor.name for tensor in function.graph.outputs]
    actions = [operation.name for operation in function.graph.control_outputs]
    return sorted(set(_search(graph.node, [*results, *actions], functions)))


def _search(nodes: Iterable[Any], ends: Iterable[str], functions: _Nodes) -> Iterator[str]:
    """Yield the forbidden operations among the nodes that lead to the ends."""
    by_name = {node.name: node for node in nodes}
    waiting, seen = [*ends], set[str]()
    while waiting:
        name = _find_name(waiting.pop())
        if name in seen or name not in by_name:  # an argument of a function is no node
            continue
        seen.add(name)
        node = by_name[name]
        waiting.extend(node.input)
        if node.op in _CALLS:
            for called in _list_functions(node):
                body = functions[called]
                yield from _search(
                    body.node_def, [*body.ret.values(), *body.control_ret.values()], functions
                )
        elif not _is_exact(node, by_name):
            yield f"{node.op} {node.name}"


def _find_name(tensor: str) -> str:
    """Return the name of the node that makes a tensor."""
    return tensor.removeprefix("^").split(":")[0]


def _list_functions(node: Any) -> Iterator[str]:
    """Yield the functions that a node calls."""
    for value in node.attr.values():
        for function in [value.func, *value.list.func]:
            if function.name:
                yield function.name


def _is_exact(node: Any, by_name: _Nodes) -> bool:
    if node.op in _OF_ELEMENTS:
        return True
    dtype = node.attr["T"].type
    if node.op == "MaxPoolGrad":  # adds if windows overlap
        return list(node.attr["ksize"].list.i) == list(node.attr["strides"].list.i)
    if node.op not in _SUMS:
        return node.op == "Prod" and dtype not in _FLOATS
    terms = [_find_source(node, place, by_name) for place in _SUMS[node.op]]
    if dtype == _FLOAT64:
        return all(_is_on_grid(term, by_name) for term in terms)
    # The gradient of a maximum counts the elements that are equal to it.
    counts = [term is not None and term.op == "Cast" for term in terms]
    return dtype not in _FLOATS or (node.op == "Sum" and all(counts))


def _find_source(node: Any, place: int, by_name: _Nodes) -> Any:
    """Return the node that makes an input, or None for an argument of the function."""
    return by_name.get(_find_name(node.input[place]))


def _is_on_grid(node: Any, by_name: _Nodes) -> bool:
    """Return whether all elements of a tensor are multiples of one power of two."""
    if node is None:
        return False
    if node.op in ("Fill", "Round"):
        return True
    if node.op == "Cast":
        return _is_on_grid(_find_source(node, 0, by_name), by_name)
    if node.op == "Sub":  # (x + anchor) - anchor, see `round_to_grid`
        total = _find_source(node, 0, by_name)
        return total is not None and total.op == "AddV2" and total.input[1] == node.input[1]
    if node.op not in _STAY_ON_GRID:
        return False
    places = range(len(node.input))[_STAY_ON_GRID[node.op]]
    return all(_is_on_grid(_find_source(node, place, by_name), by_name) for place in places)
