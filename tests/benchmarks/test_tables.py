"""The figures behind the tables' columns, as a pipe gets them."""

from benchmarks import grid, results, tables
from benchmarks.roofline import Peak

SETUP = results.Setup(
    "resnet_v2_50",
    "tensorflow",
    "float32",
    batch_size=4,
    image_size=224,
    num_classes=1000,
    parameters=25_500_000,
    multiply_adds=2_500_000_000,
    activation_values=20_000_000,
    weight_values=20_000_000,
)


def columns(lines, first_word):
    """A table as one dict a row."""
    header, *rows = [line.split()[2:] for line in lines if line.startswith(f"# {first_word} ")]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_columns(capsys):
    result = results.Result(SETUP, "forward", 1, (0.25, 0.5, 0.5, 1.0), 2.0, 1.0, 3 * 2**30)
    tables.print_tables([result], [Peak("float32", 80.0, 10.0), Peak("bfloat16", 1.0, 1.0)])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("# ") for line in lines)
    (times,), (speed,) = columns(lines, "times"), columns(lines, "speed")
    assert times | {"n": "4", "median": "0.500000", "MAD": "0.125000", "min": "0.250000", "max": "1.000000"} == times
    assert times["pass"] == speed["pass"] == "forward"
    # 8 images/s x 2 x 2.5 G = 40 of 80 GFLOP/s; 4 bytes x (4 x 20 M + 20 M) / 0.5 s = 0.8 of 10 GB/s.
    figures = {"images/s": "8.00", "GFLOP/s": "40.00", "of_peak": "50.0%", "GB/s": "0.800", "of_copy": "8.0%"}
    figures |= {"G_multiply-adds": "2.5000", "M_parameters": "25.500", "peak_MiB": "3072"}
    assert speed | figures | {"prepare_s": "2.00", "first_step_s": "1.00"} == speed


def test_what_is_not_known_and_what_failed(capsys):
    configuration = grid.Configuration("resnet_v2_50", "onnxruntime", "float32", 512, 224, 1000, folded=True)
    failure = results.Failure(configuration, "forward", "out of memory: killed")
    tables.print_tables([results.Result(SETUP, "forward", 1, (0.5,)), failure])
    lines = capsys.readouterr().out.splitlines()
    times, speed = columns(lines, "times"), columns(lines, "speed")
    assert times[0]["sd"] == speed[0]["of_peak"] == speed[0]["peak_MiB"] == "n/a"
    assert (times[1]["pass"], times[1]["n"], times[1]["median"]) == ("forward,folded", "out_of_memory", "n/a")
    assert set(list(speed[1].values())[6:]) == {"n/a"}


def test_without_results_there_are_no_tables(capsys):
    tables.print_tables([])
    assert capsys.readouterr().out == ""
