"""What processes tell each other, here threads with a service that is a dictionary."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tron_jax.hosts.peers import Alone, Several, first_says
from tron_jax.hosts.watch import ENDED, Watch
from tron_jax.storage import manifest
from tron_jax.storage.manifest import DamagedCheckpointError


class Service:
    """jax's, as far as it is used."""

    def __init__(self):
        self.words = {}
        self.changed = threading.Condition()

    def key_value_set(self, key, word, allow_overwrite=False):
        with self.changed:
            assert allow_overwrite or key not in self.words
            self.words[key] = word
            self.changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.words, 0.01):
                raise RuntimeError("DEADLINE_EXCEEDED: no such key yet")
            return self.words[key]

    def key_value_delete(self, key):
        with self.changed:
            del self.words[key]

    def key_value_dir_get(self, folder):
        with self.changed:
            return [(k, v) for k, v in self.words.items() if k.startswith(folder)]


def on_all(count, function):
    service = Service()
    peers = [Several(service, index, count) for index in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, peers)), service


def test_all_have_the_words_of_all():
    def exchange(peers):
        rounds = []
        for number in range(5):
            time.sleep(0.005 * peers.index)
            rounds.append(peers.gather("a", f"{peers.index}.{number}"))
        return rounds, peers.gather("b", str(peers.index))

    found, service = on_all(3, exchange)
    rounds = [[f"{index}.{number}" for index in range(3)] for number in range(5)]
    assert found == [(rounds, ["0", "1", "2"])] * 3
    assert len(service.words) == 9  # of each process the last two of a topic
    assert Alone().gather("a", "x") == ["x"]


def test_the_first_alone_does_what_all_hear_of():
    called = []

    def ask(peers):
        return first_says(peers, "a", lambda x: called.append(peers.index) or [x], 7)

    assert on_all(3, ask)[0] == [[7]] * 3
    assert called == [0]


def test_damage_that_one_process_finds_is_found_by_all(tmp_path):
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).write_text(name * 9)

    def save(peers):
        return manifest.checksums(tmp_path, names, peers)

    (sums, *others), _ = on_all(2, save)
    assert others == [sums] == [manifest.checksums(tmp_path, names, Alone())]
    manifest.write(tmp_path, {"format": manifest.FORMAT, "files": sums})
    read = [content["files"] for content in on_all(2, of_whole(tmp_path))[0]]
    assert read == [sums, sums]
    (tmp_path / "b").write_text("bbbb?bbbb")  # which process 1 reads
    for index, error in enumerate(on_all(2, of_whole(tmp_path))[0]):
        assert isinstance(error, DamagedCheckpointError), index
        assert "b has changed" in str(error)


def of_whole(folder):
    def read(peers):
        try:
            return manifest.read_whole(folder, peers)
        except DamagedCheckpointError as error:
            return error

    return read


@pytest.fixture
def watching():
    """Watches of a service: ``(service, index) -> (watch, what it ended by)``."""
    watches = []

    def start(service, index, limit=1.5):
        ends = []
        watches.append(
            Watch(service, index, 2, ends.append, interval=0.02, limit=limit)
        )
        return watches[-1], ends

    yield start
    for watch in watches:
        watch.close()


def wait_for(ends):
    deadline = time.monotonic() + 30
    while not ends and time.monotonic() < deadline:
        time.sleep(0.01)
    return ends


def test_who_is_silent_is_gone(watching):
    service = Service()
    _, mine = watching(service, 0)
    other, others = watching(service, 1)
    time.sleep(2)
    assert (mine, others) == ([], [])
    other.close()
    assert wait_for(mine) == ["nothing is heard of process 1 for 2 s"]
    assert others == []


def test_who_ends_says_why(watching):
    service = Service()
    _, mine = watching(service, 0, limit=60)
    other, _ = watching(service, 1, limit=60)
    other.tell("the disk is full")
    assert wait_for(mine) == ["process 1 has ended: the disk is full"]


def test_who_is_done_may_be_silent(watching):
    service = Service()
    watch, mine = watching(service, 0)
    other, _ = watching(service, 1)
    other.close()
    other.tell("")
    assert f"{ENDED}1" in service.words
    time.sleep(2)
    assert mine == []
    watch.close()
    watch.tell("")
    watch.wait_for_all(60)


def test_without_a_service_process_0_is_gone(watching):
    service = Service()
    _, mine = watching(service, 1)
    service.words = None
    assert wait_for(mine) == ["nothing is heard of process 0 for 2 s"]
