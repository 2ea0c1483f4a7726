import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import preflight
from tron_jax import memory
from tron_jax.console.messages import readable
from tron_jax.errors import UserError
from tron_jax.models.initializers import draw_in_blocks
from tron_jax.storage.array_files import FINITE_BLOCK as BLOCK
from tron_jax.storage.array_files import all_finite

GB = 10**9
NEEDS = preflight.Needs(
    table=14 * GB // 10,
    moments=29 * GB // 10,
    encoder=GB // 100,
    clicks=0,
    step=GB // 5,
    evaluation=GB // 8,
    saving=0,
)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up machine with 8 GB free of 16, and no control groups yet."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    text = "MemTotal: 16000 kB\nMemFree: 1000 kB\nMemAvailable: 8000 kB\nHugePages: 3\n"
    write(tmp_path / "proc", meminfo=text)
    return tmp_path


def test_host_memory_is_what_the_system_could_give(machine):
    assert memory.host_memory() == (16000 * 1024, 8000 * 1024)
    assert memory.free_memory() == 8000 * 1024


def test_control_groups_limit_it(machine):
    group = machine / "cgroup" / "jobs" / "mine"
    write(machine / "proc" / "self", cgroup="0::/jobs/mine\n")
    stat = (
        "anon 1\nactive_file 300000\ninactive_file 400000\nfile 900000\n"
        "slab_reclaimable 100000\nslab 200000\n"
    )
    write(
        group, memory__max="5000000\n", memory__current="4000000\n", memory__stat=stat
    )
    assert memory.host_memory() == (5_000_000, 1_800_000)
    # The group around it has less left.
    parent = {"memory__max": "9000000", "memory__current": "8700000"}
    write(group.parent, **parent, memory__stat=stat.replace("00000", "0000"))
    assert memory.host_memory() == (5_000_000, 380_000)
    write(group, memory__max="max\n")
    write(group.parent, memory__max="max\n")
    assert memory.host_memory() == (16000 * 1024, 8000 * 1024)


def test_control_groups_of_the_first_version(machine):
    """As a container sees them: its group's path is not there, the root is it."""
    lines = "9:name=systemd:/\n3:cpuset,memory:/docker/abc\n0::/\n"
    write(machine / "proc" / "self", cgroup=lines)
    write(
        machine / "cgroup" / "memory",
        memory__limit_in_bytes="7000000\n",
        memory__usage_in_bytes="6000000\n",
        memory__stat="total_active_file 1000\ntotal_inactive_file 2000\ncache 9\n",
    )
    assert memory.host_memory() == (7_000_000, 1_003_000)


def test_a_system_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    total, free = memory.host_memory()
    assert total > 1e8  # of sysconf
    assert free is None
    assert memory.peak_memory().host > 1e7  # of getrusage


def test_accelerators_go_by_the_fullest(monkeypatch):
    class Device:
        def __init__(self, **stats):
            self.stats = stats

        def memory_stats(self):
            return self.stats or None

    devices = [
        Device(bytes_limit=10, bytes_in_use=3, peak_bytes_in_use=5),
        Device(bytes_limit=10, bytes_in_use=4, peak_bytes_in_use=4),
    ]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert memory.free_memory() == 6
    assert memory.peak_memory().device == 5
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert memory.free_memory() is None
    assert memory.peak_memory().device is None


def test_peak_is_that_of_this_program_and_stays():
    """Not of the process that started it, nor of what is held at the moment."""
    block = np.ones(25_000_000)  # 200 MB
    here = memory.peak_memory()
    assert here.host > 200e6
    assert here.device is None
    del block
    assert memory.peak_memory().host >= here.host - 1e6  # the system counts in batches
    code = (
        "import jax, numpy as np; from tron_jax.memory import peak_memory as p;"
        "a = p().host; np.ones(75_000_000); print(a, p().host)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert before < here.host
    assert 450e6 < after - before < 650e6  # of 600 MB


def test_temporaries_of_programs():
    x = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)

    def compiled(f, **options):
        return jax.jit(f, **options).lower(x).compile()

    in_place = compiled(lambda x: x + 1, donate_argnums=0)
    fresh = compiled(lambda x: x + 1)
    sorts = compiled(lambda x: jnp.sort(x) @ jnp.sort(x, axis=0), donate_argnums=0)
    assert memory.temporaries([]) == 0
    assert memory.temporaries([in_place]) == 0
    assert memory.temporaries([in_place, fresh]) == 4_000_000
    assert memory.temporaries([fresh, sorts]) >= 8_000_000


def test_size_of_arrays_and_shapes():
    tree = {"a": jnp.zeros((3, 4)), "b": [np.zeros(5, np.int8)]}
    assert memory.size(tree) == 53
    assert memory.size(jax.eval_shape(lambda: tree)) == 53


