#!/usr/bin/env python3
"""Runs one guest program and compares what it does with the header of its source.

    run_guest.py --source seg_limits.asm --image seg_limits.bin --trapline build/release/trapline
    run_guest.py --source seg_limits.asm --image seg_limits.bin --qemu qemu-system-i386
    run_guest.py --source seg_limits.asm --image seg_limits.bin --bochs bochs --bochs-rom bochs_rom.bin

Under Trapline the program runs once in every mode: as it is, then with each translator switch away
from its default, and in a few combinations. docs/guest-programs.md describes the header.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

PASS_STATUS = 33
FAIL_STATUS = 35
STRAY_STATUS = 37
TRIPLE_FAULT = {"trapline": 80, "qemu": 0, "bochs": 0}  # the other two are reset by it
JUDGES = {"qemu": "QEMU", "bochs": "Bochs"}
GUEST_TIMEOUT = 60
MODES = "TRAPLINE_GUEST_MODES"
TINY_CACHE = ["--code-cache", "256K"]

# Bochs is given firmware (bochs/rom.asm) whose beginning is the guest program; so it needs neither a
# BIOS nor a disk. What the program prints, and how it ended, comes through COM1.
BOCHS_ROM_SIZE = 128 * 1024
BOCHS_CPU = "core_duo_t2400_yonah"
BOCHS_CONFIGURATION = """\
plugin_ctrl: unmapped=1, biosdev=0, speaker=0, extfpuirq=1, serial=1
cpu: model={cpu}, count=1, ips=50000000, reset_on_triple_fault=1, ignore_bad_msrs=0
megs: 64
romimage: file=rom
display_library: rfb, options="timeout=0"
log: log
panic: action=fatal
error: action=report
info: action=report
port_e9_hack: enabled=1
com1: enabled=1, mode=file, dev=serial
sound: driver=default
"""
BOCHS_STATUS = {"PASS": PASS_STATUS, "FAILED": FAIL_STATUS, "STRAY": STRAY_STATUS, "RESET": 0}


class HeaderError(Exception):
    pass


@dataclasses.dataclass
class Header:
    """What the comment block at the top of a program asks for."""

    exit: str = str(PASS_STATUS)
    output: list = dataclasses.field(default_factory=list)
    options: list = dataclasses.field(default_factory=list)
    qemu_options: list = dataclasses.field(default_factory=list)
    bochs_cpu: str = BOCHS_CPU
    x87_pointers: bool = False
    skip: dict = dataclasses.field(default_factory=dict)
    deviations: dict = dataclasses.field(default_factory=lambda: {judge: [] for judge in JUDGES})


def parse_header(text):
    header = Header()
    for entry in header_entries(text):
        key, value = entry
        if key == "expect" and value.startswith("exit "):
            header.exit = value[len("exit "):].strip()
        elif key == "expect" and value.startswith("output "):
            header.output.append(quoted(value[len("output "):])[0])
        elif key == "options":
            header.options += shlex.split(value)
        elif key == "qemu" and value.startswith("options "):
            header.qemu_options += shlex.split(value[len("options "):])
        elif key == "bochs" and value.startswith("cpu "):
            header.bochs_cpu = value[len("cpu "):]
        elif key == "host" and value == "x87 pointers":
            header.x87_pointers = True
        elif key in JUDGES and value.startswith("skip "):
            header.skip[key] = value[len("skip "):]
        elif key == "deviates":
            judge, checks = deviating_checks(value)
            header.deviations[judge] += checks
        else:
            raise HeaderError(f"cannot understand '{key}: {value}'")
    if header.exit not in ("triple-fault", "halted") and not header.exit.isdigit():
        raise HeaderError(f"cannot understand exit '{header.exit}'")
    return header


def header_entries(text):
    """Yields (key, value) of the comment lines up to the first that is none; a line indented by
    two or more blanks continues the one before."""
    entry = None
    for line in text.splitlines():
        if not line.startswith(";"):
            break
        match = re.match(r"; (expect|options|qemu|bochs|host|deviates): (.*)", line)
        if match:
            if entry:
                yield entry
            entry = [match[1], match[2].strip()]
        elif entry and re.match(r";  +\S", line):
            entry[1] += " " + line[1:].strip()
        elif entry:
            yield entry
            entry = None
    if entry:
        yield entry


def quoted(text):
    return re.findall(r'"([^"]*)"', text)


def deviating_checks(value):
    """qemu "check", "check": the reason, citing the manual. The same with bochs."""
    match = re.fullmatch(r'(qemu|bochs) ((?:"[^"]*"(?:, *)?)+): (.+)', value)
    if not match:
        raise HeaderError(f"cannot understand 'deviates: {value}'")
    return match[1], quoted(match[2])


@dataclasses.dataclass
class Outcome:
    status: int
    output: str
    errors: str


def run(command, folder=None, typed=b""):
    """None as the status means that it had to be killed."""
    try:
        done = subprocess.run(command, input=typed, capture_output=True, cwd=folder,
                              timeout=GUEST_TIMEOUT, check=False)
        return Outcome(done.returncode, done.stdout.decode("latin-1"),
                       done.stderr.decode("latin-1"))
    except subprocess.TimeoutExpired as expired:
        return Outcome(None, (expired.stdout or b"").decode("latin-1"),
                       (expired.stderr or b"").decode("latin-1"))


def failed_checks(output):
    """Names of the checks that failed or, under another machine, had to be left out."""
    return differing_checks(output) + re.findall(r"^SKIP (.*?)\r?$", output, re.MULTILINE)


def differing_checks(output):
    pattern = r"^FAIL (.*?): (?:vector |error code |eip )?got [0-9a-f]{8} expected [0-9a-f]{8}$"
    return re.findall(pattern, output.replace("\r", ""), re.MULTILINE)


def missing_lines(output, wanted):
    """The first of the wanted lines that does not come, in order."""
    lines = iter(output.replace("\r", "").splitlines())
    for want in wanted:
        if not any(want == line for line in lines):
            return want
    return None


def covers(pattern, name):
    """Deviations name checks in full or, ending in *, by their beginning."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def judge(header, outcome, runner):
    """What is wrong, as a list of sentences."""
    expected_failures = header.deviations.get(runner, [])
    failures = failed_checks(outcome.output)
    wanted = expected_status(header, runner)
    if expected_failures and differing_checks(outcome.output):
        wanted = FAIL_STATUS
    problems = []
    if outcome.status is None:
        problems.append(f"still running after {GUEST_TIMEOUT} seconds")
    elif outcome.status != wanted:
        problems.append(f"exit status {outcome.status}, expected {wanted}")
    for name in sorted(set(failures)):
        if not any(covers(pattern, name) for pattern in expected_failures):
            problems.append(f"check failed: {name}")
    for pattern in expected_failures:
        if not any(covers(pattern, name) for name in failures):
            problems.append("check passed, although the header says that "
                            f"{JUDGES[runner]} deviates: {pattern}")
    missing = missing_lines(outcome.output, header.output)
    if missing is not None:
        problems.append(f"output lacks the line: {missing}")
    return problems


