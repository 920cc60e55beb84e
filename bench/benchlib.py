"""Running the benchmark programs, for compare and nano."""

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

GUEST_SUCCESS = 1  # isa-debug-exit: (0 << 1) | 1


class BenchError(Exception):
    """Something did not run, or computed something wrong. The text says what."""


def add_common_arguments(parser):
    parser.add_argument("--build", default="build/release", metavar="DIR",
                        help="the build tree (default: %(default)s)")
    parser.add_argument("--trapline", metavar="FILE", help="the VMM (default: DIR/trapline)")
    parser.add_argument("--trapline-options", default="", metavar="TEXT",
                        help="more options for it, such as '--switch stack-window=off'")
    parser.add_argument("--qemu", action="store_true",
                        help="also run the same guest under qemu-system-i386 -accel tcg")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS",
                        help="for each run (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write everything there ('-': stdout)")


def program(options, name):
    path = os.path.join(options.build, "bench-guests", name)
    if not os.path.exists(path):
        raise BenchError(f"{path} does not exist: build the project first, or say --build DIR")
    return path


def trapline_program(options):
    path = options.trapline or os.path.join(options.build, "trapline")
    if not os.path.exists(path):
        raise BenchError(f"{path} does not exist: build the project first, or say --trapline FILE")
    return path


def run(command, expected, timeout):
    """The program's standard output; its exit status must be the expected one."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"no end after {timeout} s: {shlex.join(command)}") from error
    output = done.stdout.decode("ascii", "replace")
    if done.returncode != expected:
        said = (output + done.stderr.decode("utf-8", "replace")).strip()[-2000:]
        raise BenchError(f"exit status {done.returncode}, not {expected}: "
                         f"{shlex.join(command)}\n{said}")
    return output


def run_trapline(options, guest, append, more=(), stats=None):
    """The translator is what is measured, in ring 3, too, unless the options say something else."""
    command = [trapline_program(options), "run", "--multiboot", program(options, guest),
               "--append", append, "--memory", "64M", "--serial", "stdio", "--display", "none",
               "--timeout", str(options.timeout)] + shlex.split(options.trapline_options)
    command += more
    if not any(part.startswith("--direct-exec") for part in command):
        command.append("--direct-exec=never")
    if stats:
        command.append(f"--stats={stats}")
    return run(command, GUEST_SUCCESS, options.timeout + 30)


def trapline_statistics(options, guest, append, more=()):
    """The statistics of one run. Counting costs time, so this run is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stats.json")
        run_trapline(options, guest, append, more, stats=path)
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def run_qemu(options, guest, append):
    qemu = shutil.which("qemu-system-i386")
    if qemu is None:
        raise BenchError("qemu-system-i386 is not installed (Debian: qemu-system-x86)")
    return run([qemu, "-accel", "tcg", "-cpu", "max", "-m", "64", "-display", "none", "-no-reboot",
                "-nodefaults", "-serial", "stdio", "-kernel", program(options, guest),
                "-append", append, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
               GUEST_SUCCESS, options.timeout)


def fields(output, first):
    """Lines of key=value words that begin with `first`, as dictionaries."""
    lines = []
    for line in output.splitlines():
        words = line.split()
        if not words or not words[0].startswith(first + "="):
            continue
        if words[-1] != "ok":
            raise BenchError(f"a wrong result: {line}")
        lines.append(dict(word.split("=", 1) for word in words if "=" in word))
    if not lines:
        raise BenchError(f"no '{first}=' lines in the output:\n{output}")
    return lines


def host_description():
    description = {"processor": "unknown", "kernel": os.uname().release}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                description["processor"] = line.split(":", 1)[1].strip()
                break
    return description


def geometric_mean(values):
    return statistics.geometric_mean(values)


def write_json(path, content):
    if not path:
        return
    text = json.dumps(content, indent=2) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def print_verdicts(verdicts):
    """Of each target: what was found, and whether that meets it."""
    for what, met in verdicts:
        print(f"{'met   ' if met else 'MISSED'}  {what}")


def main_guard(main):
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
