#!/usr/bin/env python3
"""Programs of Debian's i386 packages on the host and in a Linux guest with --direct-exec=never,
adaptive and always, side by side: the same binaries and libraries, for each program and round one
after the other. The guests stay booted meanwhile. After that, operations that are bound by system
calls and page faults, in the guests alone.

The host runs them on one processor, as the guest has one, and its C library is told to choose what
it chooses in the guest. With --shares each program runs once more in a machine of its own, whose
statistics tell how much of its user time was native.

The exit status is 0 when everything ran; with --require-targets also only when the targets are met."""

import argparse
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import benchlib
from benchlib import BenchError

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(ROOT / "tests/linux"), str(ROOT / "examples/linux")]

import initramfs
import machine

BOOT_LIMIT = 180
LIMIT = 300
SAMPLE_BYTES = 4 << 20
POLICIES = ["never", "adaptive", "always"]
OPERATIONS = ["getpid", "getpid-int80", "page-fault", "pipe-ping-pong", "fork-exit", "fork-exec"]
TARGET_MEAN = 0.97
TARGET_WORST = 0.95
TARGET_SHARE = 0.95
TARGET_OPERATION = 0.95  # Of never's speed; what is missing is noise.
# The host's processor has more than the guest's, and the C library makes use of it.
TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM"

PERL = r"""
my (%seen, @list); my $seed = 7;
for my $i (1 .. 2500000) {
  $seed = ($seed * 69069 + 5) % 4294967296;
  my $word = sprintf "%05x", $seed >> 12;
  $seen{$word}++; push @list, $word if $word =~ /^(?:[0-9a-e]{2})+f/;
}
my $sum = 0; $sum = ($sum * 31 + length($_) + ord) % 1000003 for sort @list;
print scalar(keys %seen), " $sum\n";
"""

RATING = r"^Tot: +\d+ +\d+ +(\d+)"


class Program:
    """Judged by its time, or by the rating that it prints."""

    def __init__(self, name, arguments, rating=None):
        self.name = name
        self.arguments = arguments
        self.rating = rating

    def seconds(self, elapsed, output):
        """Or what stands for them."""
        if not self.rating:
            return elapsed
        found = re.search(self.rating, output, re.M)
        if not found:
            raise BenchError(f"{self.name} prints no rating:\n{output}")
        return 1e3 / float(found[1])


