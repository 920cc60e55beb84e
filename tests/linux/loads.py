"""The loads: what each needs in the initramfs, and what its output must be.

A load is run in the guest as /loads/NAME. Its output is judged here, outside, by what the same
program prints on this machine, by what Python computes, or by known answers.
"""

import base64
import functools
import hashlib
import lzma
import pathlib
import random
import re
import shutil
import subprocess
import sys
import zlib

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = HERE / "loads"
sys.path.insert(0, str(HERE / "../../examples/linux"))

import initramfs

HOST_TIMEOUT = 60


class Kit:
    """Where the parts are: the cache of guests, and the folder with the compiled programs."""

    def __init__(self, guests, programs):
        self.guests = pathlib.Path(guests)
        self.programs = pathlib.Path(programs)

    def tree(self):
        return self.guests / "loads"


@functools.cache
def sample():
    """Half text, half noise, always the same."""
    generator = random.Random(2024)
    words = [generator.randbytes(generator.randrange(2, 9)).hex() for _ in range(400)]
    text = " ".join(generator.choice(words) for _ in range(30000)).encode()[:200000]
    return text + generator.randbytes(100000) + text[:50000]


def missing_lines(output, wanted):
    lines = set(output.splitlines())
    return [f"the output lacks '{line}'" for line in wanted if line not in lines]


class Load:
    """The limit is in seconds, for a slow machine under QEMU."""

    qemu_skip = ""  # Why QEMU cannot pass.

    def __init__(self, name, limit=120):
        self.name = name
        self.limit = limit

    def install(self, archive, kit):
        raise NotImplementedError

    def problems(self, output, kit):
        raise NotImplementedError


class Program(Load):
    """A compiled program that checks itself, and whose output must also be the host's."""

    def __init__(self, name, limit=120, on_host=True, qemu_skip=""):
        super().__init__(name, limit)
        self.on_host = on_host
        self.qemu_skip = qemu_skip

    def install(self, archive, kit):
        content = (kit.programs / self.name).read_bytes()
        archive.add_file(f"loads/{self.name}", content, 0o755)
        initramfs.add_libraries(archive, kit.tree(), content)

    def problems(self, output, kit):
        found = [line for line in output.splitlines() if line.startswith("FAIL")]
        if not re.search(r"^(passed \d+ )?failed 0$", output, re.M):
            found.append("the program does not say that nothing failed")
        return found + (self.differences(output, kit) if self.on_host else [])

    def host_command(self, kit):
        return [str((kit.programs / self.name).resolve())]

    def differences(self, output, kit):
        try:
            host = subprocess.run(self.host_command(kit), capture_output=True, text=True, cwd="/tmp",
                                  stdin=subprocess.DEVNULL, timeout=HOST_TIMEOUT, check=False)
        except OSError as error:
            print(f"{self.name}: not compared with the host, which cannot run it ({error.strerror})")
            return []
        if host.returncode != 0:
            print(f"{self.name}: not compared with the host, on which it fails")
            return []
        if host.stdout.splitlines() == output.splitlines():
            return []
        return ["the output differs from the host's:\n" + host.stdout]


class Script(Program):
    """A program in an interpreted language, run by Debian's i386 interpreter in the guest and by the
    host's own here."""

    def __init__(self, name, source, interpreter, trees, limit=120):
        super().__init__(name, limit)
        self.source = source
        self.interpreter = interpreter
        self.trees = trees

    def install(self, archive, kit):
        initramfs.add_program(archive, kit.tree(), self.interpreter)
        for tree in self.trees:
            archive.add_path(tree, kit.tree() / tree)
        for extension in (kit.tree() / self.trees[0]).rglob("*.so"):
            initramfs.add_libraries(archive, kit.tree(), extension.read_bytes())
        archive.add_file(f"loads/{self.source}", (SOURCES / self.source).read_bytes())
        archive.add_file(f"loads/{self.name}", f"#!/bin/sh\nexec /{self.interpreter} "
                         f"/loads/{self.source}\n".encode(), 0o755)

    def host_command(self, kit):
        name = pathlib.Path(self.interpreter).name
        return [shutil.which(name) or name, str(SOURCES / self.source)]


class Tool(Load):
    """A shell script that uses one of Debian's programs on the sample."""

    def __init__(self, name, programs, limit=240, script=None):
        super().__init__(name, limit)
        self.programs = programs
        self.script = SOURCES / f"{script or name}.sh"

    def install(self, archive, kit):
        for program in self.programs:
            initramfs.add_program(archive, kit.tree(), program)
        archive.add_file("loads/data/sample", sample())
        archive.add_file("loads/data/sample.xz", lzma.compress(sample()))
        archive.add_file(f"loads/{self.name}", self.script.read_bytes(), 0o755)

    def problems(self, output, kit):
        found = [line for line in output.splitlines() if "passed" in line and "a wrong" in line
                 or "a damaged" in line]
        return found + self.judge(output)

    def judge(self, output):
        raise NotImplementedError


