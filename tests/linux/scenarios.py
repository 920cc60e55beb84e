"""Conversations with a guest's shell. Each returns what is wrong, as a list of sentences."""

import calendar
import dataclasses
import hashlib
import re
import termios
import time
import typing

from machine import PROMPT

BOOT_LIMIT = 120
LONG_CLOCK_ROUNDS = 60
MEBIBYTES = {"M": 1, "G": 1024}


@dataclasses.dataclass
class Scenario:
    play: typing.Callable
    append: str = ""
    reboots: bool = False
    ends: bool = True  # The guest ends the run itself, with status 0.
    terminal: str = ""  # ROWSxCOLUMNS of the terminal that the machine runs on; none: pipes.


def boot(running):
    running.expect(PROMPT, BOOT_LIMIT)
    return running.elapsed()


def power_off(running, options):
    boot(running)
    running.send("poweroff\n")
    running.expect("Power down|System halted", 60)
    return []


def shell(running, options):
    """What somebody at the terminal does, and whether the machine is as large as it should be."""
    print(f"boot to the shell: {boot(running):.2f} s")
    problems = []

    def check(what, holds):
        if not holds:
            problems.append(what)

    check("arithmetic", running.run("echo $((6 * 7))") == "42")
    release = running.run("uname -r")
    check(f"the release {release}", release.endswith("-" + options.kernel))
    check("the machine", running.run("uname -m") == "i686")
    check_memory(running, options, check)
    if not options.qemu:  # Of which not every version does that.
        said = running.run("dmesg | grep 'random: crng'")
        check("randomness from the first second on",
              re.search(r"^\[ +0\.\d+\] random: crng init done", said, re.M) is not None)
    long_line = "abcdefghijklmnopqrstuvwxyz" * 35
    check("a long line", running.run(f"echo {long_line} | wc -c").endswith("911"))
    check("much output", running.run("seq 1 5000 | md5sum; seq 1 5000", 60).split("\n")[1:]
          == [str(number) for number in range(1, 5001)])
    interrupt(running, check)
    check("background jobs",
          re.search(r"Running", running.run("sleep 100 & jobs")) is not None)
    running.run("kill %1")
    running.send("poweroff -f\n")
    return problems


def check_memory(running, options, check):
    kibibytes = int(running.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"))
    wanted = int(options.memory[:-1]) * MEBIBYTES[options.memory[-1]]
    # What the kernel keeps for itself; the 686 kernel leaves out what is beyond 4 GiB.
    check(f"{kibibytes} KiB of memory",
          wanted * 0.75 - 24 < kibibytes / 1024 <= wanted)


def interrupt(running, check):
    running.send("sleep 100\n")
    time.sleep(1)
    running.send("\x03")
    running.expect(PROMPT, 10)
    check("Ctrl-C", running.run("echo $?") == "130")


SHELL = r"^root@trapline:~#"
LAST_PROMPT = SHELL + r"\n*\Z"  # The cursor is behind it, and nothing is below.


def terminal(running, options):
    """What somebody with keys and a screen does: the programs that draw, the keys that edit and stop,
    a window that changes its size, and the way out."""
    running.see(SHELL, BOOT_LIMIT)
    problems = []

    def check(what, holds):
        if not holds:
            problems.append(f"{what}:\n{running.screen.text()}")

    def command(text, timeout=30):
        """What it leaves on an empty screen."""
        running.type("clear\n", r"\A" + LAST_PROMPT)
        running.send(text + "\n")
        running.see(SHELL + r".*\n(.*\n)*" + LAST_PROMPT, timeout)
        return running.screen.lines()[1:]

    check("the size", command("stty size")[0] == "30 100")
    check("editing a line", command("echo one two thrree\x1b[D\x1b[D\x1b[D\x7f")[0] == "one two three")
    running.type("\x10\x01echo first, \n", "^first, echo one two three")
    check_stopping(running, check)
    check_drawing(running, check, command)
    running.resize(20, 90)
    check("the new size", "20 90" in command("resize; stty size"))
    check_pasting(running, check, command)
    if running.screen.unknown:
        problems.append(f"unknown escape sequences {sorted(running.screen.unknown)}")
    if options.qemu:
        running.send("poweroff -f\n")
    else:
        running.type("\x01h", "Ctrl-A x +quits")
        running.send("\x01x")
    status = running.wait(60)
    if status != 0 or running.errors:
        problems.append(f"exit status {status}, {running.errors.decode()}")
    if termios.tcgetattr(running.tty) != running.modes:
        problems.append("the terminal's modes are not what they were")
    return problems


def check_stopping(running, check):
    running.type("clear\n", r"\A" + LAST_PROMPT)
    running.type("sleep 100\n", "sleep 100\n+")
    time.sleep(1)
    running.type("\x03", LAST_PROMPT)
    running.type("echo $?\n", "^130$")
    running.type("sleep 100\n", r"\$ sleep 100|# sleep 100\n+\Z")
    time.sleep(1)
    running.type("\x1a", r"Stopped +sleep 100")
    running.type("jobs; kill %1\n", r"Stopped +sleep 100(.*\n)+.*Stopped +sleep 100")


def check_drawing(running, check, command):
    command("for i in 1 2 3 4 5; do echo line $i; done >file")
    running.type("vi file\n", r"\Aline 1\nline 2\n(.*\n)+~\n- file 1/5 20%")
    running.type("jjdd", r"line 2\nline 4\nline 5\n~")
    running.type("ohello\x1b", r"line 4\nhello\nline 5\n~")
    running.type("/5\n", r"5/5 100%")
    running.type(":wq\n", LAST_PROMPT)
    check("what vi wrote", command("cat file")[:5] == ["line 1", "line 2", "line 4", "hello", "line 5"])
    running.type("top\n", r"\AMem: \d+K used, .*\nCPU: .*\nLoad average: .*\n +PID .*\n( +\d.*\n){24}")
    running.type("q", LAST_PROMPT)
    running.type("seq 1 500 | less\n", r"\A1\n2\n3\n(\d+\n){26}")
    running.type("G", r"^499\n500\n(~?\n)*.*END")
    running.type("q", LAST_PROMPT)


def check_pasting(running, check, command):
    """More than any buffer on the way takes."""
    text = "".join(f"{line:05} {'abcdefghij' * 6}\n" for line in range(600))
    running.type("clear\n", r"\A" + LAST_PROMPT)
    running.send("stty -echo; cat >pasted; stty echo\n")
    time.sleep(1)
    for begin in range(0, len(text), 500):
        running.send(text[begin:begin + 500])
        running.read(time.monotonic() + 0.01)
    running.send("\x04")
    running.see(SHELL + r".*\n(.*\n)*" + LAST_PROMPT, 60)
    check("what was pasted", command("md5sum pasted")[0].split()[0]
          == hashlib.md5(text.encode()).hexdigest())


def reboot(running, options):
    boot(running)
    running.run("touch /was-here")
    running.send("reboot -f\n")
    boot(running)
    problems = [] if "No such" in running.run("ls /was-here") else ["the file is still there"]
    running.send("poweroff -f\n")
    return problems


def reboot_ends(running, options):
    boot(running)
    running.send("reboot\n")
    running.expect("Restarting system|reboot:", 60)
    return []


def panic(running, options):
    boot(running)
    running.send("echo c >/proc/sysrq-trigger\n")
    running.expect("Kernel panic", 30)
    return []


def guest_is_behind(running):
    """How far the guest's date is behind the host's: at least, and at most."""
    asked = time.time()
    text = running.run("date -u -Ins")
    answered = time.time()
    seconds, fraction = re.fullmatch(r"(.*),(\d+)\+00:?00", text).groups()
    date = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) + float("0." + fraction)
    return asked - date, answered - date


