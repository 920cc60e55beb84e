#!/usr/bin/env python3
"""Programs of Debian's i386 packages on the host and in a Linux guest with --direct-exec=never,
adaptive and always, side by side: the same binaries and libraries, for each program and round one
after the other. The guests stay booted meanwhile. With --boots all of that is done again in guests
that are booted anew, and with new copies of the programs for the host: which frames of memory they
lie in makes a difference that stays until then. Programs that compute are compared with the host,
which runs at the begin and at the end of each round: a ratio is of the two runs' geometric mean, so
that a host that gets slower meanwhile does not count, and what the two differ by is the noise.
Programs that fill fresh memory, or call code that stays translated all the time, and operations
that are bound by system calls and page faults, are compared among the guests.

The host runs them on one processor, as the guest has one: on that of the last guest's native code,
since not all have the same neighbours. Its C library and libcrypto are told to choose what they
choose in the guest.
With --shares each program runs once more in a machine of its own, whose statistics tell how much of
its user time was native.

The exit status is 0 when everything ran; with --require-targets also only when the targets are met."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import benchlib
import guest_processes
from benchlib import BenchError

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(ROOT / "tests/linux"), str(ROOT / "examples/linux")]

import initramfs
import machine

BOOT_LIMIT = 180
LIMIT = 300
SAMPLE_BYTES = 8 << 20
POLICIES = ["never", "adaptive", "always"]
OPERATIONS = ["getpid", "getpid-int80", "page-fault", "timed-fill", "pipe-ping-pong", "fork-exit",
              "fork-exec", "program-start", "start-after-long"]
TARGET_MEAN = 0.97
TARGET_WORST = 0.95
TARGET_SHARE = 0.95
TARGET_OPERATION = 0.95  # Of never's speed, each one's best round; what is missing is noise.
# The host's processor has more than the guest's, and the C library makes use of it.
TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM"
OPENSSL_FEATURES = "0x783fbff:0"  # The same for libcrypto.

HOST, AGAIN = "host", "host again"

# Computes: a few thousand words, again and again.
PERL = r"""
my (%seen, $long); my $seed = 7;
for my $i (1 .. 6000000) {
  $seed = ($seed * 69069 + 5) % 4294967296;
  my $word = sprintf "%03x", $seed >> 20;
  $seen{$word}++; $long++ if $word =~ /^(?:[0-9a-e]{2})+f/;
}
my $sum = 0; $sum = ($sum * 31 + $seen{$_} + ord) % 1000003 for sort keys %seen;
print scalar(keys %seen), " $long $sum\n";
"""

# Fills some 70 MB.
PERL_HEAP = r"""
my (%seen, @list); my $seed = 7;
for my $i (1 .. 2500000) {
  $seed = ($seed * 69069 + 5) % 4294967296;
  my $word = sprintf "%05x", $seed >> 12;
  $seen{$word}++; push @list, $word if $word =~ /^(?:[0-9a-e]{2})+f/;
}
my $sum = 0; $sum = ($sum * 31 + length($_) + ord) % 1000003 for sort @list;
print scalar(keys %seen), " $sum\n";
"""

# With its 8 MiB, preset 6 fills 70 MB of fresh memory for a sample of that size.
XZ_FILTER = "--lzma2=preset=6,dict=1MiB"
RATING = r"^Tot: +\d+ +\d+ +(\d+)"
AES_RATING = r"^AES-128-CBC +([\d.]+)k"
MD5_RATING = r"^md5 +([\d.]+)k"

# stress-ng's loops, one kind of code each: integers, x87 and SSE, calls, jumps, tables.
STRESS = "stress"
METHODS = """ackermann apery bitops callfunc cdouble cfloat clongdouble collatz correlate crc16 decimal32
    decimal64 decimal128 dither div8 div16 div32 div64 double euler explog factorial fibonacci
    fft fletcher16 float float32 float64 float80 float128 floatconversion gamma gcd gray hamming
    hanoi hyperbolic idct int64 int32 int16 int8 int64float int64double int64longdouble
    int32float int32double int32longdouble intconversion ipv4checksum jmp lfsr32 ln2 logmap
    longdouble loop matrixprod nsqrt omega parity phi pi prime psi queens rand rand48 rgb sieve
    stats sqrt trig union zeta""".split()
METHOD = ["usr/bin/stress-ng", "--stdout", "--temp-path", "/tmp", "--cpu", "1", "--timeout", "1",
          "--metrics-brief", "--cpu-method"]
METHOD_RATING = r" cpu +\d+ +[\d.]+ +[\d.]+ +[\d.]+ +([\d.]+)"  # By elapsed time.


class Program:
    """Judged by its time, or by the rating that it prints. It computes, or is bound by events."""

    def __init__(self, name, arguments, rating=None, computes=True):
        self.name = name
        self.arguments = arguments
        self.rating = rating
        self.computes = computes

    def seconds(self, elapsed, output):
        """Or what stands for them."""
        if not self.rating:
            return elapsed
        found = re.search(self.rating, output, re.M)
        if not found:
            raise BenchError(f"{self.name} prints no rating:\n{output}")
        return 1e6 / float(found[1])


PROGRAMS = [
    Program("7zip", ["usr/bin/7zz", "b", "1", "-mmt1", "-md19", "-mtime=1"], RATING),
    Program("7zip-threads", ["usr/bin/7zz", "b", "1", "-mmt2", "-md19", "-mtime=1"], RATING),
    Program("xz", ["usr/bin/xz", "-T1", XZ_FILTER, "-k", "-c", "/loads/data/sample"]),
    Program("xz-threads", ["usr/bin/xz", "-T2", "--block-size=1MiB", XZ_FILTER, "-k", "-c",
                           "/loads/data/sample"]),
    Program("unxz", ["usr/bin/xz", "-dc", "/loads/data/sample.xz"]),
    Program("perl", ["usr/bin/perl", "/loads/data/words.pl"]),
    Program("openssl", ["usr/bin/openssl", "speed", "-seconds", "2", "-bytes", "8192", "-evp",
                        "aes-128-cbc"], AES_RATING),
    Program("xz-fresh", ["usr/bin/xz", "-T1", "-6", "-k", "-c", "/loads/data/sample"],
            computes=False),
    Program("perl-heap", ["usr/bin/perl", "/loads/data/heap.pl"], computes=False),
    Program("openssl-md5", ["usr/bin/openssl", "speed", "-seconds", "3", "-bytes", "8192", "md5"],
            MD5_RATING, computes=False),
]


METHOD_PROGRAMS = [Program(name, [*METHOD, name], METHOD_RATING) for name in METHODS]


def add_guest_arguments(parser):
    parser.add_argument("--build", default="build/release", metavar="DIR",
                        help="the build tree (default: %(default)s)")
    parser.add_argument("--trapline", metavar="FILE", help="the VMM (default: DIR/trapline)")
    parser.add_argument("--guests", type=pathlib.Path, metavar="DIR",
                        default=os.environ.get("TRAPLINE_GUESTS", ROOT / "build/guests-cache"),
                        help="what scripts/guests fetched (default: %(default)s)")
    parser.add_argument("--kernel", default="686", help="686, 686-pae or rt-686-pae")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--option", action="append", default=[], help="one more for the VMM")
    parser.add_argument("--json", metavar="FILE", help="also write everything there ('-': stdout)")


def named(parser, names, programs):
    """Those of the programs, by names with commas between them."""
    names = [name for name in names.split(",") if name]
    if unknown := set(names) - {program.name for program in programs}:
        parser.error(f"no such program: {', '.join(unknown)}")
    return [program for program in programs if program.name in names]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_guest_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3,
                        help="in each boot of the guests (default: %(default)s)")
    parser.add_argument("--boots", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--policies", default=",".join(POLICIES), metavar="NAME,NAME")
    parser.add_argument("--programs", metavar="NAME,NAME", default=",".join(
        [program.name for program in PROGRAMS]),
                        help=f"{STRESS} stands for {len(METHODS)} loops of stress-ng's, each by its "
                             "own name, too (default: %(default)s)")
    parser.add_argument("--no-operations", action="store_true", help="the programs alone")
    parser.add_argument("--shares", action="store_true",
                        help="also tell how much of the user time was native")
    parser.add_argument("--require-targets", action="store_true")
    options = parser.parse_args()
    names = ",".join(",".join(METHODS) if name == STRESS else name
                     for name in options.programs.split(","))
    options.programs = named(parser, names, PROGRAMS + METHOD_PROGRAMS)
    options.policies = options.policies.split(",")
    if unknown := set(options.policies) - set(POLICIES):
        parser.error(f"no such policy: {', '.join(unknown)}")
    bound = any(not program.computes for program in options.programs)
    if (bound or not options.no_operations) and "never" not in options.policies:
        parser.error("operations, and programs bound by events, are compared with 'never': name it, "
                     "too, or give --no-operations and --programs")
    if options.rounds < 1 or options.boots < 1:
        parser.error("--rounds and --boots are at least 1")
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
        (self.data / "heap.pl").write_text(PERL_HEAP)
        with open(self.data / "sample.xz", "wb") as file:
            for _ in range(16):
                subprocess.run(self.host_command(["usr/bin/xz", "-1", "-c", "/loads/data/sample"]),
                               stdout=file, check=True)
        self.initrd = folder / "initramfs.gz"
        archive = initramfs.base(options.guests / "busybox/busybox")
        for name in sorted({program.arguments[0] for program in [*PROGRAMS, *options.programs]}):
            initramfs.add_program(archive, self.tree, name)
        archive.add_path("loads/data", self.data)
        operations = pathlib.Path(options.build) / "bench-guests/linux-operations"
        archive.add_file("loads/operations", operations.read_bytes(), 0o755)
        initramfs.write(archive, self.initrd)

    def copy_for_host(self):
        """From now on the host runs a new copy. The last one stays, and keeps its frames."""
        copy = pathlib.Path(tempfile.mkdtemp(dir=self.data.parent)) / "tree"
        shutil.copytree(self.tree, copy, symlinks=True)
        self.tree = copy

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


def host_environment():
    return {"GLIBC_TUNABLES": TUNABLES, "OPENSSL_ia32cap": OPENSSL_FEATURES, "LC_ALL": "C"}


def run_on_host(kit, program, processor):
    begin = time.monotonic()
    done = subprocess.run(kit.host_command(program.arguments),
                          stdout=subprocess.PIPE if program.rating else subprocess.DEVNULL,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          env=host_environment(),
                          preexec_fn=lambda: os.sched_setaffinity(0, {processor}), check=False)
    elapsed = time.monotonic() - begin
    if done.returncode != 0:
        raise BenchError(f"{program.name} fails on the host:\n{done.stderr[-2000:]!r}")
    return program.seconds(elapsed, (done.stdout or b"").decode("utf-8", "replace"))


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
    for boot in range(options.boots):
        if boot > 0:
            kit.copy_for_host()
        measure_boot(options, kit, boot, programs, operations)
    return programs, operations


def measure_boot(options, kit, boot, programs, operations):
    """Adds the rounds of one boot."""
    guests = {}
    processes = {}
    processor = max(os.sched_getaffinity(0))  # Of the host's programs.
    try:
        for policy in options.policies:
            guests[policy] = start(options, kit, policy)
            processes[policy] = guest_processes.Processes(guests[policy])
        for number in range(boot * options.rounds, (boot + 1) * options.rounds):
            order = list(guests) if number % 2 == 0 else list(reversed(guests))
            for program in options.programs:
                for engine in [HOST, *order, AGAIN] if program.computes else order:
                    if engine in guests:
                        processes[engine].find()
                        value = run_in_guest(guests[engine], program)
                        processes[engine].find()
                        native = processes[engine].processor()
                        processor = processor if native is None else native
                    else:
                        value = run_on_host(kit, program, processor)
                    programs[program.name].setdefault(engine, []).append(value)
            for policy in order if operations else []:
                for name, value in run_operations(guests[policy]).items():
                    operations[name].setdefault(policy, []).append(value)
            print(f"round {number + 1} of {options.boots * options.rounds} is done",
                  file=sys.stderr, flush=True)
        for running in guests.values():
            power_off(running)
    except machine.MachineError as error:
        said = "\n".join(running.description() for running in guests.values())
        raise BenchError(f"{error}\n{said}") from error
    finally:
        for running in guests.values():
            running.stop()


def measure_shares(options, kit, folder):
    shares = {program.name: {} for program in options.programs}
    for program in [one for one in options.programs if one.computes] if options.shares else []:
        for policy in [name for name in options.policies if name != "never"]:
            path = folder / "stats.json"
            with start(options, kit, policy, path) as running:
                run_in_guest(running, program)
                power_off(running)
            shares[program.name][policy] = json.loads(path.read_text())
    return shares


def hosts(one):
    """The host's time of each round: of the runs before and after the guests'."""
    return [(before * after) ** 0.5 for before, after in zip(one[HOST], one[AGAIN])]


def ratios(one, engine):
    """Speed relative to the host's, by round."""
    return [host / value for host, value in zip(hosts(one), one[engine])]


