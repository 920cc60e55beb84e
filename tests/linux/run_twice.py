#!/usr/bin/env python3
"""Boots Debian's i386 Linux twice with --clock=instructions, with what is typed in a script, and compares:
what comes from the serial line, with all times that the guest prints, and the instructions executed.

    run_twice.py --trapline build/release/trapline
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import machine
from loads import initramfs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LIMIT = 240
SCRIPT = r"""# The prompt ends in '# '.
wait # \e[6n
send for i in 1 2 3; do date -Ins; sleep 1; done; cat /proc/uptime /proc/interrupts\n
wait # \e[6n
send poweroff -f\n
"""


def run(options, folder, number, more):
    statistics = folder / f"{number}.json"
    setup = machine.Configuration(kernel=str(options.guests / options.kernel / "vmlinuz"),
                                  initrd=str(folder / "shell.gz"))
    command = [options.trapline, "run", "--kernel", setup.kernel, "--initrd", setup.initrd,
               "--append", setup.command_line(), "--memory", "256M", "--no-reboot",
               "--clock", "instructions", "--serial", f"script:{folder / 'script'}",
               f"--stats={statistics}", "--timeout", str(LIMIT), *more]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=2 * LIMIT, check=False)
    if done.returncode != 0 or b"Power down" not in done.stdout:
        sys.exit(f"status {done.returncode}: {done.stderr.decode()}\n"
                 f"{done.stdout.decode(errors='replace')[-3000:]}")
    return done.stdout, json.loads(statistics.read_text())["counters"]["instructions"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trapline", required=True, metavar="FILE")
    parser.add_argument("--loads", help="not used: no load runs")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"))
    parser.add_argument("--kernel", default="686")
    parser.add_argument("--second-option", action="append", default=[], metavar="OPTION",
                        help="one more for the second run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "script").write_text(SCRIPT)
        archive = initramfs.base(options.guests / "busybox" / "busybox")
        initramfs.write(archive, folder / "shell.gz")
        first = run(options, folder, 1, [])
        second = run(options, folder, 2, options.second_option)
    print(f"{first[1]} instructions, then {second[1]}")
    if first != second:
        here = next((i for i, (a, b) in enumerate(zip(first[0], second[0])) if a != b),
                    min(len(first[0]), len(second[0])))
        for output, _ in (first, second):
            print(f"--- at {here}: {output[max(0, here - 300):here + 200]!r}")
        sys.exit("the runs differ")


if __name__ == "__main__":
    main()
