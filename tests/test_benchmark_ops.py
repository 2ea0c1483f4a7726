"""Which part of a step an operation belongs to, and what a trace makes of it."""

import jax
import numpy as np
import pytest
import tiny

from experiments.benchmarks.breakdown import scopes_cached
from experiments.benchmarks.ops import OTHER, PARTS, part_of_name, parts_of_program
from experiments.benchmarks.step_timer import compile_step
from experiments.benchmarks.trace import Op, seconds_by_part
from experiments.benchmarks.workload import dispatch_at, open_workload


@pytest.mark.parametrize(
    ("op_name", "part"),
    [
        ("jit(train_step)/sampling/jit(_randint)/while", "sampling"),
        ("jit(train_step)/jvp(encoder)/SASRec/mul", "encoder forward"),
        ("jit(train_step)/transpose(jvp(encoder))/SASRec/mul", "encoder backward"),
        ("jit(train_step)/objective/candidates/gather", "candidate gather"),
        ("jit(train_step)/objective/candidates/dot_general", "candidate matmul"),
        ("jit(f)/objective/transpose(jvp(candidates))/gather", "scoring with gradient"),
        ("jit(train_step)/objective/selection/top_k", "selection"),
        ("jit(train_step)/objective/gather", "scoring with gradient"),
        ("jit(repeated)/while/body/row_update/scatter-add", "row update"),
        ("jit(train_step)/sampling", None),  # the primitive is no scope
        ("jit(train_step)/add", None),
        ("", None),
    ],
)
def test_part_of_a_name(op_name, part):
    assert part_of_name(op_name) == part


def test_operations_without_a_name():
    def named(scope):
        return f'metadata={{op_name="jit(f)/{scope}/mul" stack_frame_id=3}}'

    text = f"""HloModule jit_f, entry_computation_layout={{()->f32[2]{{0}}}}

%fused (p: f32[2]) -> f32[2] {{
  %p = f32[2]{{0}} parameter(0)
  %a = f32[2]{{0}} multiply(%p, %p), {named("row_read")}
  %b = f32[2]{{0}} multiply(%a, %p), {named("row_update")}
  ROOT %c = f32[2]{{0}} multiply(%b, %p), {named("row_update")}
}}

%body (t: (s32[], f32[2])) -> (s32[], f32[2]) {{
  %t = (s32[], f32[2]{{0}}) parameter(0)
  ROOT %inside = (s32[], /*index=1*/f32[2]{{0}}) tuple(%t), {named("sampling")}
}}

ENTRY %main (x: f32[2], y: f32[2]) -> f32[2] {{
  %x = f32[2]{{0}} parameter(0)
  %y = f32[2]{{0}} parameter(1)
  %loop = (s32[], f32[2]{{0}}) while(%x), condition=%body, body=%body, {named("x")}
  %merged = f32[2]{{0}} fusion(%x), kind=kLoop, calls=%fused
  %copy.before = f32[2]{{0}} copy(%y)
  %own = f32[2]{{0}} multiply(%copy.before, %y), {named("encoder_update")}
  %copy.behind = f32[2]{{0}} copy(%own)
  %alone = f32[2]{{0}} copy(%x)
  ROOT %end = f32[2]{{0}} add(%merged, %copy.behind)
}}
"""
    parts = parts_of_program(text)
    assert "loop" not in parts  # what it holds is counted
    assert parts["inside"] == "sampling"
    assert parts["merged"] == "row update"  # most of what it calls
    assert parts["copy.before"] == "encoder update"  # its user
    assert parts["copy.behind"] == "encoder update"  # its operand
    assert parts["end"] == "row update"
    assert parts["alone"] == OTHER  # of an input that no part owns, for nobody
    assert set(parts.values()) <= set(PARTS)


@pytest.mark.parametrize("topk", [8, 0])
def test_every_part_of_the_step_has_operations(tiny_data, compilations, topk):
    workload = open_workload(tiny.config(tiny_data, loss__topk=topk))
    with tiny.compiled_once(compilations), scopes_cached():
        [compiled] = compile_step(workload.parts, [0]).by_shape.values()
    found = set(parts_of_program(compiled.as_text()).values())
    assert found - {OTHER} == set(PARTS) - {OTHER} - (
        {"selection"} if not topk else set()
    )


def brute_force(ops, window, parts):
    """Looks at each nanosecond."""
    total = {}
    for now in range(int(window.start), int(window.end)):
        active = [parts[op.name] for op in ops if op.start <= now < op.end]
        for part in active:
            total[part] = total.get(part, 0) + 1e-9 / len(active)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_shares_out_time(seed):
    draw = np.random.default_rng(seed)
    parts = {"a": "sampling", "b": "selection", "c": "selection"}
    starts = draw.integers(100, 180, 12)
    ops = sorted(
        Op(int(start), int(start + size), str(name))
        for start, size, name in zip(
            starts, draw.integers(0, 20, 12), draw.choice(list(parts), 12), strict=True
        )
    )
    window = Op(100, 200, "step")
    outside = [Op(10, 20, "a"), *ops, Op(150, 160, "unknown"), Op(200, 250, "b")]
    found = seconds_by_part(sorted(outside), window, parts)
    expected = brute_force(ops, window, parts)
    assert found.keys() == expected.keys()
    for part, seconds in expected.items():
        np.testing.assert_allclose(found[part], seconds, rtol=1e-9)
    assert sum(found.values()) <= 100e-9 * (1 + 1e-9)


def test_the_scopes_are_kept_by_an_accelerator(tiny_data):
    workload = open_workload(tiny.config(tiny_data))
    batch, _ = dispatch_at(workload.parts, 0)
    traced = jax.jit(workload.parts.train_step).trace(
        jax.eval_shape(workload.parts.init), batch, workload.parts.constants
    )
    text = traced.lower(lowering_platforms=("cuda",)).as_text(debug_info=True)
    for scope in ("sampling", "jvp(encoder)", "objective/selection", "row_update"):
        assert f"/{scope}/" in text