def test_preflight_says_what_is_needed():
    assert NEEDS.peak == NEEDS.state + NEEDS.step
    assert NEEDS._replace(clicks=GB).peak == NEEDS.peak + GB
    line = (
        "memory: 4.51 GB at most (item table 1.40 GB, its moments 2.90 GB, "
        "encoder 10.0 MB, a step 0.20 GB, evaluation 0.12 GB)"
    )
    assert preflight.check_memory(NEEDS, None, dense=False) == line
    line_and_free = preflight.check_memory(NEEDS, NEEDS.peak, dense=False)
    assert line_and_free == f"{line} of 4.51 GB free"


@pytest.mark.parametrize(
    ("changed", "dense", "words"),
    [
        ({}, False, "lower model.hidden_size, or prepare the data with fewer items"),
        ({"step": 5 * GB}, False, "lower train.batch_size, negatives.num_uniform or"),
        ({"step": 5 * GB}, True, "set optimizer.item_table=rows, or lower train.batch"),
        ({"evaluation": 6 * GB}, False, "lower model.hidden_size"),
        ({"saving": 5 * GB}, True, "lower model.hidden_size, or prepare"),
    ],
)
def test_preflight_refuses_what_cannot_fit(changed, dense, words):
    needs = NEEDS._replace(**changed)
    line = preflight.check_memory(needs, None, dense=dense)
    with pytest.raises(UserError) as error:
        preflight.check_memory(needs, needs.peak - 1, dense=dense)
    message = str(error.value)
    assert message.startswith(f"{line}, but {readable(needs.peak)} are free; ")
    assert message.partition("; ")[2].startswith(words)


@pytest.mark.parametrize(
    ("saves", "there", "more"),
    [(100, 0, 5), (2, 0, 2), (100, 4, 1), (100, 2, 3), (1, 4, 1), (0, 4, 0)],
)
def test_preflight_counts_the_checkpoints_to_come(saves, there, more):
    counts = {"saves": saves, "there": there, "keep_last": 3}
    line = preflight.check_disk(4 * GB, **counts, free=more * 4 * GB)
    assert line.startswith(f"checkpoints: {more} of 4.00 GB beside the {there} there")
    if more:
        with pytest.raises(UserError, match=r"GB are free on disk; free some") as error:
            preflight.check_disk(4 * GB, **counts, free=more * 4 * GB - 1)
        assert f"need {readable(more * 4 * GB)}" in str(error.value)


@pytest.mark.device
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_all_finite_sees_every_element(value):
    state = {
        "table": np.ones((2 * BLOCK + 5, 2), np.float32),
        "bias": np.full(3, 1e38, np.float32),
        "rate": np.float32(3),
        "last": np.full(7, 2**31 - 1, np.int32),
    }
    check = jax.jit(all_finite)
    assert check(state)
    for row in (0, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 4):
        table = state["table"].copy()
        table[row, 1] = value
        assert not check(state | {"table": table}), row
    assert not check(state | {"bias": np.array([0, value, 0], np.float32)})
    assert not check(state | {"rate": np.float32(value)})


def test_all_finite_takes_no_memory():
    table = jax.ShapeDtypeStruct((1_000_000, 64), jnp.float32)
    traced = jax.jit(all_finite).trace([table, table, table])
    assert memory.temporaries([traced.lower().compile()]) < 16e6
    traced.lower(lowering_platforms=("cuda", "tpu"))


def draw(key, rows):
    return jax.random.normal(key, (rows, 3))


@pytest.mark.parametrize("rows", [1, 99, 100, 101, 200, 357])
def test_tables_are_drawn_block_by_block(rows):
    key = jax.random.key(5)
    table = jax.jit(lambda: draw_in_blocks(draw, key, rows, block=100))()
    if rows <= 100:
        blocks = [draw(key, rows)]
    else:
        sizes = [100] * (rows // 100) + [rows % 100] * (rows % 100 > 0)
        blocks = [draw(jax.random.fold_in(key, b), n) for b, n in enumerate(sizes)]
    np.testing.assert_array_equal(table, np.concatenate(blocks))
    assert len(np.unique(table)) == table.size


def test_a_large_table_is_drawn_without_holding_it_twice():
    def init(key):
        return draw_in_blocks(
            lambda key, rows: jax.random.uniform(key, (rows, 64)), key, 1_000_001
        )

    traced = jax.jit(init).trace(jax.random.key(0))
    compiled = traced.lower().compile()
    table = 4 * 64 * 1_000_001
    assert memory.temporaries([compiled]) < 1.6 * table
    traced.lower(lowering_platforms=("cuda", "tpu"))
