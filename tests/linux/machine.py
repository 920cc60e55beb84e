"""A virtual machine of Trapline or QEMU with its serial console in our hands."""

import dataclasses
import fcntl
import os
import pty
import re
import selectors
import shlex
import signal
import struct
import subprocess
import termios
import time

from screen import Screen

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")
PROMPT = r"root@trapline:\S+# "


class MachineError(Exception):
    """The guest or the VMM did not do what was expected; the text says what."""


@dataclasses.dataclass
class Configuration:
    kernel: str
    initrd: str
    append: str = ""
    memory: str = "512M"
    cpu: str = "pentium3"
    size: str = "50x1000"  # Of the terminal: so wide that the shell does not break what is typed.
    reboots: bool = False  # A reboot starts the guest again instead of ending the run.
    options: list = dataclasses.field(default_factory=list)  # More of the VMM's own.

    def command_line(self):
        return f"console=ttyS0,115200 trapline.size={self.size} {self.append}".strip()


def trapline_command(trapline, setup):
    return ([trapline, "run", "--kernel", setup.kernel, "--initrd", setup.initrd,
             "--append", setup.command_line(), "--memory", setup.memory, "--cpu", setup.cpu,
             "--serial", "stdio", "--display", "none"]
            + ([] if setup.reboots else ["--no-reboot"]) + setup.options)


def qemu_command(qemu, setup):
    """The accelerator is always named, so that it is never another one."""
    return ([qemu, "-accel", "tcg", "-nodefaults", "-display", "none", "-monitor", "none",
             "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
             "-kernel", setup.kernel, "-initrd", setup.initrd, "-append", setup.command_line(),
             "-m", setup.memory, "-cpu", setup.cpu]
            + ([] if setup.reboots else ["-no-reboot"]) + setup.options)


class Machine:
    """A running VMM. What comes from the console is kept, without escape sequences and carriage
    returns; expect() looks only at what came after its last match."""

    def __init__(self, command):
        self.command = command
        self.started = time.monotonic()
        self.output = b""
        self.errors = b""
        self.seen = 0
        self.usage = None
        self.selector = selectors.DefaultSelector()
        self.process = self._start()
        self._watch(self.process.stderr, "stderr")

    def _start(self):
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, bufsize=0)
        self._watch(process.stdout, "stdout")
        return process

    def _watch(self, stream, name):
        os.set_blocking(stream.fileno(), False)
        self.selector.register(stream, selectors.EVENT_READ, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def text(self):
        return ESCAPES.sub(b"", self.output).decode("utf-8", "replace")

    def elapsed(self):
        return time.monotonic() - self.started

    def send(self, text):
        try:
            self.process.stdin.write(text.encode())
        except BrokenPipeError as error:
            raise MachineError(f"the machine ended before '{text.strip()}' could be typed") from error

    def expect(self, pattern, timeout):
        """Waits until the pattern appears and returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.compile(pattern, re.M).search(self.text(), self.seen)
            if match:
                self.seen = match.end()
                return match
            if not self.read(deadline):
                ended = not self.selector.get_map()
                raise MachineError(f"the machine ended before '{pattern}' came" if ended else
                                   f"no '{pattern}' within {timeout} s")

    def run(self, command, timeout=30):
        """Types a command at the shell's prompt and returns what it printed."""
        begin = self.seen
        self.send(command + "\n")
        self.expect(PROMPT, timeout)
        lines = self.text()[begin:self.seen].split("\n")
        return "\n".join(lines[1:-1]).strip("\n")

    def wait(self, timeout):
        """The exit status, once the machine has ended by itself."""
        deadline = time.monotonic() + timeout
        while self.selector.get_map():
            if not self.read(deadline) and self.selector.get_map():
                raise MachineError(f"the machine is still running after {timeout} s more")
        self._reap()
        return self.process.returncode

    def stop(self):
        """Ends a machine that does not end by itself."""
        if self.usage is None:
            os.kill(self.process.pid, signal.SIGKILL)  # Popen's own would reap it, without its usage.
            self._reap()

    def processor_seconds(self):
        """Of the running VMM, user and system, with all its threads."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _reap(self):
        _, status, self.usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)

    def read(self, deadline):
        """Takes what has come; False when the time is up or nothing can come any more."""
        left = deadline - time.monotonic()
        if left <= 0 or not self.selector.get_map():
            return False
        for key, _ in self.selector.select(left):
            try:
                data = os.read(key.fd, 65536)
            except OSError:  # A terminal of which nobody has the other side open any more.
                data = b""
            if not data:
                self.selector.unregister(key.fileobj)
            elif key.data == "stdout":
                self._take(data)
            else:
                self.errors += data
        return True

    def _take(self, data):
        self.output += data

    def description(self):
        """For a failure: how to do it again, and the end of what was printed."""
        parts = ["command: " + shlex.join(self.command)]
        for title, text in (("console", self.text()), ("stderr", self.errors.decode("utf-8", "replace"))):
            if text:
                parts.append(f"{title}:\n" + "\n".join("  | " + line for line in
                                                       text.splitlines()[-60:]))
        return "\n".join(parts)


class TerminalMachine(Machine):
    """A machine on a terminal of its own, with a screen to look at and keys to press."""

    def __init__(self, command, rows=25, columns=80):
        self.user, tty = pty.openpty()
        self.tty = os.fdopen(tty, "r+b", buffering=0)  # Kept open, for its modes.
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(self.tty)
        super().__init__(command)

    def _start(self):
        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        process = subprocess.Popen(self.command, stdin=self.tty, stdout=self.tty,
                                   stderr=subprocess.PIPE, bufsize=0, preexec_fn=own_terminal)
        self.selector.register(self.user, selectors.EVENT_READ, "stdout")
        return process

    def __exit__(self, *what):
        super().__exit__(*what)
        self.tty.close()
        os.close(self.user)

    def resize(self, rows, columns):
        """What was on the screen is gone."""
        self.screen = Screen(rows, columns)
        fcntl.ioctl(self.tty, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        os.write(self.user, text.encode())

    def _take(self, data):
        super()._take(data)
        if answer := self.screen.feed(data):
            os.write(self.user, answer)

    def see(self, pattern, timeout=30):
        """Waits until the pattern is on the screen, and returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.screen.text(), re.M)
            if found:
                return found
            if not self.read(deadline):
                raise MachineError(f"no '{pattern}' on the screen within {timeout} s:\n"
                                   + self.screen.text())

    def type(self, keys, pattern, timeout=30):
        self.send(keys)
        return self.see(pattern, timeout)

    def wait(self, timeout):
        """The terminal stays open when the machine ends."""
        deadline = time.monotonic() + timeout
        while not os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > deadline:
                raise MachineError(f"the machine is still running after {timeout} s more")
            self.read(min(deadline, time.monotonic() + 0.1))
        self._reap()
        return self.process.returncode