def summary(programs, policy):
    best = {name: min(one[HOST] + one[AGAIN]) / min(one[policy]) for name, one in programs.items()}
    median = {name: statistics.median(ratios(one, policy)) for name, one in programs.items()}
    return {"best": best, "median": median, "mean": benchlib.geometric_mean(median.values()),
            "best_mean": benchlib.geometric_mean(best.values())}


def noise(programs):
    """What the method says of the host against itself: the median of the rounds, by program, and by
    how much a round is off, as a rule."""
    halves = {name: [before / after for before, after in zip(one[HOST], one[AGAIN])]
              for name, one in programs.items()}
    every = [max(ratio, 1 / ratio) - 1 for values in halves.values() for ratio in values]
    return {"median": {name: statistics.median(values) for name, values in halves.items()},
            "of_a_round": statistics.median(every)}


def print_programs(programs, summaries, shares, host):
    print(f"{'of the host speed':16}{'host':>10}{'itself':>8}"
          + "".join(f"{policy:>28}" for policy in summaries))
    print(f"{'':34}" + f"{'median':>10}{'best':>9}{'native':>9}" * len(summaries))
    for name, one in programs.items():
        line = f"{name:16}{min(one[HOST] + one[AGAIN]):10.3f}{host['median'][name]:8.3f}"
        for policy, values in summaries.items():
            counted = shares[name].get(policy)
            share = f"{counted['native_share']:.1%}" if counted else "-"
            line += f"{values['median'][name]:10.3f}{values['best'][name]:9.3f}{share:>9}"
        print(line)
    print(f"{'geometric mean':26}"
          f"{benchlib.geometric_mean(host['median'].values()):8.3f}" + "".join(
              f"{values['mean']:10.3f}{values['best_mean']:9.3f}{'':9}"
              for values in summaries.values()))
    print(f"A round's two runs on the host differ by {host['of_a_round']:.1%}, as a rule.")