class SevenZip(Tool):
    def judge(self, output):
        digest = hashlib.sha256(sample()).hexdigest()
        found = missing_lines(output, [
            f"CRC32  for data:              {zlib.crc32(sample()):08X}",
            f"CRC = {zlib.crc32(sample()):08X}",
            "benchmarks passed"] + [f"{kind} {digest}  -" for kind in ("7z", "zip", "xz")])
        for name in ("sha1", "sha256"):
            wanted = hashlib.new(name, sample()).hexdigest()
            if not re.search(rf"^{name.upper()} +for data: +{wanted}$", output, re.M | re.I):
                found.append(f"{name} is wrong")
        if output.count("Everything is Ok") != 3:
            found.append("an archive's test did not pass")
        return found


class Openssl(Tool):
    ANSWERS = ["aes128 69c4e0d86a7b0430d8cdb78070b4c55a", "aes256 8ea2b7ca516745bfeafc49904b496089",
               "speed ran"]

    def judge(self, output):
        wanted = list(self.ANSWERS)
        for name in ("md5", "sha1", "sha256", "sha512", "sha3-256", "blake2b512"):
            digest = hashlib.new(name.replace("-", "_").replace("b512", "b"), sample()).hexdigest()
            wanted.append(f"{name} {digest} */loads/data/sample")
        wanted += [f"{cipher} there and back" for cipher in
                   ("aes-256-cbc", "aes-128-ctr", "chacha20", "camellia-256-cbc")]
        found = missing_lines(output, wanted)
        if output.count("Signature Verified Successfully") != 3:
            found.append("a signature was not verified")
        if not (re.search(r"727\) is prime", output) and re.search(r"729\) is not prime", output)):
            found.append("the prime test is wrong")
        return found


class Xz(Tool):
    def judge(self, output):
        digest = hashlib.sha256(sample()).hexdigest()
        found = missing_lines(output, [f"level {level} {digest}  -" for level in ("-0", "-6", "-7e")]
                              + [f"from the host {digest}  -", "that was all"])
        packed = re.search(r"^for the host\n(.*)\nthat was all$", output, re.M | re.S)
        try:
            if not packed or lzma.decompress(base64.b64decode(packed[1])) != sample()[:20000]:
                found.append("the host unpacks something else than the guest packed")
        except (ValueError, lzma.LZMAError) as error:
            found.append(f"the host cannot unpack what the guest packed: {error}")
        return found


class Stress(Tool):
    def __init__(self, name, stressors, limit):
        super().__init__(name, ["usr/bin/stress-ng"], limit, script="stress")
        self.stressors = stressors

    def install(self, archive, kit):
        super().install(archive, kit)
        archive.add_file("loads/data/stressors", "".join(f"{name}\n" for name in
                                                         self.stressors).encode())

    def judge(self, output):
        found = re.findall(r"^.* failed with status .*$", output, re.M)
        return found or missing_lines(output, ["all stressors ran"])


# A second each; the first list is for every day.
STRESSORS = """memcpy qsort bsearch hash malloc fork pipe matrix str tsearch futex mutex sem shm msg
    mprotect mremap vecmath fp funccall sigsegv sigfpe switch zlib timer clone pthread""".split()
MORE_STRESSORS = """wcs heapsort mergesort hsearch lsearch radixsort shellsort skiplist tree mmap
    stream memthrash vfork sigtrap sigq longjmp funcret nop null vecwide eventfd poll sysinfo env
    sem-sysv shm-sysv brk stack atomic goto judy list revio zombie kill mincore memfd set sigabrt
    sigchld sigsuspend sigpending sigio signest sigrt sock sockpair tee itimer alarm nanosleep clock
    context dekker peterson bad-altstack full touch ptrace getrandom dup fcntl pty prctl rename dir
    flock seek""".split()


C_PROGRAMS = [Program("processes"), Program("pipes"), Program("signals"), Program("memory"),
              Program("trace"), Program("threads"), Program("jit"),
              Program("floats"), Program("compute"), Program("system"),
              Program("limits", qemu_skip="QEMU does not obey the limits of data segments"),
              Program("transcendental", qemu_skip="QEMU computes them in double precision"),
              Program("ports", on_host=False)]

SUITES = {
    "programs": C_PROGRAMS,
    "debug-registers": [Program("watchpoints")],
    "dynamic": [Program("dynamic")],
    "scripts": [Script("perl", "selfcheck.pl", "usr/bin/perl", ["usr/lib/i386-linux-gnu/perl-base"]),
                Script("python", "selfcheck.py", "usr/bin/python3.11",
                       ["usr/lib/python3.11"])],
    "sevenzip": [SevenZip("sevenzip", ["usr/bin/7zz"])],
    "openssl": [Openssl("openssl", ["usr/bin/openssl"])],
    "xz": [Xz("xz", ["usr/bin/xz"])],
    "stress": [Stress("stress", STRESSORS, 240)],
    "stress-long": [Stress("stress-long", STRESSORS + MORE_STRESSORS, 900)],
}
