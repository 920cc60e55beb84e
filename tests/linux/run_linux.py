#!/usr/bin/env python3
"""Boots Debian's i386 Linux under Trapline or QEMU and checks what it does.

    run_linux.py --trapline build/release/trapline --loads build/release/linux-loads --suite programs
    run_linux.py --qemu qemu-system-i386 --loads build/release/linux-loads --scenario shell --kernel 686-pae

A suite is a set of loads for one boot, a scenario a conversation with the shell; both may be given
several times. docs/linux-guests.md says more.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

sys.dont_write_bytecode = True

import loads
import machine
import scenarios
from loads import initramfs
from machine import MachineError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BOOT_LIMIT = 120
INTERPRETED_LIMIT = 0.001

# What the kernel says when something is wrong with it, or with what it found. ('tsc-early' is measured
# by counting timer interrupts, of which a busy host makes it lose some.)
COMPLAINTS = re.compile(
    r"BUG|WARNING|Oops|Call Trace|general protection|invalid opcode|unable to handle|lockup|stall|"
    r"'tsc' as unstable|nobody cared|spurious|bad page|segfault|Machine check|hung|"
    r"double fault|stack guard|scheduling while atomic|Lost \d+ ticks|unexpected")


def make_initramfs(kit, chosen, path):
    archive = initramfs.base(kit.guests / "busybox" / "busybox")
    for load in chosen:
        load.install(archive, kit)
    initramfs.write(archive, path)


def start(options, setup, terminal=False):
    command = (machine.qemu_command(options.qemu, setup) if options.qemu else
               machine.trapline_command(options.trapline, setup))
    if terminal:
        return machine.TerminalMachine(command, *map(int, setup.size.split("x")))
    return machine.Machine(command)


def configuration(options, initrd, append, **more):
    return machine.Configuration(
        kernel=str(options.guests / options.kernel / "vmlinuz"), initrd=str(initrd),
        append=f"quiet {append} {options.append}".strip(), memory=options.memory, cpu=options.cpu,
        options=list(options.option), **more)


def check_status(running, limit=60):
    status = running.wait(limit)
    if status != 0:
        raise MachineError(f"the machine ended with status {status}, not 0")


def run_loads(running, chosen, kit):
    """Follows the guest through the loads; what is wrong, as a list of sentences."""
    problems = []
    limit = BOOT_LIMIT
    for load in chosen:
        running.expect(rf"^@begin {load.name}$", limit)
        begin, since = running.seen, running.elapsed()
        status = int(running.expect(rf"^@end {load.name} (\d+)$", load.limit)[1])
        output = running.text()[begin:running.seen].strip("\n").rsplit("\n", 1)[0].strip("\n")
        found = load.problems(output, kit)
        if status != 0:
            found.insert(0, f"exit status {status}")
        print(f"{load.name}: {'FAILED' if found else 'passed'} "
              f"in {running.elapsed() - since:.1f} s", flush=True)
        problems += [f"{load.name}: {problem}" for problem in found]
        limit = 30
    running.expect(r"^@kernel$", 30)
    begin = running.seen
    running.expect(r"^@done$", 30)
    log = running.text()[begin:running.seen]
    problems += [f"the kernel complains: {line}" for line in log.splitlines()
                 if COMPLAINTS.search(line)]
    try:
        running.send("\n")
    except MachineError:
        pass  # The guest waits for ten seconds at most, and its status is looked at in any case.
    check_status(running)
    return problems


def run_suite(options, kit, name, folder):
    chosen = [load for load in loads.SUITES[name] if not options.load or load.name in options.load]
    if options.qemu:
        for load in chosen:
            if load.qemu_skip:
                print(f"{load.name}: skipped, {load.qemu_skip}")
        chosen = [load for load in chosen if not load.qemu_skip]
    initrd = folder / f"{name}.gz"
    make_initramfs(kit, chosen, initrd)
    setup = configuration(options, initrd,
                          "trapline.run=" + ",".join(load.name for load in chosen))
    statistics = folder / f"{name}.json"
    if options.trapline:
        setup.options.append(f"--stats={statistics}")
    with start(options, setup) as running:
        try:
            problems = run_loads(running, chosen, kit)
            if options.trapline:
                problems += interpreted_problems(statistics)
        except MachineError as error:
            problems = [str(error)]
        return report(name, running, problems)


def interpreted_problems(statistics):
    counted = json.loads(statistics.read_text())
    if not counted["counted"]:  # Native code does not count.
        print(", ".join(f"{name} {value}" for name, value in counted["counters"].items()
                        if name.startswith("native_")))
        return []
    share = counted["interpreted_share"]
    print(f"share of instructions that were interpreted: {share:.6f}")
    if share < INTERPRETED_LIMIT:
        return []
    return [f"{share:.2%} of the instructions were interpreted, most of them "
            f"{counted['interpreted_top'][:5]}"]


def run_scenario(options, kit, name, folder):
    initrd = folder / "shell.gz"
    if not initrd.exists():
        make_initramfs(kit, [], initrd)
    scenario = scenarios.SCENARIOS[name]
    setup = configuration(options, initrd, scenario.append, reboots=scenario.reboots)
    if scenario.terminal:
        setup.size = scenario.terminal
    with start(options, setup, bool(scenario.terminal)) as running:
        try:
            problems = scenario.play(running, options)
            if scenario.ends and not problems:
                check_status(running)
        except MachineError as error:
            problems = [str(error)]
        return report(name, running, problems)


def report(name, running, problems):
    running.stop()
    if problems:
        print(f"--- {name}: FAILED")
        for problem in problems:
            print(problem)
        print(running.description())
    else:
        print(f"{name}: passed after {running.elapsed():.1f} s, "
              f"{running.usage.ru_utime + running.usage.ru_stime:.1f} s of processor time, "
              f"{running.usage.ru_maxrss // 1024} MiB")
    sys.stdout.flush()
    return not problems


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runner = parser.add_mutually_exclusive_group(required=True)
    runner.add_argument("--trapline", metavar="FILE", help="the trapline program")
    runner.add_argument("--qemu", metavar="FILE", help="qemu-system-i386")
    parser.add_argument("--suite", action="append", default=[], choices=[*loads.SUITES])
    parser.add_argument("--load", action="append", metavar="NAME", help="of the suites, only these")
    parser.add_argument("--scenario", action="append", default=[], choices=[*scenarios.SCENARIOS])
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="all of it N times")
    parser.add_argument("--loads", default="build/release/linux-loads", metavar="DIR",
                        help="the compiled programs (default: %(default)s)")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"),
                        help="what scripts/guests fetched (default: %(default)s)")
    parser.add_argument("--kernel", default="686", help="686, 686-pae or rt-686-pae")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--cpu", default="pentium3")
    parser.add_argument("--append", default="", help="more for the kernel's command line")
    parser.add_argument("--option", action="append", default=[], help="one more for the VMM")
    parser.add_argument("--long", action="store_true", help="watch the clocks for ten minutes")
    options = parser.parse_args()
    if not options.suite and not options.scenario:
        parser.error("nothing to do: say --suite or --scenario")
    if not (options.guests / options.kernel / "vmlinuz").exists():
        parser.error(f"{options.guests} holds no kernel {options.kernel}: run scripts/guests all")
    return options


def main():
    options = parse_arguments()
    kit = loads.Kit(options.guests, options.loads)
    runs = options.repeat * (len(options.suite) + len(options.scenario))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeat):
            for name in options.suite:
                failed += not run_suite(options, kit, name, pathlib.Path(folder))
            for name in options.scenario:
                failed += not run_scenario(options, kit, name, pathlib.Path(folder))
    print(f"{runs} runs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
