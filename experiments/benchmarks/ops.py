"""Which part of a train step each operation of its compiled program belongs to.

The parts are marked by ``jax.named_scope`` in ``tron_jax.steps`` and
``tron_jax.objectives``. The compiler keeps the scopes in the name of an operation, a
path, with ``jvp`` around what is differentiated and ``transpose`` around what runs
backward.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

SCOPES = {
    "sampling": "sampling",
    "row_read": "row read",
    "candidates": "candidate matmul",
    "selection": "selection",
    "objective": "scoring with gradient",
    "encoder": "encoder forward",
    "encoder_update": "encoder update",
    "row_update": "row update",
}
GATHER = "candidate gather"
BACKWARD = {
    "encoder": "encoder backward",
    "candidates": "scoring with gradient",
    "objective": "scoring with gradient",
}
OTHER = "other"
# In the order of a step; "candidate matmul" includes the masks of its scores.
PARTS = (
    "sampling",
    "row read",
    "encoder forward",
    GATHER,
    "candidate matmul",
    "selection",
    "scoring with gradient",
    "encoder backward",
    "encoder update",
    "row update",
    OTHER,
)
# Made up of other operations, which are counted themselves.
_CONTAINERS = {"while", "call", "conditional"}

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_NAME = re.compile(r"%([\w.\-]+)")


class _Op(NamedTuple):
    computation: str
    opcode: str
    part: str | None  # of its own name
    operands: list[str]
    called: list[str]


def part_of_name(op_name: str) -> str | None:
    """The part that a path such as ``jit(train_step)/transpose(jvp(encoder))/mul`` is.

    Args:
      op_name: scopes, the outermost first, and the primitive.

    Returns:
      One of ``PARTS``, by the innermost scope known; None where there is none.
    """
    *path, primitive = op_name.split("/")
    for element in reversed(path):
        for scope in reversed(re.findall(r"\w+", element)):
            if scope not in SCOPES:
                continue
            # A scope within one that runs backward, or that is itself run backward.
            backward = any("transpose(" in scopes for scopes in path)
            if backward and scope in BACKWARD:
                return BACKWARD[scope]
            if scope == "candidates" and primitive == "gather":
                return GATHER
            return SCOPES[scope]
    return None


def parts_of_program(text: str) -> dict[str, str]:
    """Finds the part of each operation that a trace may show.

    A fused loop belongs to the part of its result. An operation without a scope of its
    own (a copy, a transpose, the merger of several) belongs to the part of most of the
    operations that it calls, or else to that of its operands or users.

    Args:
      text: of the compiled program (``compiled.as_text()``).

    Returns:
      {operation: one of ``PARTS``}, without those that are made up of others.
    """
    ops = _read(text)
    within: dict[str, Counter[str]] = {}
    for op in ops.values():
        if op.part:
            within.setdefault(op.computation, Counter())[op.part] += 1
    parts = {name: op.part or _most(op, within) for name, op in ops.items()}
    users: dict[str, list[str]] = {}
    for name, op in ops.items():  # a definition stands before its uses
        for operand in op.operands:
            users.setdefault(operand, []).append(name)
        parts[name] = parts[name] or _first(op.operands, parts)
    for name in reversed(ops):
        parts[name] = parts[name] or _first(users.get(name, []), parts)
    return {
        name: parts[name] or OTHER
        for name, op in ops.items()
        if op.opcode not in _CONTAINERS
    }


def _read(text: str) -> dict[str, _Op]:
    ops: dict[str, _Op] = {}
    computation = ""
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            computation = begun[1]
        elif (found := _INSTRUCTION.match(line)) and (op := _OPCODE.search(found[2])):
            called = _CALLED.findall(found[2])
            name = _OP_NAME.search(found[2])
            ops[found[1]] = _Op(
                computation,
                op[1],
                part_of_name(name[1]) if name else None,
                [o for o in _NAME.findall(found[2][op.end() :]) if o not in called],
                called,
            )
    return ops


def _most(op: _Op, within: dict[str, Counter[str]]) -> str | None:
    total = sum((within.get(name, Counter()) for name in op.called), Counter())
    return total.most_common(1)[0][0] if total else None


def _first(names: list[str], parts: dict[str, str | None]) -> str | None:
    return next((found for name in names if (found := parts.get(name))), None)
