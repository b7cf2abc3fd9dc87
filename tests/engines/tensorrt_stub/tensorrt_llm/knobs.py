"""What a test may set of the stub; nothing here is part of TensorRT-LLM.

Attributes:
    clock_ahead_s: the executor's clock minus the one of ``time.monotonic``.
    metrics: whether requests come back with their metrics.
    step_s: time of one step of the executor.
    open_engines: engines that were not shut down.
    aborted: requests that were.
    per_response: tokens that a response brings.
"""

clock_ahead_s = 0.0
metrics = True
step_s = 0.0005
open_engines = 0
aborted = 0
per_response = 1
