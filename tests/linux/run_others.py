#!/usr/bin/env python3
"""Starts Debian's kernels that are no Linux under Trapline or QEMU and checks what they say.

    run_others.py --trapline build/release/trapline --guest gnumach --guest memtest
    run_others.py --qemu qemu-system-i386 --guest gnumach

docs/linux-guests.md says what each guest does.
"""

import argparse
import calendar
import os
import pathlib
import re
import sys
import time

sys.dont_write_bytecode = True

import machine
from machine import MachineError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MEBIBYTES = {"M": 1, "G": 1024}


def command(options, kernel, append, module=None):
    if options.qemu:
        return ([options.qemu, "-accel", "tcg", "-nodefaults", "-display", "none",
                 "-monitor", "none", "-chardev", "stdio,id=console,signal=off",
                 "-serial", "chardev:console", "-kernel", str(kernel), "-append", append,
                 "-m", options.memory, "-cpu", options.cpu, "-no-reboot"]
                + (["-initrd", module] if module else []))
    protocol = "--multiboot" if "gnumach" in kernel.name else "--kernel"
    return ([options.trapline, "run", protocol, str(kernel), "--append", append,
             "--memory", options.memory, "--cpu", options.cpu, "--no-reboot"]
            + (["--module", module] if module else []) + options.option)


def mebibytes(options):
    return int(options.memory[:-1]) * MEBIBYTES[options.memory[-1]]


# --- GNU Mach --------------------------------------------------------------------------------------

def watch_mach(running, options):
    """From the kernel's name to the end of its device probe, and the date it took from the clock."""
    problems = []
    running.expect(r"^GNU Mach 1\.8", 60)
    ends = {}  # Of the available ranges, by where they begin.
    while found := running.expect(r"^biosmem: (0[0-9a-f]+):(0[0-9a-f]+), (\w+)\n"
                                  r"|^vm_page: page table", 20):
        if not found[1]:
            break
        if found[3] == "available":
            ends[int(found[1], 16)] = int(found[2], 16)
    # A BIOS keeps some of the last mebibyte for its tables.
    end = ends.get(1 << 20, 0) / (1 << 20)
    if 0 not in ends or not mebibytes(options) - 1 <= end <= mebibytes(options):
        problems.append(f"the memory map has no more than {ends}")
    running.expect(r"^Probing PCI hardware", 20)
    for host in range(16):
        running.expect(rf"probing scsi {host}/16:", 60)
    running.expect(r"^scsi : 0 hosts\.", 60)
    running.expect(r"^scsi : detected total\.", 10)
    date = running.expect(r"^RTC time is (\d+-\d+-\d+ \d+:\d+:\d\d)", 30)[1]
    difference = time.time() - calendar.timegm(time.strptime(date, "%Y-%m-%d %H:%M:%S"))
    if not -2 < difference < 10:
        problems.append(f"the date {date} differs from the host's by {difference:.1f} s")
    return problems


def gnumach(options):
    """The kernel alone: it ends in a panic, for want of a first task."""
    with start(options, "gnumach", "console=com0") as running:
        problems = watch_mach(running, options)
        running.expect(r"^panic \S+: bootstrap_create: No bootstrap code loaded", 20)
        return finish(running, problems)


def gnumach_task(options):
    """The kernel with a program of ours as its first task."""
    task = pathlib.Path(options.loads) / "mach_task"
    module = f"{task} task $(task-create) $(task-resume)"
    with start(options, "gnumach", "console=com0", module) as running:
        problems = watch_mach(running, options)
        running.expect(r"^1 multiboot modules", 20)
        verdict = running.expect(r"the task (passed|failed)", 60)[1]
        if verdict != "passed":
            problems.append("the task found something wrong")
        return finish(running, problems)


# --- memtest86+ ------------------------------------------------------------------------------------