def expected_status(header, runner):
    if header.exit == "triple-fault":
        return TRIPLE_FAULT[runner]
    if header.exit == "halted":
        return 0
    return int(header.exit)


def qemu_command(qemu, image, header):
    cpu = [] if "-cpu" in header.qemu_options else ["-cpu", "max"]
    return [qemu, "-accel", "tcg", "-kernel", image, "-m", "64", "-display", "none", "-nodefaults",
            "-vga", "none", "-no-reboot", "-chardev", "stdio,id=out,mux=on,signal=off",
            "-serial", "chardev:out",
            "-device", "isa-debugcon,iobase=0xe9,chardev=out", "-monitor", "none",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4"] + cpu + header.qemu_options


def trapline_command(trapline, image, header, mode):
    memory = [] if "--memory" in header.options else ["--memory", "64M"]
    return [trapline, "run", "--multiboot", image, "--serial", "stdio", "--display", "none",
            "--timeout", str(GUEST_TIMEOUT // 2)] + memory + header.options + mode


def read_switches(folder):
    """(name, is on by default) of every switch, from the translator's own table."""
    table = (folder / "switches.cc").read_text()
    fields = (folder / "switches.h").read_text()
    switches = []
    for name, member in re.findall(r'SwitchName\{"([^"]+)", *&Switches::(\w+)', table):
        default = re.search(rf"\bbool {member} = (true|false);", fields)
        if not default:
            raise HeaderError(f"switches.h has no default for {member}")
        switches.append((name, default[1] == "true"))
    if not switches:
        raise HeaderError("switches.cc names no switches")
    return switches


def flip(name, on):
    return ["--switch", f"{name}={'off' if on else 'on'}"]


def modes(switches):
    """Name and options of every mode."""
    translated = ["--direct-exec=never"]
    yield "default", []
    yield "direct-exec", ["--direct-exec=always"]
    yield "translated", translated
    for name, on in switches:
        processors = name in ("one-processor", "two-processors")
        options = ["--direct-exec=always"] if processors else translated
        yield f"{name}={'off' if on else 'on'}", flip(name, on) + options
    known = dict(switches)
    links = [name for name in ("link-blocks", "inline-indirect") if name in known]
    yield "no-links", [option for name in links for option in flip(name, True)] + translated
    yield "tiny-cache", TINY_CACHE + translated
    yield "plainest", ([option for name, on in switches for option in flip(name, on)] + TINY_CACHE
                       + translated)


def report(mode, command, outcome, problems):
    print(f"--- {mode}: {'; '.join(problems)}")
    print("command: " + shlex.join(command))
    for title, text in (("output", outcome.output), ("stderr", outcome.errors)):
        if text:
            print(f"{title}:\n" + "\n".join("  | " + line for line in text.splitlines()[-60:]))


def run_bochs(arguments, header):
    """The command and its outcome, as the program's output tells it."""
    image = pathlib.Path(arguments.image).read_bytes()
    loader = arguments.bochs_rom.read_bytes()
    command = [arguments.bochs, "-q", "-f", "configuration"]
    with tempfile.TemporaryDirectory(prefix="guest_bochs.") as name:
        folder = pathlib.Path(name)
        (folder / "rom").write_bytes(image.ljust(BOCHS_ROM_SIZE - len(loader), b"\0") + loader)
        (folder / "configuration").write_text(BOCHS_CONFIGURATION.format(cpu=header.bochs_cpu))
        # Built with its debugger, as Debian's is, it wants to be told to go on, at first and after
        # a triple fault.
        outcome = run(command, folder=folder, typed=b"continue\n" * 2)
        serial = folder / "serial"
        printed = serial.read_text("latin-1") if serial.exists() else ""
        log = (folder / "log").read_text("latin-1") if (folder / "log").exists() else ""
    ends = re.findall(rf"^({'|'.join(BOCHS_STATUS)})\b", printed, re.MULTILINE)
    if outcome.status is not None:
        outcome.status = BOCHS_STATUS[ends[-1]] if ends else outcome.status
    panics = [line for line in log.splitlines() if re.match(r"\d+[pe]", line)]
    outcome.output = printed + outcome.output
    outcome.errors += "\n".join(panics)
    return command, outcome


def run_judge(runner, arguments, header):
    if runner in header.skip:
        print(f"skipped under {JUDGES[runner]}: {header.skip[runner]}")
        return 0
    if runner == "bochs":
        command, outcome = run_bochs(arguments, header)
    else:
        command = qemu_command(arguments.qemu, arguments.image, header)
        outcome = run(command)
    problems = judge(header, outcome, runner)
    if problems:
        report(runner, command, outcome, problems)
    return 1 if problems else 0


def chosen_modes(arguments):
    """By --mode, by the environment's TRAPLINE_GUEST_MODES, or all."""
    every = dict(modes(read_switches(arguments.switches)))
    names = arguments.mode or [name for name in os.environ.get(MODES, "").split(",") if name]
    if unknown := set(names) - set(every):
        raise HeaderError(f"there is no mode {', '.join(sorted(unknown))}")
    return [(name, every[name]) for name in names or every]


def host_loses_x87_pointers(trapline):
    return re.search(r"^x87 pointers +lost", run([trapline, "check"]).output, re.MULTILINE)


def run_trapline(arguments, header):
    failed = 0
    # What the host loses by chance, it does not lose each time.
    chance = header.x87_pointers and host_loses_x87_pointers(arguments.trapline)
    for mode, options in chosen_modes(arguments):
        command = trapline_command(arguments.trapline, arguments.image, header, options)
        for _ in range(5 if chance else 1):
            outcome = run(command)
            problems = judge(header, outcome, "trapline")
            if not problems:
                break
        if problems:
            report(mode, command, outcome, problems)
            failed += 1
        else:
            print(f"{mode}: passed")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--image", required=True)
    runner = parser.add_mutually_exclusive_group(required=True)
    runner.add_argument("--trapline", help="the trapline program")
    runner.add_argument("--qemu", help="qemu-system-i386")
    runner.add_argument("--bochs", help="bochs")
    parser.add_argument("--bochs-rom", type=pathlib.Path, help="the firmware for Bochs, bochs_rom.bin")
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--switches", type=pathlib.Path, default=here / "../../translator",
                        help="the folder with switches.h and switches.cc")
    parser.add_argument("--mode", action="append", help="run only this mode (may be repeated)")
    arguments = parser.parse_args()
    if arguments.bochs and not arguments.bochs_rom:
        parser.error("--bochs needs --bochs-rom")
    try:
        header = parse_header(arguments.source.read_text())
        if arguments.trapline:
            return run_trapline(arguments, header)
        return run_judge("qemu" if arguments.qemu else "bochs", arguments, header)
    except (HeaderError, OSError) as error:
        print(f"{arguments.source}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
