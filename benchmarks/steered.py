"""The Locust of `benchmarks.steering`: it steers an engine through one load, and says when that was measured.

The job comes on stdin as JSON; {"begin_ns", "end_ns", "engine_share", "locust_share"} goes to stdout: times
of the monotonic clock, and what each used of a core.
"""

import json
import sys
import time
from typing import Any

import gevent
from locust.env import Environment

from bench.job import Job
from benchmarks.side_by_side import SECONDS, WARMUP_S
from loadtests import _part
from loadtests._direct import DirectBulkUser
from loadtests._live import Live


def main() -> None:
    """One load."""
    job = Job.from_json(sys.stdin.read())
    environment: Any = Environment(user_classes=[DirectBulkUser])
    runner = environment.create_local_runner()
    part = _part.begin(environment, job, Live(time.time()).add, sys.exit)
    runner.start(job.writers, spawn_rate=100)
    runner.spawning_greenlet.join()
    gevent.sleep(WARMUP_S)
    part.measure()
    begin, cpu = time.perf_counter_ns(), time.process_time()
    gevent.sleep(SECONDS)
    end, used = time.perf_counter_ns(), time.process_time() - cpu
    share = part.end().cpu_share
    runner.quit()
    sys.stdout.write(
        json.dumps({"begin_ns": begin, "end_ns": end, "engine_share": share, "locust_share": used / SECONDS})
    )


if __name__ == "__main__":
    main()