PROGRAMS = [
    Program("7zip", ["usr/bin/7zz", "b", "1", "-mmt1", "-md19", "-mtime=1"], RATING),
    Program("7zip-threads", ["usr/bin/7zz", "b", "1", "-mmt2", "-md19", "-mtime=1"], RATING),
    Program("xz", ["usr/bin/xz", "-T1", "-6", "-k", "-c", "/loads/data/sample"]),
    Program("xz-threads", ["usr/bin/xz", "-T2", "--block-size=1MiB", "-6", "-k", "-c",
                           "/loads/data/sample"]),
    Program("unxz", ["usr/bin/xz", "-dc", "/loads/data/sample.xz"]),
    Program("perl", ["usr/bin/perl", "/loads/data/words.pl"]),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", metavar="DIR",
                        help="the build tree (default: %(default)s)")
    parser.add_argument("--trapline", metavar="FILE", help="the VMM (default: DIR/trapline)")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"),
                        help="what scripts/guests fetched (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--policies", default=",".join(POLICIES), metavar="NAME,NAME")
    parser.add_argument("--programs", metavar="NAME,NAME", default=",".join(
        [program.name for program in PROGRAMS]), help="(default: %(default)s)")
    parser.add_argument("--no-operations", action="store_true", help="the programs alone")
    parser.add_argument("--shares", action="store_true",
                        help="also tell how much of the user time was native")
    parser.add_argument("--kernel", default="686", help="686, 686-pae or rt-686-pae")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--option", action="append", default=[], help="one more for the VMM")
    parser.add_argument("--require-targets", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="also write everything there ('-': stdout)")
    options = parser.parse_args()
    names = [name for name in options.programs.split(",") if name]
    if unknown := set(names) - {program.name for program in PROGRAMS}:
        parser.error(f"no such program: {', '.join(unknown)}")
    options.programs = [program for program in PROGRAMS if program.name in names]
    options.policies = options.policies.split(",")
    if unknown := set(options.policies) - set(POLICIES):
        parser.error(f"no such policy: {', '.join(unknown)}")
    if not options.no_operations and "never" not in options.policies:
        parser.error("operations are compared with 'never': name it, too, or give --no-operations")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def sample():
    """Words of a small vocabulary, some noise, always the same."""
    generator = random.Random(2024)
    words = [generator.randbytes(generator.randrange(1, 7)).hex() for _ in range(3000)]
    text = " ".join(generator.choice(words) for _ in range(SAMPLE_BYTES // 7)).encode()
    noise = SAMPLE_BYTES // 8
    return text[:SAMPLE_BYTES - noise] + generator.randbytes(noise)


class Kit:
    """The packages' tree and the programs' data, for the host and for the guests."""

    def __init__(self, options, folder):
        self.tree = options.guests / "loads"
        if not self.tree.exists():
            raise BenchError(f"{self.tree} does not exist: run scripts/guests all")
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "sample").write_bytes(sample())
        (self.data / "words.pl").write_text(PERL)
        with open(self.data / "sample.xz", "wb") as file:
            for _ in range(8):
                subprocess.run(self.host_command(["usr/bin/xz", "-1", "-c", "/loads/data/sample"]),
                               stdout=file, check=True)
        self.initrd = folder / "initramfs.gz"
        archive = initramfs.base(options.guests / "busybox/busybox")
        for name in sorted({program.arguments[0] for program in PROGRAMS}):
            initramfs.add_program(archive, self.tree, name)
        archive.add_path("loads/data", self.data)
        operations = pathlib.Path(options.build) / "bench-guests/linux-operations"
        archive.add_file("loads/operations", operations.read_bytes(), 0o755)
        initramfs.write(archive, self.initrd)

    def host_command(self, words):
        """The same binary with the packages' own loader and libraries."""
        tree = self.tree
        libraries = ":".join(str(tree / folder) for folder in initramfs.LIBRARY_FOLDERS)
        translated = [word.replace("/loads/data", str(self.data)) for word in words[1:]]
        return [str(initramfs.find_library(tree, "ld-linux.so.2")[1]), "--library-path", libraries,
                str(initramfs.resolve(tree, words[0])), *translated]


def start(options, kit, policy, statistics_file=None):
    setup = machine.Configuration(
        kernel=str(options.guests / options.kernel / "vmlinuz"), initrd=str(kit.initrd),
        append="quiet", memory=options.memory, cpu="max",
        options=[f"--direct-exec={policy}", *options.option])
    if statistics_file:
        setup.options.append(f"--stats={statistics_file}")
    running = machine.Machine(machine.trapline_command(benchlib.trapline_program(options), setup))
    running.expect(machine.PROMPT, BOOT_LIMIT)
    return running


def run_on_host(kit, program):
    environment = {"GLIBC_TUNABLES": TUNABLES, "LC_ALL": "C"}
    one = {max(os.sched_getaffinity(0))}
    begin = time.monotonic()
    done = subprocess.run(kit.host_command(program.arguments), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                          preexec_fn=lambda: os.sched_setaffinity(0, one), check=False)
    elapsed = time.monotonic() - begin
    if done.returncode != 0:
        raise BenchError(f"{program.name} fails on the host:\n{done.stdout[-2000:]!r}")
    return program.seconds(elapsed, done.stdout.decode("utf-8", "replace"))


def run_in_guest(running, program):
    target = "" if program.rating else " >/dev/null"
    words = ["/" + program.arguments[0], *program.arguments[1:]]
    running.send(f"echo @be''gin; LC_ALL=C {' '.join(words)}{target}; echo @end $?\n")
    running.expect("^@begin$", 30)
    position, begin = running.seen, running.elapsed()
    status = running.expect(r"^@end (\d+)$", LIMIT)[1]
    elapsed = running.elapsed() - begin
    if status != "0":
        raise BenchError(f"{program.name} ends with status {status}\n{running.description()}")
    output = running.text()[position:running.seen]
    running.expect(machine.PROMPT, 30)
    return program.seconds(elapsed, output)


def run_operations(running):
    running.send("/loads/operations\n")
    running.expect("^operations begin$", 30)
    position = running.seen
    running.expect("^operations end$", LIMIT)
    output = running.text()[position:running.seen]
    running.expect(machine.PROMPT, 30)
    return {line["operation"]: float(line["median"])
            for line in benchlib.fields(output, "operation")}


def power_off(running):
    running.send("poweroff -f\n")
    if running.wait(60) != 0:
        raise machine.MachineError(f"exit status {running.process.returncode}, not 0")


def measure(options, kit):
    """(seconds by program and engine, nanoseconds by operation and policy), lists of rounds"""
    programs = {program.name: {} for program in options.programs}
    operations = {} if options.no_operations else {name: {} for name in OPERATIONS}
    guests = {}
    try:
        for policy in options.policies:
            guests[policy] = start(options, kit, policy)
        for number in range(options.rounds):
            order = ["host", *guests] if number % 2 == 0 else [*reversed(guests), "host"]
            for program in options.programs:
                for engine in order:
                    value = (run_on_host(kit, program) if engine == "host" else
                             run_in_guest(guests[engine], program))
                    programs[program.name].setdefault(engine, []).append(value)
            for policy in [name for name in order if name != "host"] if operations else []:
                for name, value in run_operations(guests[policy]).items():
                    operations[name].setdefault(policy, []).append(value)
            print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr, flush=True)
        for running in guests.values():
            power_off(running)
    except machine.MachineError as error:
        said = "\n".join(running.description() for running in guests.values())
        raise BenchError(f"{error}\n{said}") from error
    finally:
        for running in guests.values():
            running.stop()
    return programs, operations


