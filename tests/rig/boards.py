"""Typical boards, as settings of the simulated driver.

The keys of the settings, in the text file that the library reads:

===================================  ============================================================
``ngpus epoch_ns driver cuda``       the machine; Rig sets the first two
``marks stats``                      files of load marks and of call counters; Rig sets them
``latency_us latency_jitter_us``     time each call takes; ``latency_mode`` is ``sleep`` or ``spin``
``latency.FUNCTION_us``              time the calls of one function take
``missing``                          functions that the driver doesn't have: ``fn,fn``
``err.FUNCTION``                     ``code[,after_s[,every_n[,from_call]]]``; several after ``;``
``err.*``                            the same for all functions
``visible``                          indices of the GPUs that are there for a container: ``1,3``
``watch``                            1: a file that is replaced is read again before the next call
``name uuid arch cc mem_total``      what the board is
``wave wave_phase idle gated``       power under load, without load; ``gated=0`` is always load
``origin``                           ``mark``: each load begins the wave anew; or ``epoch``
``tail_ms tail_shape``               what follows a load: ``linear``, ``exponential``, ``steps``
``{usage,instant,average}_period_ms  PowerUsage, POWER_INSTANT, POWER_AVERAGE: how often updated,
...._window_ms``                     over what averaged
``gain offset_w noise``              of the sensors; ``sensor_delay_ms``
``tick_phase_ms``                    when sensors and counter tick after the epoch
``energy_period_ms``                 of the counter; also ``energy_jitter_ms energy_gain``
``energy_source``                    ``true``, or ``sensor``: it sums what the sensor sees
``energy_quant_mj energy_bits``      its steps, its width; ``energy_base_mj``: its start
``energy_reset_s``                   when it begins again at 0
``energy_supported``                 also ``instant_ average_ samples_supported``
``samples_period_ms field_ts``       of samples; time stamp of fields: ``call``, ``tick``, ``zero``
``power_limit_w``                    in force; ``power_min_w power_max_w``: what may be set
``temp0 temp_per_w temp_tau_s``      degrees at 0 W, per W, and how slowly they follow
``procs graphics_procs``             ``pid:bytes,pid:bytes``; bytes left out are not told
``mem_used throttle mig``            also ``persistence sm_clock mem_clock``
``utilization``                      in percent; where not set it follows power
``gpuN.KEY``                         of one GPU
``at.SECONDS.KEY``                   from a time after the epoch on: the keys from ``procs`` down,
                                     and ``power_limit_w``
===================================  ============================================================
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["A100", "BOARDS", "H100", "NO_COUNTER", "SENSOR", "V100", "Settings"]

Settings = Mapping[str, str | float]

V100: Settings = {
    "name": "Tesla V100-SXM2-32GB",
    "arch": 5,
    "cc": "7.0",
    "mem_total": 32 * 2**30,
    "idle": 40,
    "wave": "const:250",
    "power_limit_w": 300,
    "power_min_w": 150,
    "power_max_w": 300,
    "energy_period_ms": 20,
    "usage_period_ms": 20,
    "usage_window_ms": 10,
    "instant_period_ms": 20,
    "instant_window_ms": 10,
    "average_supported": 0,
}
"""A counter every 20 ms; the power of the last 10 ms as often."""

A100: Settings = {
    "name": "NVIDIA A100-SXM4-80GB",
    "arch": 7,
    "cc": "8.0",
    "mem_total": 80 * 2**30,
    "idle": 60,
    "wave": "const:400",
    "power_limit_w": 400,
    "power_min_w": 100,
    "power_max_w": 400,
    "energy_period_ms": 100,
    "usage_period_ms": 100,
    "usage_window_ms": 25,
    "average_supported": 0,
}
"""A counter every 100 ms; power sampled over 25 ms of each 100 ms."""

H100: Settings = {
    "name": "NVIDIA H100 80GB HBM3",
    "arch": 9,
    "cc": "9.0",
    "mem_total": 80 * 2**30,
    "idle": 70,
    "wave": "const:600",
    "power_limit_w": 700,
    "power_min_w": 200,
    "power_max_w": 700,
    "energy_period_ms": 100,
    "usage_period_ms": 100,
    "usage_window_ms": 1000,
}
"""A counter every 100 ms; PowerUsage is the mean of the last second."""

NO_COUNTER: Settings = {
    **H100,
    "name": "Simulated board without a counter",
    "energy_supported": 0,
    "instant_supported": 0,
    "samples_supported": 0,
}
"""No counter: only power, averaged over a second, every 100 ms."""

SENSOR: Settings = {
    **A100,
    "name": "Simulated board with a counter that sees a quarter of the time",
    "energy_source": "sensor",
}
"""A counter that sums what a sensor sees in 25 ms of each 100 ms."""

BOARDS: Mapping[str, Settings] = {
    "V100": V100,
    "A100": A100,
    "H100": H100,
    "NO_COUNTER": NO_COUNTER,
    "SENSOR": SENSOR,
}
