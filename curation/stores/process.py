"""Which process something belongs to, on which machine, and whether it still lives."""

import socket
from pathlib import Path


def machine() -> str:
    """Tells machines and containers apart: process numbers mean something only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname()


def process_start(pid: int) -> str | None:
    """When a process began, in ticks since boot; None when there is none (proc(5), stat, field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
