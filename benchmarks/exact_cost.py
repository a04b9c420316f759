"""What exact arithmetic costs: the CPU time of training steps and features, against native."""

import json
from collections.abc import Mapping, Sequence

from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    Section,
    at_most,
    combine,
    instruction_set,
    middle_and_range,
    ratio_of,
    run_python,
    table,
)

MOST = 2.5
EXACT, NATIVE = "exact", "native"
# TensorFlow then computes nearly as on a processor without AVX-512.
WITHOUT_AVX512 = {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "AVX2"}

# Milliseconds by name, for each repetition.
Times = Sequence[Mapping[str, float]]


def compare_arithmetics() -> Section:
    """Measure both arithmetics with this processor's instructions, and without AVX-512."""
    widest = instruction_set()
    settings: dict[str, dict[str, str]] = {widest: {}}
    if widest == "AVX-512":
        emulated = ", ".join(f"{name}={value}" for name, value in WITHOUT_AVX512.items())
        settings[f"AVX-512 switched off by `{emulated}`"] = WITHOUT_AVX512
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(REPETITIONS):
        for name, environment in settings.items():
            for arithmetic in (EXACT, NATIVE):
                times = _measure(arithmetic, environment)
                measured.setdefault((name, arithmetic), []).append(times)
    return combine(
        [
            describe(name, measured[name, EXACT], measured[name, NATIVE], name != "AVX-512")
            for name in settings
        ]
    )


def _measure(arithmetic: str, environment: Mapping[str, str]) -> dict[str, float]:
    printed = run_python(HERE / "step_times.py", arithmetic, cwd=ROOT, workers=1, **environment)
    times: dict[str, float] = json.loads(printed.splitlines()[-1])
    return times


def describe(instructions: str, exact: Times, native: Times, has_target: bool) -> Section:
    """Return the section of the measurements with one set of instructions.

    Args:
        instructions: the name of the set.
        exact: of each repetition, CPU milliseconds by name.
        native: the same.
        has_target: whether the ratios have a goal.
    """
    rows, targets = [], []
    for name in exact[0]:
        slow, fast = ([times[name] for times in runs] for runs in (exact, native))
        ratio = ratio_of(slow, fast)
        rows.append([name, middle_and_range(fast), middle_and_range(slow), f"{ratio:.2f}"])
        if has_target:
            what = f"CPU time, exact against native, {name}; {instructions}"
            targets.append(at_most(what, MOST, ratio))
    header = [f"CPU milliseconds, one thread; {instructions}", NATIVE, EXACT, "exact / native"]
    return Section([table(header, rows)], targets)
