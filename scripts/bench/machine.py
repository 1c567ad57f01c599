"""The machine that the numbers were measured on, without names of hosts or paths."""

from __future__ import annotations

import os
import platform
import subprocess


def described(directory: str) -> dict[str, str]:
    """Return the facts that a reader needs to compare."""
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory_gb():.0f} GB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "file system": file_system(directory),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def processor() -> str:
    """Return the processor's model, if /proc has it."""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def memory_gb() -> float:
    """Return how much memory there is."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)


def file_system(directory: str) -> str:
    """Return the type of the file system that a directory is on."""
    command = ["df", "--output=fstype", directory]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