def of_never(values, policy):
    """(the speed relative to never's, by each one's best round and by the medians; never's spread)"""
    middle = statistics.median(values["never"])
    return (min(values["never"]) / min(values[policy]), middle / statistics.median(values[policy]),
            (max(values["never"]) - min(values["never"])) / middle)


def print_operations(operations, policies, unit):
    print(f"\n{unit:16}" + "".join(f"{policy:>12}" for policy in policies)
          + "".join(f"{policy + ' of never: best, median':>33}"
                    for policy in policies if policy != "never") + f"{'spread':>9}")
    for name, values in operations.items():
        digits = 0 if unit == "ns" else 3
        line = f"{name:16}" + "".join(f"{min(values[policy]):12.{digits}f}" for policy in policies)
        for policy in [name for name in policies if name != "never"]:
            best, median, _ = of_never(values, policy)
            line += f"{best:25.3f}{median:8.3f}"
        print(line + f"{of_never(values, 'never')[2]:9.1%}")


def judge(summaries, shares, operations):
    verdicts = []
    for policy in [name for name in summaries if name != "never"]:
        values = summaries[policy]
        worst = min(values["median"], key=values["median"].get)
        verdicts.append((f"{policy}: geometric mean {values['mean']:.3f} of the host's speed, target "
                         f"{TARGET_MEAN}", values["mean"] >= TARGET_MEAN))
        verdicts.append((f"{policy}: worst {values['median'][worst]:.3f} ({worst}), target "
                         f"{TARGET_WORST}", values["median"][worst] >= TARGET_WORST))
        found = {name: one[policy]["native_share"] for name, one in shares.items() if policy in one}
        if found:
            least = min(found, key=found.get)
            verdicts.append((f"{policy}: at least {found[least]:.1%} of user time native ({least}), "
                             f"target {TARGET_SHARE:.0%}", found[least] >= TARGET_SHARE))
    for name, values in operations.items():
        if "never" not in values or "adaptive" not in values:
            continue
        best = of_never(values, "adaptive")[0]
        verdicts.append((f"adaptive: {name} {best:.3f} of never's speed, target {TARGET_OPERATION}",
                         best >= TARGET_OPERATION))
    return verdicts


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        kit = Kit(options, folder)
        programs, operations = measure(options, kit)
        shares = measure_shares(options, kit, folder)
    filling = {program.name: programs.pop(program.name) for program in options.programs
               if not program.computes}
    summaries = {policy: summary(programs, policy) for policy in options.policies} if programs else {}
    computing = {name: shares[name] for name in programs}
    verdicts = judge(summaries, computing, {**filling, **operations})
    host = noise(programs) if programs else {}
    if options.json != "-":
        if programs:
            print_programs(programs, summaries, computing, host)
        if filling:
            print_operations(filling, options.policies, "s or 1e6/rating")
        if operations:
            print_operations(operations, options.policies, "ns")
        print()
        benchlib.print_verdicts(verdicts)
    benchlib.write_json(options.json, {
        "host": benchlib.host_description(), "programs": programs, "filling": filling,
        "operations": operations, "host_against_itself": host, "summaries": summaries, "statistics": shares,
        "targets": [{"what": what, "met": met} for what, met in verdicts]})
    return int(options.require_targets and not all(met for _, met in verdicts))


if __name__ == "__main__":
    benchlib.main_guard(main)
