#!/usr/bin/env python3
"""Linux under Trapline and under QEMU's TCG, side by side: the same kernel, initramfs, memory, CPU
model and mitigations; in each round every machine boots once, in turns. Measured are the boot to the
shell's prompt by the host's clock, operations of the kernel by the guest's clock (which is checked
against the host's), and what the machine cost the host.

The exit status is 0 when everything ran; with --require-targets also only when the targets are met."""

import argparse
import os
import pathlib
import shlex
import shutil
import statistics
import sys
import tempfile

sys.dont_write_bytecode = True

import benchlib
from benchlib import BenchError

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(ROOT / "tests/linux"), str(ROOT / "examples/linux")]

import initramfs
import machine

BOOT_LIMIT = 180
BOOT = "boot to the shell"
OPERATIONS = ["getpid", "getpid-int80", "page-fault", "pipe-ping-pong", "fork-exit", "fork-exec",
              "program-start"]
COSTS = ["processor time of the boot", "processor time of all", "peak memory"]
UNITS = {BOOT: "s", COSTS[0]: "s", COSTS[1]: "s", COSTS[2]: "MiB"}
TARGETS = {BOOT: 2.0, **{name: 1.5 for name in OPERATIONS if name != "getpid-int80"}}
CLOCK_TOLERANCE = 0.05

# QEMU's models made equal to Trapline's of the name, where it decides about mitigations.
QEMU_MODELS = {"pentium3": "pentium3,model=8,stepping=6,-hypervisor",
               "max": "n270,stepping=10,-hypervisor,-sse3,-ssse3,-movbe"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", metavar="DIR",
                        help="the build tree (default: %(default)s)")
    parser.add_argument("--trapline", metavar="FILE", help="the VMM (default: DIR/trapline)")
    parser.add_argument("--trapline-options", default="", metavar="TEXT",
                        help="more options for it, such as '--direct-exec=never'")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"),
                        help="what scripts/guests fetched (default: %(default)s)")
    parser.add_argument("--engines", default="trapline,qemu", metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--kernel", default="686", help="686, 686-pae or rt-686-pae")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--cpu", default="pentium3")
    parser.add_argument("--append", default="", metavar="TEXT",
                        help="more for the kernel's command line, such as mitigations=off")
    parser.add_argument("--check", action="store_true", help="one round: that it runs, no table")
    parser.add_argument("--require-targets", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="also write everything there ('-': stdout)")
    options = parser.parse_args()
    options.engines = options.engines.split(",")
    if unknown := [name for name in options.engines if name not in ("trapline", "qemu")]:
        parser.error(f"no such engine: {', '.join(unknown)}")
    if options.check:
        options.rounds = 1
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def required(path, remedy):
    if not os.path.exists(path):
        raise BenchError(f"{path} does not exist: {remedy}")
    return str(path)


def make_initramfs(options, path):
    archive = initramfs.base(required(options.guests / "busybox/busybox", "run scripts/guests"))
    program = required(os.path.join(options.build, "bench-guests/linux-operations"),
                       "build the project first, or say --build DIR")
    with open(program, "rb") as file:
        archive.add_file("loads/operations", file.read(), 0o755)
    initramfs.add_program(archive, pathlib.Path(required(options.guests / "loads",
                                                         "run scripts/guests all")), "usr/bin/xz")
    initramfs.write(archive, path)


def command(options, engine, initrd):
    setup = machine.Configuration(
        kernel=required(options.guests / options.kernel / "vmlinuz", "run scripts/guests all"),
        initrd=initrd, append=f"quiet {options.append}".strip(), memory=options.memory,
        cpu=options.cpu)
    if engine == "trapline":
        setup.options = shlex.split(options.trapline_options)
        return machine.trapline_command(benchlib.trapline_program(options), setup)
    qemu = shutil.which("qemu-system-i386")
    if qemu is None:
        raise BenchError("qemu-system-i386 is not installed (Debian: qemu-system-x86)")
    setup.cpu = QEMU_MODELS.get(setup.cpu, setup.cpu)
    return machine.qemu_command(qemu, setup)


def run_once(options, engine, initrd):
    """(measured values by name, what the guest says about its processor and mitigations)"""
    with machine.Machine(command(options, engine, initrd)) as running:
        try:
            return converse(running)
        except machine.MachineError as error:
            raise BenchError(f"{engine}: {error}\n{running.description()}") from error


