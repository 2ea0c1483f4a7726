"""``experiments.benchmark scaling``: points that take turns."""

import sys

import pytest

from experiments.benchmarks import charts, scaling
from tron_jax.errors import UserError
from tron_jax.reporting import plots

PNG = b"\x89PNG"


class Fake:
    """A point that takes 1 µs for each item."""

    log: list

    def __init__(self, point):
        if point["num_items"] > 1000:
            raise UserError("needs 9.0 GB, 1.0 GB are free")
        self.point = point

    def time(self, steps):
        self.log.append(self.point["num_items"])
        return [self.point["num_items"] * self.point["batch_size"] / 1e6] * steps

    def finish(self):
        figures = (*charts.MEMORY, "inputs")
        return dict.fromkeys(figures, 10**9 * self.point["num_items"])


def test_points_take_turns_with_the_first(tmp_path):
    Fake.log = []
    sizes = {"num_items": [100, 300, 5000], "batch_size": [4, 16]}
    report = scaling.measure(sizes, 8, Fake, 12)
    first, second, third = report["series"]["num_items"]
    assert (first["seconds"], first["ratio"]) == (800e-6, 1)
    assert second["seconds"] == pytest.approx(2400e-6)
    assert second["ratio"] == pytest.approx(3)
    assert second["batch_size"] == 8
    assert second["peak_bytes"] == 3 * 10**11
    assert "9.0 GB" in third["error"]
    assert report["series"]["batch_size"][1]["ratio"] == pytest.approx(4)
    turns = Fake.log[1 : 1 + 2 * scaling.TURNS]
    assert turns == [300, 100] * scaling.TURNS
    table = scaling.table(report)
    assert "needs 9.0 GB" in table
    assert "3.00" in table
    picture = tmp_path / "scaling.png"

    def draw(figure):
        charts.draw_scaling(figure, report)

    assert plots.save(picture, draw, (8, 6))
    assert picture.read_bytes().startswith(PNG)


def test_a_point_that_ends_by_itself(monkeypatch):
    def point(code):
        command = [sys.executable, "-c", code]
        monkeypatch.setattr(scaling, "command", lambda arguments: command)
        return scaling.Process([])

    with pytest.raises(UserError, match="status 3"):
        point("import sys; sys.exit(3)")
    with pytest.raises(UserError, match=r"^needs more$"):
        point('print(\'{"error": "needs more"}\')')
    ended = point("print('{\"ready\": true}')")
    for _ in range(2):  # asked once more, it says so once more
        with pytest.raises(UserError, match="ended by itself"):
            ended.time(1)
