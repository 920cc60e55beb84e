"""Runs the program as users do and looks at its status, its one sentence, and its output."""

import ctypes
import fcntl
import gzip
import json
import os
import pathlib
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
import unittest

BUILD = pathlib.Path(os.environ["TRAPLINE_BUILD"])
SOURCE = pathlib.Path(os.environ["TRAPLINE_SOURCE"])
TRAPLINE = str(BUILD / "trapline")
GUEST = str(BUILD / "guests" / "cli_guest.bin")
BOOT_SECTOR = BUILD / "guests" / "cli_boot_sector.bin"
COMPUTING_GUEST = BUILD / "bench-guests" / "compute.bin"
RESET_ROM = BUILD / "guests" / "cli_reset_rom.bin"
SEABIOS = pathlib.Path("/usr/share/seabios")

USAGE, BAD_INPUT, HOST, TRIPLE_FAULT, TIMEOUT, SIGNALLED, ASLEEP, NO_BIOS = (
    64, 65, 71, 80, 81, 82, 83, 84)


def as_said(*arguments, stdin=b"", **more):
    """Runs it with a time limit of its own, so that a broken --timeout fails the test."""
    return subprocess.run([TRAPLINE, *arguments], input=stdin, timeout=60, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def without_refusal(error):
    """The same on every host: without the line that one without containers gets by default."""
    return re.sub(rb"(?m)^trapline: guest user code runs translated only, .*\n", b"", error)


def trapline(*arguments, **more):
    result = as_said(*arguments, **more)
    if "--direct-exec" not in arguments:
        result.stderr = without_refusal(result.stderr)
    return result


def boot(mode, *arguments, **more):
    return trapline("run", "--multiboot", GUEST, "--append", mode, "--timeout", "20", *arguments,
                    **more)


def forbid(system_call):
    """Makes a system call fail with EPERM from now on, in this process and its children."""
    instructions = struct.pack("=" + "HBBI" * 4,
                               0x20, 0, 0, 0,  # load the call's number
                               0x15, 0, 1, system_call,
                               0x06, 0, 0, 0x00050000 | 1,  # return EPERM
                               0x06, 0, 0, 0x7fff0000)  # allow
    memory = ctypes.create_string_buffer(instructions)
    program = ctypes.create_string_buffer(struct.pack("=H6xQ", 4, ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) != 0:  # PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "no seccomp filter")


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def assert_one_sentence(self, result, status, *words):
        """The status, nothing on standard output, and one line on standard error."""
        error = result.stderr.decode()
        self.assertEqual(result.returncode, status, error)
        self.assertEqual(result.stdout, b"")
        self.assert_sentence(error, *words)

    def assert_sentence(self, error, *words):
        self.assertRegex(error, r"\Atrapline: [^\n]+\n\Z")
        self.assertNotRegex(error, r"[.!?] [A-Z]")
        for word in words:
            self.assertIn(word, error)


class Usage(CliTest):
    def test_mistakes_end_in_a_sentence(self):
        for arguments, word in (
                ((), "no command"),
                (("fly",), "fly"),
                (("run",), "--multiboot"),
                (("run", "--multiboot"), "--multiboot"),
                (("run", "--multiboot", GUEST, "--kernel", GUEST), "one of the two"),
                (("run", "--multiboot", GUEST, "--initrd", GUEST), "--initrd"),
                (("run", "--kernel", GUEST, "--module", GUEST), "--module"),
                (("run", "--raw", GUEST, "--reset-rom", GUEST), "one of the two"),
                (("run", "--raw", GUEST, "--append", "x"), "--append"),
                (("run", "--raw", GUEST, "--load", "here"), "--load"),
                (("run", "--raw", GUEST, "--load", "0x100000000"), "--load"),
                (("run", "--raw", GUEST, "--entry", "0:g"), "--entry"),
                (("run", "--raw", GUEST, "--entry", "1:10000"), "--entry"),
                (("run", "--raw", GUEST, "--entry", "0x10fff0"), "--entry"),
                (("run", "--reset-rom", GUEST, "--load", "0x7c00"), "--load"),
                (("run", "--multiboot", GUEST, "--warp"), "--warp"),
                (("run", "--multiboot", GUEST, "stray"), "stray"),
                (("run", "--multiboot", GUEST, "--memory", "0"), "more than zero"),
                (("run", "--multiboot", GUEST, "--memory", "1000"), "4K"),
                (("run", "--multiboot", GUEST, "--memory", "1M1"), "1M1"),
                (("run", "--multiboot", GUEST, "--memory", "9999G"), "63G"),
                (("run", "--multiboot", GUEST, "--cpu", "8086"), "486"),
                (("run", "--multiboot", GUEST, "--cpu", "486", "--memory", "4G"), "PAE"),
                (("run", "--multiboot", GUEST, "--timeout", "-1"), "--timeout"),
                (("run", "--multiboot", GUEST, "--display", "gtk"), "gtk"),
                (("run", "--multiboot", GUEST, "--code-cache", "0"), "--code-cache"),
                (("run", "--multiboot", GUEST, "--switch", "nothing=on"), "nothing"),
                (("run", "--multiboot", GUEST, "--idle-polling", "never"), "throttle"),
                (("run", "--multiboot", GUEST, "--idle-ticks", "few"), "gather"),
                (("run", "--multiboot", GUEST, "--direct-exec", "maybe"), "always"),
                (("run", "--multiboot", GUEST, "--memory", "64K", "--memory", "64M"), "only once"),
                (("run", "--multiboot", GUEST, "--cpu"), "--cpu: there must be a value"),
                (("run", "--multiboot", GUEST, "--cpu", ""), "--cpu: give a value"),
                (("run", "--multiboot", GUEST, "--timeout", ""), "--timeout: give a value"),
                (("run", "--kernel", GUEST, "--initrd", ""), "--initrd: give a value"),
                (("run", "--multiboot", GUEST, "--fo\no"), "--fo?o")):
            with self.subTest(arguments=arguments):
                self.assert_one_sentence(trapline(*arguments), USAGE, word)

    def test_help_and_version_go_to_standard_output(self):
        for arguments, word in ((("--version",), b"trapline 0."), (("--help",), b"run"),
                                (("run", "--help"), b"--multiboot")):
            result = trapline(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            self.assertIn(word, result.stdout)

    def test_help_names_all_statuses_of_the_document(self):
        text = trapline("run", "--help").stdout.decode()
        document = (SOURCE / "docs" / "exit-status.md").read_text()
        header = (SOURCE / "vcpu" / "result.h").read_text()
        statuses = re.findall(r"^  k\w+ = (\d+),", header, re.M)
        self.assertGreater(len(statuses), 6)
        for status in statuses:
            self.assertIn(f"| {status} |", document)
            self.assertRegex(text, rf"\b{status}\b")

    def test_more_memory_than_the_host_has(self):
        kibibytes = int(re.search(r"MemTotal:\s+(\d+)",
                                  pathlib.Path("/proc/meminfo").read_text())[1])
        gibibytes = kibibytes // (1 << 20) + 2
        if gibibytes > 63:
            self.skipTest("this host has more than a guest can have")
        self.assert_one_sentence(trapline("run", "--multiboot", GUEST, "--memory", f"{gibibytes}G"),
                                 HOST, "--memory", "this host")


class Check(CliTest):
    def features(self, **more):
        result = trapline("check", **more)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        *lines, conclusion = result.stdout.decode().splitlines()
        table = {line[:26].strip(): line[26:38].strip() for line in lines}
        return table, conclusion

    def test_tells_what_the_host_offers_and_what_follows(self):
        table, conclusion = self.features()
        self.assertEqual(table["vm.max_map_count"],
                         pathlib.Path("/proc/sys/vm/max_map_count").read_text().strip())
        self.assertIn(table["huge pages"], ["gathered", "none"])
        missing = [name for name, value in table.items() if value == "no"]
        self.assertEqual(conclusion,
                         "Guest user code runs translated only; this host lacks: "
                         f"{', '.join(missing)}." if missing else
                         "Guest user code can run natively.")
        self.assertGreaterEqual(len(table), 8)

    def test_a_host_without_modify_ldt(self):
        table, conclusion = self.features(preexec_fn=lambda: forbid(154))
        self.assertEqual(table["modify_ldt"], "no")
        self.assertEqual(table["seccomp filters"], "yes")
        self.assertIn("runs translated only; this host lacks: modify_ldt", conclusion)

    def test_a_run_without_modify_ldt_says_so_and_goes_on(self):
        for choice in (("--direct-exec", "always"), ("--direct-exec", "adaptive"), ()):
            with self.subTest(choice=choice):
                result = as_said("run", "--multiboot", GUEST, "--append", "h", *choice,
                                 preexec_fn=lambda: forbid(154))
                self.assertEqual(result.returncode, 0)
                self.assert_sentence(result.stderr.decode(), "translated only", "modify_ldt")

    def test_nothing_is_said_where_nothing_was_asked_for(self):
        for choice in (("--direct-exec", "never"), ("--cpu", "pentium3"), ("--stats=/dev/null",),
                       ("--clock", "instructions")):
            with self.subTest(choice=choice):
                result = as_said("run", "--multiboot", GUEST, "--append", "h", *choice,
                                 preexec_fn=lambda: forbid(154))
                self.assertEqual((result.returncode, result.stderr), (0, b""))

    def test_what_was_asked_for_and_is_excluded_is_said(self):
        for choice, word in ((("--cpu", "pentium3"), "pentium3"),
                             (("--clock", "instructions"), "clock")):
            with self.subTest(choice=choice):
                result = boot("h", "--direct-exec", "adaptive", *choice)
                self.assertEqual(result.returncode, 0)
                self.assert_sentence(result.stderr.decode(), "translated only", word)

    def test_a_full_output(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([TRAPLINE, "check"], stdout=full, stderr=subprocess.PIPE,
                                    timeout=60, check=False)
        self.assertEqual(result.returncode, HOST)

    def test_takes_no_arguments(self):
        self.assert_one_sentence(trapline("check", "stray"), USAGE, "stray")


class Input(CliTest):
    def refuse(self, content, *words, arguments=()):
        path = self.file("kernel", content)
        self.assert_one_sentence(trapline("run", "--multiboot", path, *arguments), BAD_INPUT,
                                 *words)

    def test_files_that_are_none(self):
        for path, word in ((str(self.folder / "missing"), "No such file"),
                           (str(self.folder), "is a directory"), ("/dev/null", "regular file"),
                           (str(self.folder / "two\nlines"), "two?lines")):
            with self.subTest(path=path):
                self.assert_one_sentence(trapline("run", "--multiboot", path), BAD_INPUT, word)
                self.assert_one_sentence(
                    trapline("run", "--multiboot", GUEST, "--module", path.replace(" ", "")),
                    BAD_INPUT, word)

    def test_unreadable_file(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        path = self.file("secret", b"x")
        os.chmod(path, 0)
        self.assert_one_sentence(trapline("run", "--multiboot", path), BAD_INPUT, "Permission")

    def test_images_that_are_none(self):
        good = pathlib.Path(GUEST).read_bytes()
        self.refuse(b"", "is empty")
        self.refuse(b"\0" * 20000, "no Multiboot header")
        self.refuse(gzip.compress(good), "gunzip")
        self.refuse(good[:24], "truncated")
        self.refuse(good[:8] + b"\1" + good[9:], "checksum")
        self.refuse(b"\x7fELF\2\1\1" + b"\0" * 57 +
                    struct.pack("<III", 0x1BADB002, 0, 2**32 - 0x1BADB002), "64-bit")

    def linux(self, **fields):
        """The least that is a bzImage: what it would run is nothing but zeros."""
        header = {"setup_sectors": (0x1F1, "B", 1), "units": (0x1F4, "I", 0x10),
                  "flag": (0x1FE, "H", 0xAA55), "jump": (0x200, "H", 0x6AEB),
                  "magic": (0x202, "I", 0x53726448), "version": (0x206, "H", 0x20F),
                  "load_flags": (0x211, "B", 1), "entry": (0x214, "I", 0x100000),
                  "initrd_max": (0x22C, "I", 0x7FFFFFFF), "more_flags": (0x236, "H", 0),
                  "command_line_max": (0x238, "I", 255), "preferred": (0x258, "Q", 0x100000),
                  "init_size": (0x260, "I", 4 << 20)}
        image = bytearray(0x400 + 0x100)
        for name, (offset, kind, value) in header.items():
            struct.pack_into(f"<{kind}", image, offset, fields.get(name, value))
        return bytes(image)

    def refuse_linux(self, content, *words, arguments=()):
        path = self.file("bzImage", content)
        self.assert_one_sentence(trapline("run", "--kernel", path, *arguments), BAD_INPUT, *words)

    def test_linux_kernels_that_cannot_be_booted(self):
        initrd = self.file("initrd", b"\0" * (4 << 20))
        self.refuse_linux(pathlib.Path(GUEST).read_bytes(), "not a Linux kernel image")
        self.refuse_linux(self.linux()[:-100], "truncated")
        self.refuse_linux(self.linux(more_flags=1), "64-bit")
        self.refuse_linux(self.linux(version=0x201), "2.01")
        self.refuse_linux(self.linux(), "--memory 5M", arguments=("--memory", "4M"))
        self.refuse_linux(self.linux(), "--append", arguments=("--append", "x" * 256))
        self.refuse_linux(self.linux(), "initrd", "--memory 10M",
                          arguments=("--memory", "6M", "--initrd", initrd))
        self.refuse_linux(self.linux(), "initrd", "No such file",
                          arguments=("--initrd", str(self.folder / "missing")))

    def test_a_kernel_that_calls_the_bios_is_told_that_there_is_none(self):
        code = bytes.fromhex("b82188cd15")  # mov ax, 0x8821; int 0x15
        image = self.linux(version=0x207, entry=0)
        path = self.file("bzImage", image[:0x26C] + code + image[0x26C + len(code):])
        self.assert_one_sentence(trapline("run", "--kernel", path), NO_BIOS,
                                 "INT 0x15 with AX 8821 at 9020:006f")

    def test_what_does_not_fit_into_memory(self):
        self.refuse(pathlib.Path(GUEST).read_bytes(), "--memory", arguments=("--memory", "1M"))
        module = self.file("module", b"\0" * (1 << 20))
        self.assert_one_sentence(
            trapline("run", "--multiboot", GUEST, "--memory", "2M", "--module", module), BAD_INPUT,
            "module", "--memory")

    def test_crash_bundles_that_are_none(self):
        self.assert_one_sentence(trapline("replay", str(self.folder / "none")), BAD_INPUT, "none")
        self.assert_one_sentence(trapline("replay", GUEST), BAD_INPUT, "bundle")
        self.assert_one_sentence(trapline("replay"), USAGE, "bundle")

    def test_files_that_cannot_be_written(self):
        for option in ("--serial=", "--stats="):
            result = boot("h", f"{option}{self.folder}/none/such")
            self.assert_one_sentence(result, BAD_INPUT, "none/such")
            self.assert_one_sentence(boot("h", f"{option}{self.folder}"), BAD_INPUT, "directory")
        for path, word in ((self.folder / "none", "No such file"), (GUEST, "irectory")):
            self.assert_one_sentence(boot("h", "--crash-dir", str(path)), BAD_INPUT, "--crash-dir",
                                     word)

    def test_sockets_that_cannot_be_made(self):
        taken = self.file("taken", b"")
        for path, word in (("x" * 200, "too long"), (taken, "a file is there"),
                           (str(self.folder), "a file is there"),
                           (f"{self.folder}/none/such", "No such file")):
            self.assert_one_sentence(boot("h", f"--serial=unix:{path}"), BAD_INPUT, word)
        self.assertTrue(os.path.exists(taken))
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.folder / "listened"))
            other.listen()
            self.assert_one_sentence(boot("h", f"--serial=unix:{self.folder}/listened"), BAD_INPUT,
                                     "a program listens there")
        boot("h", f"--serial=unix:{self.folder}/listened")  # Nobody does any more.
        self.assertFalse(os.path.exists(self.folder / "listened"))


class Guest(CliTest):
    def test_the_guest_ends_the_run_through_its_port(self):
        result = boot("e")
        self.assertEqual((result.returncode, result.stdout, result.stderr),
                         (0x2B, b"serial\ndebug\n", b""))

    def test_a_halt_with_interrupts_off_is_success(self):
        result = boot("h")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"", b""))

    def test_other_ends_have_a_sentence_and_a_status(self):
        self.assert_one_sentence(boot("s"), ASLEEP, "interrupt")
        self.assert_one_sentence(boot("t"), TRIPLE_FAULT, "triple-faulted")
        self.assert_one_sentence(boot("n"), TRIPLE_FAULT, "triple-faulted")

    def test_a_timeout_ends_a_guest_that_loops(self):
        start = time.monotonic()
        result = trapline("run", "--multiboot", GUEST, "--append", "l", "--timeout", "0.5")
        self.assert_one_sentence(result, TIMEOUT, "--timeout")
        self.assertLess(time.monotonic() - start, 10)

    def test_a_guest_that_polls_takes_next_to_nothing(self):
        for mode in "li":  # A loop without end, and one that waits for input.
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            result = trapline("run", "--multiboot", GUEST, "--append", mode, "--timeout", "2")
            self.assertEqual(result.returncode, TIMEOUT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            self.assertLess(used, 0.5, mode)

    def test_command_line_and_modules_arrive(self):
        result = boot("some text c")
        self.assertEqual((result.returncode, result.stdout.decode()),
                         (0, f"{GUEST} some text c\n"))
        first, second = self.file("first", b"1st\n"), self.file("second", b"2nd\n")
        result = boot("m", "--module", f"{first} with arguments", "--module", second)
        self.assertEqual((result.returncode, result.stdout.decode()),
                         (0, f"{first} with arguments\n1st\n{second}\n2nd\n"))

    def test_every_switch_can_be_turned(self):
        text = trapline("run", "--help").stdout.decode()
        names = re.findall(r"^  (\S+)  ", text.split("Switches:")[1].split("Exit")[0], re.M)
        self.assertGreater(len(names), 5)
        for name in names:
            for value in ("on", "off"):
                with self.subTest(switch=name, value=value):
                    self.assertEqual(boot("e", "--switch", f"{name}={value}").returncode, 0x2B)

    def test_a_clock_that_counts_instructions_makes_runs_the_same(self):
        same = {boot("r", "--clock=instructions", *more).stdout
                for more in ((), (), ("--switch", "single-instruction=on"))}
        self.assertEqual(len(same), 1)
        self.assertEqual(len(same.pop()), 100)
        self.assertNotEqual(boot("r").stdout, boot("r", "--clock=host").stdout)

    def test_models_memory_and_cache_sizes(self):
        for model in ("486", "pentium", "pentium3", "max"):
            self.assertEqual(boot("e", "--cpu", model).returncode, 0x2B)
        for size in ("2M", "1G"):
            self.assertEqual(boot("e", "--memory", size).returncode, 0x2B)
        self.assertEqual(boot("e", "--code-cache", "1M", "--display", "none").returncode, 0x2B)


class Output(CliTest):
    def test_the_serial_port_can_go_to_a_file_or_nowhere(self):
        path = self.folder / "serial.log"
        result = boot("e", "--serial", str(path))
        self.assertEqual((result.returncode, result.stdout), (0x2B, b"debug\n"))
        self.assertEqual(path.read_bytes(), b"serial\n")
        self.assertEqual(boot("e", "--serial", "none").stdout, b"debug\n")

    def test_standard_input_is_the_serial_port(self):
        result = boot("i", stdin=b"hello, guest\nq")
        self.assertEqual((result.returncode, result.stdout), (0, b"hello, guest\n"))

    def test_no_standard_input(self):
        result = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", TRAPLINE, "run", "--multiboot",
                                 GUEST, "--append", "e"], timeout=60, check=False,
                                capture_output=True)
        self.assertEqual((result.returncode, result.stdout), (0x2B, b"serial\ndebug\n"))

    def test_no_standard_output_never_hits_another_file(self):
        path = self.folder / "serial.log"
        result = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", TRAPLINE, "run", "--multiboot",
                                 GUEST, "--append", "e", "--serial", str(path)], timeout=60,
                                check=False, stderr=subprocess.PIPE)
        self.assertEqual((result.returncode, without_refusal(result.stderr)), (0x2B, b""))
        self.assertEqual(path.read_bytes(), b"serial\n")

    def test_a_closed_reader_ends_the_run(self):
        with subprocess.Popen([TRAPLINE, "run", "--multiboot", GUEST, "--append", "f", "--timeout",
                               "30"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.assertEqual(process.stdout.readline(), b"serial\n")
            process.stdout.close()
            error = without_refusal(process.stderr.read()).decode()
            self.assertEqual(process.wait(60), HOST)
        self.assert_sentence(error, "standard output", "Broken pipe")

    def test_a_full_disk_ends_the_run(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        for mode in "fe":  # Also when the guest itself ends well, right after its only line.
            with self.subTest(mode=mode):
                result = boot(mode, "--serial", "/dev/full")
                self.assertEqual(result.returncode, HOST)
                self.assert_sentence(result.stderr.decode(), "/dev/full", "No space left")
        result = boot("e", "--stats=/dev/full")
        self.assertEqual(result.returncode, HOST)
        self.assert_sentence(result.stderr.decode(), "/dev/full", "No space left")

    def test_a_file_that_may_not_grow_ends_the_run(self):
        most = 1 << 36  # More than the files that the program needs for itself.
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        with open(self.folder / "output", "wb") as output:
            output.truncate(most)
            output.seek(most)
            result = subprocess.run([TRAPLINE, "run", "--multiboot", GUEST, "--append", "f",
                                     "--timeout", "20"], stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=subprocess.PIPE, preexec_fn=limit, timeout=60, check=False)
        self.assertEqual(result.returncode, HOST)
        self.assert_sentence(without_refusal(result.stderr).decode(), "standard output",
                             "File too large")

    def test_a_timeout_ends_a_guest_whose_output_nobody_reads(self):
        with subprocess.Popen([TRAPLINE, "run", "--multiboot", GUEST, "--append", "f", "--timeout",
                               "1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.assertEqual(process.wait(60), TIMEOUT)
            self.assert_sentence(without_refusal(process.stderr.read()).decode(), "--timeout")


class Signals(CliTest):
    def test_signals_end_the_run_cleanly(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number), subprocess.Popen(
                    [TRAPLINE, "run", "--multiboot", GUEST, "--append", "f", "--timeout", "60"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    bufsize=0) as process:
                self.assertEqual(process.stdout.readline(), b"serial\n")
                process.send_signal(number)
                rest, error = process.communicate(timeout=60)
                self.assertEqual(process.returncode, SIGNALLED)
                self.assertEqual(rest, (b"serial\n" * len(rest))[:len(rest)])
                self.assert_sentence(without_refusal(error).decode(), f"signal {int(number)}")


def children_of(pid):
    """Those of all its threads."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


class Containers(CliTest):
    @staticmethod
    def of_a_run_that_is_killed(*arguments):
        with subprocess.Popen(
                [TRAPLINE, "run", "--multiboot", GUEST, "--append", "f", "--timeout", "60",
                 *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                bufsize=0) as process:
            assert process.stdout.readline() == b"serial\n"
            containers = children_of(process.pid)
            process.kill()
            process.communicate(timeout=60)
        return containers

    def test_a_run_has_them_unless_it_excludes_them(self):
        if "can run natively" not in as_said("check").stdout.decode():
            self.skipTest("this host has no containers")
        for arguments, number in (((), 2), (("--direct-exec", "never"), 0), (("--stats",), 0),
                                  (("--stats", "--direct-exec", "adaptive"), 2),
                                  (("--cpu", "pentium3"), 0), (("--clock", "instructions"), 0)):
            with self.subTest(arguments=arguments):
                self.assertEqual(len(self.of_a_run_that_is_killed(*arguments)), number)

    def test_nothing_outlives_a_run_that_is_killed(self):
        containers = self.of_a_run_that_is_killed("--direct-exec", "always")
        if not containers:
            self.skipTest("this host has no containers")
        self.assertEqual(len(containers), 2)
        deadline = time.monotonic() + 20
        while left := [pid for pid in containers if self.runs(pid)]:
            self.assertLess(time.monotonic(), deadline, left)
            time.sleep(0.01)

    @staticmethod
    def runs(pid):
        try:
            status = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return status.rsplit(")", 1)[1].split()[0] not in "ZX" and "trapline" in status


class Terminal(CliTest):
    """The program on a terminal of its own, as a shell would start it."""

    def setUp(self):
        super().setUp()
        self.user, self.tty = pty.openpty()
        self.addCleanup(os.close, self.user)
        self.addCleanup(os.close, self.tty)
        self.modes = termios.tcgetattr(self.tty)
        self.seen = b""

    def start(self, mode, *arguments, **more):
        def own_terminal():
            os.setsid()
            fcntl.ioctl(self.tty, termios.TIOCSCTTY, 0)
        streams = {"stdin": self.tty, "stdout": self.tty, "stderr": self.tty, **more}
        # A sanitizer's own handler would end the program before ours.
        environment = {**os.environ, "ASAN_OPTIONS": ":".join(
            filter(None, [os.environ.get("ASAN_OPTIONS"), "handle_segv=0"]))}
        process = subprocess.Popen([TRAPLINE, "run", "--multiboot", GUEST, "--append", mode,
                                    "--timeout", "60", *arguments],
                                   preexec_fn=own_terminal, env=environment, **streams)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def type(self, keys):
        os.write(self.user, keys)

    def see(self, text, seconds=20):
        """Reads what the user sees until the text is there."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.user], [], [], 0.1)[0]:
                self.seen += os.read(self.user, 4096)
        self.assertIn(text, self.seen)

    def is_raw(self):
        return not termios.tcgetattr(self.tty)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def assert_end(self, process, status):
        self.assertEqual(process.wait(60), status, self.seen)
        self.assertEqual(termios.tcgetattr(self.tty), self.modes)

    def test_every_key_reaches_the_guest(self):
        process = self.start("i")
        self.see(b"Ctrl-A x quits")
        self.assertTrue(self.is_raw())
        self.type(b"<\x03\x1a\x11\x1b[A\r\x01\x01>")
        self.see(b"<\x03\x1a\x11\x1b[A\r\x01>")
        self.type(b"q")
        self.assert_end(process, 0)

    def test_help_is_shown_and_ctrl_a_x_quits(self):
        process = self.start("l")
        self.see(b"Ctrl-A x quits")
        self.type(b"\x01h")
        self.see(b"sends a break")
        self.type(b"\x01x")
        self.assert_end(process, 0)

    def test_quitting_works_when_nobody_reads_the_output(self):
        process = self.start("f")
        while not self.is_raw() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        self.type(b"\x01x")
        self.assert_end(process, 0)

    def test_however_it_ends_the_terminal_is_as_before(self):
        for number, status in ((signal.SIGTERM, SIGNALLED), (signal.SIGINT, SIGNALLED),
                               (signal.SIGHUP, SIGNALLED), (signal.SIGSEGV, -signal.SIGSEGV),
                               (signal.SIGQUIT, -signal.SIGQUIT), (signal.SIGABRT, 70)):
            with self.subTest(signal=number):
                self.seen = b""
                process = self.start("l")
                self.see(b"Ctrl-A x quits")
                process.send_signal(number)
                self.assert_end(process, status)
        process = self.start("t")
        self.assert_end(process, TRIPLE_FAULT)
        self.seen = b""
        self.see(b"triple-faulted")

    def test_a_terminal_that_closes_ends_the_run(self):
        for mode in "ifl":  # Waiting for keys, writing, computing.
            with self.subTest(mode=mode):
                user, tty = pty.openpty()
                errors = open(self.folder / "errors", "w+b")
                def own_terminal():
                    os.setsid()
                    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
                process = subprocess.Popen(
                    [TRAPLINE, "run", "--multiboot", GUEST, "--append", mode, "--timeout", "60"],
                    stdin=tty, stdout=tty, stderr=errors, preexec_fn=own_terminal)
                os.close(tty)
                self.assertIn(b"Ctrl-A x", os.read(user, 200))
                os.close(user)
                self.assertEqual(process.wait(30), SIGNALLED)
                errors.seek(0)
                self.assert_sentence(without_refusal(errors.read()).decode(), "signal 1")
                errors.close()

    def test_a_resize_does_not_disturb(self):
        process = self.start("i")
        self.see(b"Ctrl-A x quits")
        for rows in range(20, 30):
            fcntl.ioctl(self.user, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
            process.send_signal(signal.SIGWINCH)
            self.type(b"x")
        self.see(b"xxxxxxxxxx")
        self.type(b"q")
        self.assert_end(process, 0)

    def test_line_ends_of_a_guest_that_knows_no_terminal_are_completed(self):
        process = self.start("e")
        self.see(b"serial\r\ndebug\r\n")
        self.assert_end(process, 0x2B)

    def test_output_may_be_redirected_alone(self):
        process = self.start("i", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.see(b"Ctrl-A x quits")
        self.type(b"a\nb\rq")
        self.assert_end(process, 0)
        self.assertEqual((process.stdout.read(), without_refusal(process.stderr.read())),
                         (b"a\nb\r", b""))
        process.stdout.close()
        process.stderr.close()

    def test_the_line_may_be_a_socket(self):
        path = str(self.folder / "console")
        process = self.start("i", "--serial", f"unix:{path}", stdin=subprocess.DEVNULL)
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            self.retry(lambda one=client: one.connect(path))
            client.sendall(b"hello\x01x")
            self.assertEqual(client.recv(7, socket.MSG_WAITALL), b"hello\x01x")
            client.close()
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(path)
        client.sendall(b"q")
        self.assert_end(process, 0)
        self.assertFalse(os.path.exists(path))

    def retry(self, what):
        for _ in range(200):
            try:
                return what()
            except OSError:
                time.sleep(0.05)
        return what()

    def test_the_line_may_be_another_terminal(self):
        process = self.start("i", "--serial", "pty")
        self.see(b"\n")
        name = re.search(rb"is on (/dev/\S+)", self.seen)[1].decode()
        line = os.open(name, os.O_RDWR | os.O_NOCTTY)
        self.addCleanup(os.close, line)
        os.write(line, b"hello\r")
        self.assertEqual(os.read(line, 1), b"h")
        os.write(line, b"q")
        self.assert_end(process, 0)


class Summary(CliTest):
    def test_it_tells_how_the_run_went(self):
        result = boot("e", "--summary")
        self.assertEqual((result.returncode, result.stdout), (0x2B, b"serial\ndebug\n"))
        text = result.stderr.decode()
        self.assertRegex(text, r"(?m)\Aended +debug-exit, exit status 43$")
        self.assertRegex(text, r"(?m)^first at rest +never$")
        self.assertRegex(text, r"(?m)^translated +[1-9]\d* blocks, [1-9]\d* instructions, ")
        self.assertRegex(text, r"(?m)^exits +[1-9]\d* port accesses, 0 to device memory\n +0 halts, 0 ")

    def test_a_guest_at_rest_is_noticed(self):
        result = trapline("run", "--multiboot", GUEST, "--append", "i", "--timeout", "1", "--summary")
        self.assertEqual(result.returncode, TIMEOUT)
        text = result.stderr.decode()
        self.assertRegex(text, r"(?m)^first at rest +after 0\.\d\d s$")
        self.assertRegex(text, r"(?m)^run +1\.\d\d s, idle for 0\.[5-9]\d s ")
        self.assertRegex(text, r" [1-9]\d* polling waits\n")
        self.assertRegex(text, r"trapline: [^\n]+\n\Z")

    def test_a_guest_that_computes_is_sampled(self):
        result = trapline("run", "--multiboot", GUEST, "--append", "l", "--timeout", "1", "--summary",
                          "--idle-polling", "run")
        self.assertRegex(result.stderr.decode(),
                         r"(?m)^of that +0 % guest's user code, (9\d|100) % its kernel, ")

    def test_native_code_is_told_of(self):
        if not COMPUTING_GUEST.exists() or "can run natively" not in as_said("check").stdout.decode():
            self.skipTest("there is nothing to run natively")
        native = r"(?m)^native +\d+\.\d\d s of user code \(\d+ % of it\), in processes of its own$"
        for policy, check in (("always", self.assertRegex), ("never", self.assertNotRegex)):
            result = trapline("run", "--multiboot", COMPUTING_GUEST, "--append",
                              "kernels=sieve reps=2 mode=ring3", "--timeout", "20",
                              "--summary", "--direct-exec", policy)
            check(result.stderr.decode(), native)


class Stats(CliTest):
    def test_the_table_goes_to_standard_error(self):
        result = boot("e", "--stats")
        self.assertEqual((result.returncode, result.stdout), (0x2B, b"serial\ndebug\n"))
        text = result.stderr.decode()
        for name in ("ending", "host_seconds", "blocks_translated", "interpreted_share"):
            self.assertRegex(text, rf"(?m)^{name}\s+\S+$")

    def test_the_file_is_json_and_the_document_names_all_of_it(self):
        path = self.folder / "stats.json"
        result = boot("e", f"--stats={path}")
        self.assertEqual((result.returncode, result.stderr), (0x2B, b""))
        content = json.loads(path.read_text())
        self.assertEqual((content["ending"], content["exit_status"]), ("debug-exit", 0x2B))
        self.assertTrue(content["counted"])
        self.assertGreater(content["counters"]["instructions"], 50)
        self.assertGreater(content["counters"]["blocks_translated"], 5)
        self.assertGreater(content["counters"]["port_accesses"], 10)
        self.assertLessEqual(len(content["interpreted_top"]), 20)
        self.assertLessEqual(content["interpreted_share"], 1)
        document = (SOURCE / "docs" / "statistics.md").read_text()
        for name in [*content, *content["counters"]]:
            self.assertIn(f"`{name}`", document)

    def test_it_is_also_printed_when_the_run_ends_badly(self):
        result = boot("t", "--stats")
        self.assertEqual(result.returncode, TRIPLE_FAULT)
        self.assertRegex(result.stderr.decode(), r"triple-fault(?s:.*)trapline: [^\n]+\n\Z")


class RealMode(CliTest):
    def run_raw(self, *arguments, content=None):
        path = self.file("image", content or BOOT_SECTOR.read_bytes())
        return trapline("run", "--raw", path, "--timeout", "20", *arguments)

    def assert_prints(self, line, *arguments):
        result = self.run_raw(*arguments)
        self.assertEqual((result.returncode, result.stdout.decode(), result.stderr),
                         (0x21, line + "\n", b""))

    def test_the_state_is_what_a_bios_leaves(self):
        # Data segments, SP, DL, CS, IP, FLAGS, machine status word.
        self.assert_prints("0000 7C00 800000 7C00 0202 0010 ")
        self.assert_prints("0000 7C00 8007C0 0000 0202 0010 ", "--entry", "07c0:0000")
        self.assert_prints("0000 0600 800000 0600 0202 0010 ", "--load", "0x600")
        self.assert_prints("0000 7C00 802345 0006 0202 0010 ", "--load", "0x23456")
        self.assert_prints("0000 7C00 80FFFF 0010 0202 0010 ", "--load", "0x100000")

    def test_a_bios_call_is_told(self):
        content = BOOT_SECTOR.read_bytes()[:-1] + b"b"
        result = self.run_raw(content=content)
        self.assertEqual(result.returncode, NO_BIOS)
        self.assert_sentence(result.stderr.decode(), "INT 0x13 with AX 41")

    def test_images_that_do_not_fit(self):
        for arguments, word in ((("--load", "0x4ff"), "0x500"), (("--load", "0x9ffff"), "RAM"),
                                (("--load", "0x4000000", "--entry", "0:7c00"), "RAM")):
            self.assert_one_sentence(self.run_raw(*arguments), BAD_INPUT, word)
        self.assert_one_sentence(trapline("run", "--raw", self.file("empty", b"")), BAD_INPUT,
                                 "empty")
        self.assert_one_sentence(trapline("run", "--raw", "/nonexistent"), BAD_INPUT, "raw image")


class Firmware(CliTest):
    def test_a_rom_is_at_its_places_and_cannot_be_written(self):
        result = trapline("run", "--reset-rom", str(RESET_ROM), "--timeout", "20")
        self.assertEqual((result.returncode, result.stderr), (0x21, b""))

    def test_roms_of_strange_sizes(self):
        for size in (0, 1, 4095, (16 << 20) + 4096):
            path = self.file("rom", bytes(size))
            self.assert_one_sentence(trapline("run", "--reset-rom", path), BAD_INPUT, "4096")

    def test_seabios_comes_to_its_boot_attempt(self):
        for name in ("bios.bin", "bios-256k.bin"):
            if not (SEABIOS / name).exists():
                self.skipTest("seabios is not installed")
            for cpu in ("486", "max"):
                with self.subTest(name=name, cpu=cpu):
                    self.run_seabios(name, cpu)

    def run_seabios(self, name, cpu):
        with subprocess.Popen([TRAPLINE, "run", "--reset-rom", str(SEABIOS / name), "--cpu", cpu,
                               "--timeout", "50"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            seen = []
            for line in process.stdout:
                seen.append(line.decode())
                if line.startswith(b"No bootable device"):
                    process.terminate()
                    break
            process.communicate()
        text = "".join(seen)
        for wanted in ("RamSize: 0x04000000", "Found 3 PCI devices", "PS2 keyboard initialized",
                       "Booting from Hard Disk...", "No bootable device"):
            self.assertIn(wanted, text)


class Readme(CliTest):
    README = (SOURCE / "README.md").read_text()

    def block(self, marker):
        """The fenced block after <!-- marker -->."""
        found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", self.README, re.S)
        self.assertIsNotNone(found, marker)
        return found[1]

    def test_the_example_is_the_file_and_prints_what_is_said(self):
        source = (SOURCE / "examples" / "embed" / "main.cc").read_text()
        self.assertEqual(self.block("examples/embed/main.cc"), source)
        result = subprocess.run([str(BUILD / "embed_example")], timeout=60, check=False,
                                capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stdout),
                         (0, self.block("output of examples/embed/main.cc")))

    def test_the_tour_works_when_pasted(self):
        tour = self.block("tour").replace("build/release", str(BUILD))
        result = subprocess.run(["bash", "-c", tour], cwd=SOURCE, timeout=60, check=False,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(result.stdout, self.block("output of the tour"))

    def test_every_path_that_is_named_exists(self):
        for path in re.findall(r"\]\((?!http)([^)#]+)\)", self.README):
            self.assertTrue((SOURCE / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
