"""The modules that stages reach use no function whose last bit depends on the processor."""

import ast
from collections.abc import Iterator

import pytest
from support import STAGES
from test_structure import METHODS, MODULES, reachable

CHECKED = sorted(set().union(*(reachable(stage, method) for stage in STAGES for method in METHODS)))
# The rest of `math` calls variants by the processor: its other functions are not exact.
OF_MATH = {"ceil", "factorial", "floor", "fsum", "inf", "isclose", "nan", "pi", "prod", "sqrt"}
# Elementary functions, which have variants by the processor; products of matrices, whose order of
# summation depends on it; and products with sums in one loop, which a compiler may contract.
# Sums and means of NumPy have one order, by the shape of the array.
NOT_OF_NUMPY = {
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "convolve",
    "corrcoef", "correlate", "cos", "cosh", "cov", "cross", "dot", "einsum", "exp", "exp2", "expm1",
    "fft", "float_power", "geomspace", "hypot", "i0", "inner", "interp", "kron", "linalg", "log",
    "log10", "log1p", "log2", "logaddexp", "logaddexp2", "logspace", "matmul", "matvec",
    "polyfit", "polyval", "pow", "power", "sin", "sinc", "sinh", "tan", "tanh", "tensordot", "vdot",
    "vecdot", "vecmat",
}  # fmt: skip
# Methods: products of matrices, and random distributions that use elementary functions.
NO_METHODS = {
    "beta", "binomial", "chisquare", "dirichlet", "dot", "exponential", "gamma", "gumbel",
    "laplace", "logistic", "lognormal", "multinomial", "multivariate_normal", "negative_binomial",
    "normal", "poisson", "standard_exponential", "standard_gamma", "standard_normal", "standard_t",
    "triangular", "vonmises", "weibull", "zipf",
}  # fmt: skip
NO_LIBRARIES = {"cmath", "scipy"}
# Which of equal elements comes first may depend on the processor.
UNSTABLE = {"argpartition", "argsort", "sort_index", "sort_values"}
# Of a module, a function that is exact where the module uses it, with the reason.
EXCEPTIONS = {("imgpipe.core.exact_sums", "@"): "of whole numbers, with sums below 2 ** 53"}


def inexact_uses(tree: ast.AST) -> Iterator[str]:
    """Yield each use of a function, operator or library that may not be exact."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from {alias.name.split(".")[0] for alias in names} & NO_LIBRARIES
            case ast.ImportFrom(module=str(module), names=names):
                library = module.split(".")[0]
                yield from {library} & NO_LIBRARIES
                if library in ("math", "numpy") and module != "numpy.typing":
                    yield from (f"from {module} import {alias.name}" for alias in names)
            case ast.Call(func=ast.Attribute(attr=name), keywords=options) if name in UNSTABLE:
                if name == "argpartition" or not any(map(is_stable, options)):
                    yield name
            case ast.Call(func=ast.Name(id="pow")):
                yield "pow"
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                if name not in OF_MATH:
                    yield f"math.{name}"
            case ast.Attribute(value=ast.Name(id="np"), attr=name):
                if name in NOT_OF_NUMPY:
                    yield f"np.{name}"
            case ast.Call(func=ast.Attribute(attr=name)) if name in NO_METHODS:
                yield name
            case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
                yield "@"
            case ast.BinOp(ast.Constant(int()), ast.Pow(), ast.Constant(int())):
                pass  # a whole number
            case ast.BinOp(op=ast.Pow()) | ast.AugAssign(op=ast.Pow()):
                yield "**"


def is_stable(option: ast.keyword) -> bool:
    return ast.unparse(option) in ("kind='stable'", "stable=True")


@pytest.mark.parametrize("module", CHECKED)
def test_a_module_of_a_stage_uses_exact_functions_only(module: str) -> None:
    found = set(inexact_uses(ast.parse(MODULES[module].read_text())))
    assert found == {use for name, use in EXCEPTIONS if name == module}


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("np.exp(x)", "np.exp"),
        ("np.linalg.norm(x)", "np.linalg"),
        ("math.log(x)", "math.log"),
        ("from math import exp", "from math import exp"),
        ("from scipy.special import erf", "scipy"),
        ("x @ y", "@"),
        ("x.dot(y)", "dot"),
        ("x ** 2", "**"),
        ("x **= 2", "**"),
        ("pow(x, 2)", "pow"),
        ("generator.normal(size=3)", "normal"),
        ("np.argsort(x)", "argsort"),
        ("x.argsort(kind='quicksort')", "argsort"),
        ("table.sort_index()", "sort_index"),
    ],
)
def test_an_inexact_use_is_found(code: str, use: str) -> None:
    assert list(inexact_uses(ast.parse(code))) == [use]


def test_exact_uses_are_accepted() -> None:
    code = "math.sqrt(x); np.argsort(x, kind='stable'); x * x; 2**31; generator.random(3); log(x)"
    assert not list(inexact_uses(ast.parse(code)))