def measure_shares(options, kit, folder):
    shares = {program.name: {} for program in options.programs}
    for program in options.programs if options.shares else []:
        for policy in [name for name in options.policies if name != "never"]:
            path = folder / "stats.json"
            with start(options, kit, policy, path) as running:
                run_in_guest(running, program)
                power_off(running)
            shares[program.name][policy] = json.loads(path.read_text())
    return shares


def summary(programs, policy):
    best = {name: min(one["host"]) / min(one[policy]) for name, one in programs.items()}
    median = {name: statistics.median(host / guest for host, guest in zip(one["host"], one[policy]))
              for name, one in programs.items()}
    return {"best": best, "median": median, "mean": benchlib.geometric_mean(best.values()),
            "median_mean": benchlib.geometric_mean(median.values())}


def print_programs(programs, summaries, shares):
    print(f"{'of the host speed':16}{'host':>10}" + "".join(f"{policy:>28}" for policy in summaries))
    print(f"{'':26}" + f"{'best':>10}{'median':>9}{'native':>9}" * len(summaries))
    for name, one in programs.items():
        line = f"{name:16}{min(one['host']):10.3f}"
        for policy, values in summaries.items():
            counted = shares[name].get(policy)
            share = f"{counted['native_share']:.1%}" if counted else "-"
            line += f"{values['best'][name]:10.3f}{values['median'][name]:9.3f}{share:>9}"
        print(line)
    print(f"{'geometric mean':26}" + "".join(
        f"{values['mean']:10.3f}{values['median_mean']:9.3f}{'':9}"
        for values in summaries.values()))


def of_never(values, policy):
    """(the speed relative to never's, by the medians of the rounds, and never's own spread)"""
    middle = statistics.median(values["never"])
    return (middle / statistics.median(values[policy]),
            (max(values["never"]) - min(values["never"])) / middle)


def print_operations(operations, policies):
    print(f"\n{'ns':16}" + "".join(f"{policy:>12}" for policy in policies)
          + "".join(f"{policy + ' of never':>20}" for policy in policies if policy != "never")
          + f"{'spread':>9}")
    for name, values in operations.items():
        line = f"{name:16}" + "".join(f"{statistics.median(values[policy]):12.0f}"
                                      for policy in policies)
        for policy in [name for name in policies if name != "never"]:
            line += f"{of_never(values, policy)[0]:20.3f}"
        print(line + f"{of_never(values, 'never')[1]:9.1%}")


def judge(summaries, shares, operations):
    verdicts = []
    for policy in [name for name in summaries if name != "never"]:
        values = summaries[policy]
        worst = min(values["best"], key=values["best"].get)
        verdicts.append((f"{policy}: geometric mean {values['mean']:.3f} of the host's speed, target "
                         f"{TARGET_MEAN}", values["mean"] >= TARGET_MEAN))
        verdicts.append((f"{policy}: worst {values['best'][worst]:.3f} ({worst}), target "
                         f"{TARGET_WORST}", values["best"][worst] >= TARGET_WORST))
        found = {name: one[policy]["native_share"] for name, one in shares.items() if policy in one}
        if found:
            least = min(found, key=found.get)
            verdicts.append((f"{policy}: at least {found[least]:.1%} of user time native ({least}), "
                             f"target {TARGET_SHARE:.0%}", found[least] >= TARGET_SHARE))
    for name, values in operations.items():
        if "never" not in values or "adaptive" not in values:
            continue
        ratio, spread = of_never(values, "adaptive")
        least = min(TARGET_OPERATION, 1 - spread)
        verdicts.append((f"adaptive: {name} {ratio:.3f} of never's speed, target {least:.2f}",
                         ratio >= least))
    return verdicts


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kit = Kit(options, folder)
        programs, operations = measure(options, kit)
        shares = measure_shares(options, kit, folder)
    summaries = {policy: summary(programs, policy) for policy in options.policies} if programs else {}
    verdicts = judge(summaries, shares, operations)
    if options.json != "-":
        if programs:
            print_programs(programs, summaries, shares)
        if operations:
            print_operations(operations, options.policies)
        print()
        for what, met in verdicts:
            print(f"{'met   ' if met else 'MISSED'}  {what}")
    benchlib.write_json(options.json, {
        "host": benchlib.host_description(), "programs": programs, "operations": operations,
        "summaries": summaries, "statistics": shares,
        "targets": [{"what": what, "met": met} for what, met in verdicts]})
    return int(options.require_targets and not all(met for _, met in verdicts))


benchlib.main_guard(main)
