"""For the benchmarks that compare whole programs: steps in turn, and signs that the machine was disturbed.

A Stepper is a program that prints a line for each step. Between its turns it is stopped (SIGSTOP), so that programs
which know nothing of each other step in turn on one machine; no thread of a stopped one spins. The time of a step is
from the moment that it goes on to the arrival of its line.
"""
import os
import resource
import signal
import statistics
import subprocess
import sys
import time

import bench_torch

KEPT = bench_torch.MEMORY["kept"]


def clean_environment():
    """This process's environment, and so its children's, loses what tunes libraries."""
    for name in [name for name in os.environ if name.startswith(bench_torch.TUNED)]:
        del os.environ[name]


def free_gb():
    """Memory that programs can still take, in 10^9 bytes; much where nobody tells."""
    try:
        with open("/proc/meminfo") as f:
            return next(int(line.split()[1]) * 1.024e-6 for line in f if line.startswith("MemAvailable"))
    except OSError:
        return 1000.0


class Stepper:
    """command prints a line that ends a step if is_step(line). Its first step is done when this returns: it also pays for
    setting up and fresh memory, and nobody times it."""

    def __init__(self, command, is_step, environment=None):
        self.is_step, self.text = is_step, ""
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        self._until_step()

    def _until_step(self):
        for line in self.process.stdout:
            self.text += line
            if self.is_step(line):
                self.process.send_signal(signal.SIGSTOP)
                return
        sys.exit(f"{' '.join(self.process.args)}: ended too early with exit code {self.process.wait()}")

    def step(self):
        """Seconds of one more step."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        self._until_step()
        return time.monotonic() - began

    def finish(self):
        """Let it go on to its end; all that it has printed."""
        self.process.send_signal(signal.SIGCONT)
        self.text += self.process.stdout.read()
        if self.process.wait():
            sys.exit(f"{' '.join(self.process.args)}: exit code {self.process.returncode}")
        return self.text

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Watch:
    """Did other programs work on this machine between its making and warnings()?"""

    def __init__(self):
        self.began = self._now()

    @staticmethod
    def _now():
        mine = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        try:
            with open("/proc/stat") as f:
                ticks = [float(x) / os.sysconf("SC_CLK_TCK") for x in f.readline().split()[1:]]
        except OSError:
            return time.monotonic(), mine, None, None
        return time.monotonic(), mine, sum(ticks[:3]), ticks[7]  # user, nice, system; stolen

    def warnings(self):
        """Lines; children that are to be counted as ours must have ended."""
        before, now = self.began, self._now()
        if now[2] is None:
            return []
        took, mine, busy, stolen = (b - a for a, b in zip(before, now))
        lines, everything = [], took * os.cpu_count()
        if busy - mine > 0.05 * everything:
            lines.append(f"warning: other programs worked during this run, {100 * (busy - mine) / everything:.0f}% of the "
                         "processors' time")
        if stolen > 0.02 * everything:
            lines.append(f"warning: {100 * stolen / everything:.0f}% of the processors' time was taken away from this "
                         "virtual machine")
        return lines


def best_and_median(times, period):
    """times: seconds of steps whose work repeats after `period` steps. Seconds of one period: each of its steps at its
    best, and at its median."""
    same = [times[i::period] for i in range(period)]
    return sum(map(min, same)), sum(map(statistics.median, same))
