"""Fits of series whose figures are known by hand."""

import pytest

from benchmarks import results
from reports import growth
from reports.benchmark_files import Row


def make_rows(*changes, source="a"):
    """Rows of resnet_v2_50 at batch 16 and 224 pixels but for the changes; `seconds` is the only step time."""
    rows = []
    for number, change in enumerate(changes, 1):
        values = {"model": "resnet_v2_50", "batch_size": 16, "image_size": 224, "multiply_adds": 10**9} | change
        seconds = values.pop("seconds")
        setup = results.Setup(engine="tensorflow", precision="float32", num_classes=10, parameters=1, **values)
        rows.append(Row(source, results.Result(setup, "forward", 0, (seconds,)), number))
    return rows


def depths(*seconds):
    work = {50: 1, 101: 2, 152: 3, 200: 4}
    return make_rows(
        *(
            {"model": f"resnet_v2_{depth}", "multiply_adds": work[depth] * 10**9, "seconds": each}
            for depth, each in zip(work, seconds, strict=False)
        )
    )


def test_a_line_is_found_and_its_slope_is_a_speed():
    # Half a second and a second more for each 16 G multiply-adds: 32 GFLOP/s.
    (fit,) = growth.fits(depths(1.5, 2.5, 3.5, 4.5))
    assert fit.figure == pytest.approx(1.0) and fit.holds is True
    assert fit.text == "R2 1.0000 of 4 depths; slope 32.0 GFLOP/s, at 0 +0.500 s"
    assert fit.series.startswith("resnet_v2, ")


def test_r2_of_points_beside_a_line():
    # The line 0.5 + 0.8 x leaves -0.3, 0.9, -0.9 and 0.3, whose squares sum to 1.8, of 5 around the mean.
    (fit,) = growth.fits(depths(1.0, 3.0, 2.0, 4.0))
    assert fit.figure == pytest.approx(1 - 1.8 / 5) and fit.holds is False


def test_two_depths_say_nothing_of_a_line():
    assert growth.fits(depths(1.0, 9.0)) == []


@pytest.mark.parametrize(
    ("seconds", "holds", "spread"),
    # 16, 32 and 64 images: 16, 16 and 16 images/s; then 16, 16 and 20; then 16, 17.6 and 16.
    [((1.0, 2.0, 4.0), True, 0.0), ((1.0, 2.0, 3.2), False, 0.25), ((1.0, 32 / 17.59, 4.0), True, 0.099375)],
)
def test_images_a_second_over_batches(seconds, holds, spread):
    batches = [{"batch_size": batch, "seconds": each} for batch, each in zip((16, 32, 64), seconds, strict=True)]
    # Neither a smaller nor a larger batch belongs to the bound.
    (fit,) = growth.fits(make_rows(*batches, {"batch_size": 1, "seconds": 9.0}, {"batch_size": 128, "seconds": 1.0}))
    assert (fit.holds, fit.figure) == (holds, pytest.approx(spread))


def test_a_bound_is_for_its_whole_range():
    (fit,) = growth.fits(make_rows({"batch_size": 16, "seconds": 1.0}, {"batch_size": 32, "seconds": 2.0}))
    assert fit.holds is None and fit.figure == 0.0


def test_time_of_a_pixel():
    # 16 images of 160 and of 320 pixels: 4 times the pixels in 4.4 times the time.
    small, large = {"image_size": 160, "seconds": 1.0}, {"image_size": 320, "seconds": 4.4}
    (fit,) = growth.fits(make_rows(large, small))
    assert (fit.figure, fit.holds) == (pytest.approx(0.1), False)
    assert fit.text == "10.0% (160: 2441, 320: 2686)"


def test_only_rows_of_one_file_and_one_kind_are_a_series():
    rows = make_rows({"batch_size": 16, "seconds": 1.0})
    rows += make_rows({"batch_size": 64, "seconds": 4.0}, source="b")
    rows += make_rows({"batch_size": 32, "image_size": 160, "seconds": 4.0})
    assert growth.fits(rows) == []
    first, second = (make_rows({"seconds": 1.0}, {"batch_size": 64, "seconds": 4.0}, source=name) for name in "ab")
    assert [fit.series for fit in growth.fits(first + second)] == ["a", "b"]
