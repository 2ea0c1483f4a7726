"""How far numbers may be from others, by dtype and platform.

What the tests marked ``device`` go by, on a GPU or TPU:

- Integers, what is drawn, what is selected: equal. Ranks: equal, but that two items
  whose scores differ in the last bit may swap.
- float64, in which losses are checked: as on a CPU, whose tolerances are thousands of
  times the rounding.
- float32: ``of_float32`` of the tolerance on a CPU. Sums are taken in another order
  (in none, where a scatter adds), multiplications and additions fused, and exp, log and
  tanh are off by a few of the last bits. All that needs the fixture ``full_float32``.
- float32 matmuls without that fixture: an operand is rounded to TF32 on a GPU (2^-11,
  so 5e-4) and to bfloat16 on a TPU (2^-9). No test compares the outcome with anything
  but what the same program made, bit for bit. What evaluates asks for full float32
  itself, so its tests do not use the fixture.
- bfloat16: rounded to 2^-9 once an operand, on any platform; the bounds in
  ``test_compute_dtype`` are several times that.
"""

import jax

WIDER = {"cpu": 1, "gpu": 10, "tpu": 10}


def of_float32(of_cpu):
    """A tolerance, relative or absolute, where the tests run."""
    return of_cpu * WIDER[jax.default_backend()]