def clocks(running, options):
    """Ten seconds of sleep by the host's clock, and the guest's date, which the kernel takes from the
    real-time clock at the start and therefore begins up to a second too late."""
    boot(running)
    problems = []
    behind = guest_is_behind(running)
    sleeps = []
    for _ in range(LONG_CLOCK_ROUNDS if options.long else 1):
        running.send("echo '<'go; sleep 10; echo '<'done\n")
        running.expect("^<go", 10)
        begin = time.monotonic()
        running.expect("^<done", 30)
        sleeps.append(time.monotonic() - begin)
        running.expect(PROMPT, 10)
        if not 9.9 <= sleeps[-1] <= 10.1:
            problems.append(f"sleep 10 took {sleeps[-1]:.3f} s")
    later = guest_is_behind(running)
    text = (f"the guest's date was {behind[0]:.2f} to {behind[1]:.2f} s behind, "
            f"then {later[0]:.2f} to {later[1]:.2f} s")
    print(f"sleep 10 took {min(sleeps):.3f} to {max(sleeps):.3f} s; {text}")
    drift = (later[0] - behind[1], later[1] - behind[0])  # At least, and at most.
    if later[0] > 2 or later[1] < -1 or drift[0] > 1 or drift[1] < -1:
        problems.append(text)
    running.send("poweroff -f\n")
    return problems


def idle(running, options):
    """What a guest that waits at its prompt costs."""
    boot(running)
    time.sleep(3)
    seconds = 10
    before = running.processor_seconds()
    time.sleep(seconds)
    share = (running.processor_seconds() - before) / seconds
    print(f"an idle guest takes {share:.1%} of a core")
    running.send("poweroff -f\n")
    # A guest that spins takes all of it; what a waiting one takes depends on the host's load.
    return [] if share < 0.2 else [f"an idle guest takes {share:.1%} of a core"]


def refusal(running, options):
    """The 686 kernel on a processor without CMOV: it stops before it says anything, and the VMM says
    where. What the kernel itself has to say needs a BIOS."""
    status = running.wait(30)
    problems = [] if status == 0 else [f"exit status {status}"]
    if "the kernel halted for good at" not in running.errors.decode():
        problems.append("nobody says that the kernel halted")
    if re.search("Linux version|" + PROMPT, running.text()):
        problems.append("the kernel boots, although the processor lacks what it needs")
    return problems


SCENARIOS = {
    "shell": Scenario(shell),
    "terminal": Scenario(terminal, terminal="30x100", ends=False),
    "poweroff": Scenario(power_off),
    "reboot": Scenario(reboot, reboots=True),
    "reboot-ends": Scenario(reboot_ends),
    "panic": Scenario(panic, append="panic=-1"),
    "clocks": Scenario(clocks),
    "idle": Scenario(idle),
    "refusal": Scenario(refusal, append="earlyprintk=ttyS0", ends=False),
}