def converse(running):
    running.expect(machine.PROMPT, BOOT_LIMIT)
    values = {BOOT: running.elapsed(), COSTS[0]: running.processor_seconds()}
    identity = {
        "flags": running.run("sed -n 's/^flags.*: //p' /proc/cpuinfo"),
        "model": running.run("grep -E '^(vendor|cpu family|model|stepping)' /proc/cpuinfo"),
        "mitigations": running.run(
            "cd /sys/devices/system/cpu/vulnerabilities; grep . *; cd"),
        "clocksource": running.run(
            "cat /sys/devices/system/clocksource/clocksource0/current_clocksource")}
    values.update(measure_operations(running))
    running.send("poweroff -f\n")
    if running.wait(60) != 0:
        raise machine.MachineError(f"exit status {running.process.returncode}, not 0")
    values[COSTS[1]] = running.usage.ru_utime + running.usage.ru_stime
    values[COSTS[2]] = running.usage.ru_maxrss / 1024
    return values, identity


def measure_operations(running):
    running.send("/loads/operations\n")
    running.expect("^operations begin$", 30)
    position, begin = running.seen, running.elapsed()
    running.expect("^operations end$", 300)
    spent = running.elapsed() - begin
    output = running.text()[position:running.seen]
    claimed = float(benchlib.fields(output, "clock")[0]["ns"]) / 1e9
    if abs(claimed / spent - 1) > CLOCK_TOLERANCE:
        raise machine.MachineError(f"{spent:.2f} s passed, but {claimed:.2f} s by the guest's clock")
    running.expect(machine.PROMPT, 30)
    return {line["operation"]: float(line["median"])
            for line in benchlib.fields(output, "operation")}


def measure(options):
    results = {engine: [] for engine in options.engines}
    identities = {}
    with tempfile.TemporaryDirectory() as folder:
        initrd = os.path.join(folder, "initramfs.gz")
        make_initramfs(options, initrd)
        for number in range(options.rounds):
            # Who comes first changes, so that neither always finds the warmer machine.
            for engine in options.engines if number % 2 == 0 else options.engines[::-1]:
                values, identities[engine] = run_once(options, engine, initrd)
                results[engine].append(values)
                print(f"round {number + 1}: {engine} booted in {values[BOOT]:.2f} s",
                      file=sys.stderr, flush=True)
    return results, identities


def medians(results):
    return {engine: {name: statistics.median(values[name] for values in rounds)
                     for name in [BOOT, *OPERATIONS, *COSTS]}
            for engine, rounds in results.items()}


def shown(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def print_table(middle):
    engines = list(middle)
    both = "trapline" in engines and "qemu" in engines
    print(f"{'':28}{'':5}" + "".join(f"{engine:>12}" for engine in engines)
          + (f"{'ratio':>9}{'target':>9}" if both else ""))
    for name in [BOOT, *OPERATIONS, *COSTS]:
        line = f"{name:28}{UNITS.get(name, 'ns'):5}"
        line += "".join(f"{shown(middle[engine][name]):>12}" for engine in engines)
        if both:
            line += f"{ratio(middle, name):9.2f}"
            line += f"{TARGETS[name]:9.1f}" if name in TARGETS else ""
        print(line)


def ratio(middle, name):
    """How many times as fast (or as cheap) Trapline is."""
    return middle["qemu"][name] / middle["trapline"][name]


def judge(middle):
    if len(middle) < 2:
        return []
    return [(f"{name}: {ratio(middle, name):.2f} times as fast, target {target}",
             ratio(middle, name) >= target) for name, target in TARGETS.items()]


def print_identities(identities):
    for what in ("model", "mitigations", "clocksource", "flags"):
        texts = {identity[what] for identity in identities.values()}
        if len(texts) == 1:
            if what in ("mitigations", "clocksource"):
                print(f"\n{what} (the same):\n{texts.pop()}")
            continue
        print(f"\n{what} differ:")
        for engine, identity in identities.items():
            print(f"  {engine}: " + "\n    ".join(identity[what].splitlines()))


def main():
    options = arguments()
    results, identities = measure(options)
    middle = medians(results)
    verdicts = judge(middle)
    mitigations = {identity["mitigations"] for identity in identities.values()}
    if not options.check and options.json != "-":
        print(f"kernel {options.kernel}, {options.memory}, CPU {options.cpu}, "
              f"medians of {options.rounds}\n")
        print_table(middle)
        print_identities(identities)
        print()
        for what, met in verdicts:
            print(f"{'met   ' if met else 'MISSED'}  {what}")
    benchlib.write_json(options.json, {
        "host": benchlib.host_description(), "rounds": results, "medians": middle,
        "guests": identities, "targets": [{"what": what, "met": met} for what, met in verdicts]})
    if len(mitigations) > 1:
        raise BenchError("the guests do not have the same mitigations; nothing can be compared")
    return int(options.require_targets and not all(met for _, met in verdicts))


benchlib.main_guard(main)
