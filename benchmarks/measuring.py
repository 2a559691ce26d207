"""Times configurations, one after the other or in alternation; one that runs out of memory becomes a row saying so."""

import dataclasses
import gc
import statistics
import time

from benchmarks import disturbance, memory, results, timing


def time_rounds(configurations, num_rounds, reporter, time_one=None):
    """Times all configurations in alternation, A B A B ...; each turn builds its network again.

    Args:
      configurations: A list of grid.Configuration.
      num_rounds: Turns of each.
      reporter: A printing.Printer.
      time_one: `time_configuration`, or a function in its place.

    Returns:
      A list with a results.Result or a results.Failure for each pass of each configuration.

    Raises:
      UserError: As `time_configuration`.
    """
    time_one = time_one or time_configuration
    rounds = []
    for number in range(num_rounds):
        if num_rounds > 1:
            reporter.round_started(number + 1, num_rounds)
        rounds.append([one for configuration in configurations for one in time_one(configuration, reporter)])
    merged = [_merge(turns) for turns in zip(*rounds, strict=True)]
    if num_rounds > 1:
        reporter.rounds_finished(merged)
    return merged


def _merge(turns):
    """Merges the turns of one pass into one result; a failure if one of them failed."""
    failed = [turn for turn in turns if isinstance(turn, results.Failure)]
    if failed or len(turns) == 1:
        return (failed or turns)[0]
    step_seconds = sum((turn.step_seconds for turn in turns), ())
    peaks = [turn.peak_memory_bytes for turn in turns if turn.peak_memory_bytes is not None]
    shares = [turn.others_share for turn in turns if turn.others_share is not None]
    return dataclasses.replace(
        turns[0],
        step_seconds=step_seconds,
        round_steps=tuple(len(turn.step_seconds) for turn in turns),
        prepare_seconds=statistics.median(turn.prepare_seconds for turn in turns),
        first_step_seconds=statistics.median(turn.first_step_seconds for turn in turns),
        peak_memory_bytes=max(peaks, default=None),
        others_share=max(shares, default=None),
        warnings=disturbance.describe_doubts(step_seconds, max(shares, default=None)),
    )


def time_configuration(configuration, reporter):
    """Times each pass of a configuration.

    Args:
      configuration: A grid.Configuration.
      reporter: A printing.Printer, which is told about the progress.

    Returns:
      A list with a results.Result, or a results.Failure, for each pass.

    Raises:
      UserError: If a data set, an engine or a precision is not available.
    """
    from benchmarks import steps

    try:
        setup, prepared = steps.build_steps(configuration)
    except Exception as error:
        return fail(configuration, configuration.passes, out_of_memory(error), reporter)
    reporter.started(setup)
    measured = []
    for name in configuration.passes:
        try:
            measured.append(_time_pass(setup, name, prepared.pop(name), configuration, reporter))
        except Exception as error:
            measured += fail(configuration, [name], out_of_memory(error), reporter)
        gc.collect()
    return measured


def fail(configuration, passes, error, reporter):
    """Makes a results.Failure for each of some passes, and reports them."""
    failures = [results.Failure(configuration, name, error) for name in passes]
    for failure in failures:
        reporter.pass_failed(failure)
    return failures


def out_of_memory(error):
    """The message of an out-of-memory error in one line; any other error is raised again."""
    import tensorflow as tf

    first_line = (getattr(error, "message", None) or str(error)).strip().partition("\n")[0]
    known = isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError))
    # onnxruntime and OpenVINO have no error class for it.
    if not known and not (isinstance(error, RuntimeError) and "alloc" in first_line.lower()):
        raise error
    return f"out of memory: {first_line or type(error).__name__}"


def _time_pass(setup, pass_name, step, configuration, reporter):
    """Prepares a step, runs it once (the first call compiles), and then times it; returns a Result."""
    reporter.pass_started(pass_name)
    memory.reset_peak()
    start = time.perf_counter()
    step.prepare()
    prepared = time.perf_counter()
    step.run()
    first_done = time.perf_counter()
    watch = None

    def on_step(index, seconds):
        nonlocal watch
        reporter.step(pass_name, index, seconds)
        if index == -1:
            watch = disturbance.Watch()

    if not configuration.burn_in:
        watch = disturbance.Watch()
    step_seconds = timing.time_steps(
        step.run, configuration.num_batches, configuration.burn_in, on_step=on_step, seconds=configuration.seconds
    )
    others_share = watch.others_share()
    result = results.Result(
        setup,
        pass_name,
        configuration.burn_in,
        tuple(step_seconds),
        prepare_seconds=prepared - start,
        first_step_seconds=first_done - prepared,
        peak_memory_bytes=memory.peak_bytes(),
        others_share=others_share,
        warnings=disturbance.describe_doubts(step_seconds, others_share),
    )
    reporter.pass_finished(result)
    return result