def memtest(options):
    """One pass of all tests; without --long it leaves out the last, which is five minutes of waiting.
    The menu is used to say so, and Escape ends the run by a reset."""
    kernel = options.guests / KERNELS["memtest"]
    with machine.TerminalMachine(command(options, kernel, "console=ttyS0,115200")) as running:
        problems = []
        size = int(running.see(r"Memory  : +(\d+)MB", 60)[1])
        if size not in (mebibytes(options), mebibytes(options) - 1):  # A BIOS keeps some of it.
            problems.append(f"it finds {size} MiB of memory")
        if not options.long:
            running.type("1", "<F1>  Test selection")
            running.type("1", r"\*\*\*\*$")
            running.type("2", "Enter test #")
            running.type("10\r", r"\*\*\*\.$")
            running.type("0", "<F1>  Test selection")
            running.type("0", "Using: ")
        errors = running.see(r"Pass: +1 +Errors: +(\d+)", 1800)[1]
        print(f"a pass took {running.elapsed():.1f} s")
        if errors != "0":
            problems.append(f"memtest86+ found {errors} errors\n{running.screen.text()}")
        if running.screen.unknown:
            problems.append(f"unknown escape sequences {sorted(running.screen.unknown)}")
        running.send("\x1b")
        status = running.wait(60)
        if status != 0:
            problems.append(f"the machine ended with status {status}, not 0")
        return finish(running, problems)


# --- iPXE ------------------------------------------------------------------------------------------

def ipxe(options):
    """It starts in real mode and asks the BIOS how much memory there is, which is how it ends here."""
    with start(options, "ipxe", "") as running:
        if options.qemu:
            return finish(running, ["QEMU brings a BIOS, and iPXE draws on the screen only"])
        status = running.wait(60)
        problems = [] if status == 84 else [f"exit status {status}, not 84"]
        if not re.search("called the BIOS by INT 0x15 with AX 88", running.errors.decode()):
            problems.append("nobody says that it called the BIOS")
        return finish(running, problems)


GUESTS = {"gnumach": gnumach, "gnumach-task": gnumach_task, "memtest": memtest, "ipxe": ipxe}
KERNELS = {"gnumach": "others/gnumach", "memtest": "others/boot/memtest86+ia32.bin",
           "ipxe": "others/boot/ipxe.lkrn"}


def start(options, name, append, module=None):
    return machine.Machine(command(options, options.guests / KERNELS[name], append, module))


def finish(running, problems):
    running.stop()
    if problems:
        problems.append(running.description())
    return problems


def run(options, name):
    since = time.monotonic()
    try:
        problems = GUESTS[name](options)
    except MachineError as error:
        problems = [str(error)]
    print(f"{name}: {'FAILED' if problems else 'passed'} after {time.monotonic() - since:.1f} s")
    for problem in problems:
        print(problem)
    sys.stdout.flush()
    return not problems


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runner = parser.add_mutually_exclusive_group(required=True)
    runner.add_argument("--trapline", metavar="FILE", help="the trapline program")
    runner.add_argument("--qemu", metavar="FILE", help="qemu-system-i386")
    parser.add_argument("--guest", action="append", required=True, choices=[*GUESTS])
    parser.add_argument("--loads", default="build/release/linux-loads", metavar="DIR",
                        help="the compiled programs (default: %(default)s)")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"),
                        help="what scripts/guests fetched (default: %(default)s)")
    parser.add_argument("--memory", default="64M")
    parser.add_argument("--cpu", default="pentium3")
    parser.add_argument("--option", action="append", default=[], help="one more for the VMM")
    parser.add_argument("--long", action="store_true", help="leave nothing out")
    options = parser.parse_args()
    if not (options.guests / KERNELS["gnumach"]).exists():
        parser.error(f"{options.guests} holds no GNU Mach: run scripts/guests others")
    return options


def main():
    options = parse_arguments()
    failed = [name for name in options.guest if not run(options, name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
