#!/usr/bin/env python3
"""The computing programs of direct_compare.py by the processor time that they take, the host's and
the guest's in turns of a tenth of a second on one processor, so that both meet the same neighbours
and clock rates. Where a host is shared or its processors vary, this tells overhead far better than
elapsed time does. It leaves out what a guest waits for, which for such programs is nothing. Whose
turn it is not is stopped, so a guest's timer interrupts are as frequent as they are without turns.

The guest's share is everything that the VMM's process and its containers take meanwhile; `VMM` is
the process's part of that: the guest's kernel, devices, and the policy's translated stretches.

With --elapsed it is the time that passes in the turns, and guests may use all processors, as they
do where nobody measures: native code may have one of its own then. The host's program follows the
guest's to the processor that it is on, since not all have the same neighbours. `VMM` is what its
process takes meanwhile, on whichever.

The exit status is 0 when everything ran; with --require-targets also only when the targets are met."""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import benchlib
import direct_compare
import guest_processes
from benchlib import BenchError
from direct_compare import machine

# A rating says how fast something ran, not what it took.
PROGRAMS = [one for one in direct_compare.PROGRAMS if one.computes and not one.rating]
TURN = 0.1
JIFFY = 1 / os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    direct_compare.add_guest_arguments(parser)
    parser.add_argument("--runs", type=int, default=5, metavar="NUMBER",
                        help="of each program in each guest (default: %(default)s)")
    parser.add_argument("--policies", default="never,adaptive", metavar="NAME,NAME")
    parser.add_argument("--elapsed", action="store_true",
                        help="judge by elapsed time, on all processors")
    parser.add_argument("--programs", metavar="NAME,NAME", default=",".join(
        [program.name for program in PROGRAMS]), help="(default: %(default)s)")
    parser.add_argument("--require-targets", action="store_true")
    options = parser.parse_args()
    options.programs = direct_compare.named(parser, options.programs, PROGRAMS)
    options.policies = options.policies.split(",")
    if unknown := set(options.policies) - set(direct_compare.POLICIES):
        parser.error(f"no such policy: {', '.join(unknown)}")
    if options.runs < 1:
        parser.error("--runs is at least 1")
    return options


def seconds_of_ended_children(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    after_name = stat.rpartition(")")[2].split()
    return (int(after_name[13]) + int(after_name[14])) * JIFFY


def processor_time(running):
    """(the VMM's process, its containers)"""
    pid = running.process.pid
    containers = sum(guest_processes.seconds_of(child) for child in guest_processes.children(pid))
    return guest_processes.seconds_of(pid), containers + seconds_of_ended_children(pid)


def pin(pid, processor):
    for thread in guest_processes.threads(pid):
        try:
            os.sched_setaffinity(thread, {processor})
        except ProcessLookupError:
            pass  # It ended just now.


class Turns:
    """How long somebody's turns have lasted altogether."""

    def __init__(self):
        self.lock = threading.Lock()
        self.total = 0.0
        self.began = None

    def begin(self):
        self.began = time.monotonic()

    def end(self):
        with self.lock:
            self.total += time.monotonic() - self.began
            self.began = None

    def seconds(self):
        with self.lock:
            return self.total + (time.monotonic() - self.began if self.began is not None else 0)


class HostLoop:
    """Runs the host's program again and again on one processor, as long as it is entered, in turns
    with whichever guest it is told of."""

    def __init__(self, kit, program, processor, follows):
        self.command = kit.host_command(program.arguments)
        self.processor = processor
        self.follows = follows  # The guest, to the processor that it is on.
        self.guest = None  # Its processes.
        self.seconds = []
        self.elapsed = []
        self.own_turns = Turns()
        self.guests_turns = Turns()
        self.failure = None
        self.wanted = True
        self.process = None  # The host's, as long as it is there.
        self.may_start = threading.Lock()
        self.runner = threading.Thread(target=self.run)
        self.turns = threading.Thread(target=self.take_turns)

    def run(self):
        while self.wanted or not self.seconds:
            with self.may_start:
                begin = self.own_turns.seconds()
                process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env=direct_compare.host_environment(),
                    preexec_fn=lambda: os.sched_setaffinity(0, {self.processor}))
                self.process = process.pid
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            end = self.own_turns.seconds()
            with self.may_start:  # Nobody else has its number before wait4().
                self.process = None
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                self.failure = f"ends with {process.returncode}: {' '.join(self.command)}"
                return
            self.seconds.append(usage.ru_utime + usage.ru_stime)
            self.elapsed.append(end - begin)

    def take_turns(self):
        self.own_turns.begin()
        while self.runner.is_alive():
            time.sleep(TURN)
            with self.may_start:
                if not self.guest:
                    continue
                self.signal_host(signal.SIGSTOP)
                self.own_turns.end()
                self.guests_turns.begin()
                self.guest.go_on()
                time.sleep(TURN)
                self.guest.stop()
                self.guests_turns.end()
                self.guest.stop_others()
                if self.follows:
                    self.follow()
                self.own_turns.begin()
                self.signal_host(signal.SIGCONT)

    def enter(self, guest):
        """From now on the guest runs in its turns only."""
        with self.may_start:
            self.guest = guest_processes.Processes(guest)
            self.guest.find()
            self.guest.stop()
            self.guest.stop_others()

    def leave(self):
        with self.may_start:
            if self.guest:
                self.guest.go_on()
            self.guest = None

    def signal_host(self, number):
        if self.process is not None:
            os.kill(self.process, number)

    def follow(self):
        """The host's program goes to the processor that the guest was on."""
        processor = self.guest.processor()
        if processor is None or processor == self.processor:
            return
        self.processor = processor
        if self.process is not None:
            pin(self.process, processor)

    def __enter__(self):
        self.runner.start()
        self.turns.start()
        return self

    def __exit__(self, *_):
        self.leave()
        self.wanted = False
        self.runner.join()
        self.turns.join()


def measure(options, kit):
    """By program and engine: the time of each run, and of guests the VMM's part."""
    processor = max(os.sched_getaffinity(0))
    times = {program.name: {} for program in options.programs}
    guests = {}
    try:
        for policy in options.policies:
            guests[policy] = direct_compare.start(options, kit, policy)
            if not options.elapsed:
                pid = guests[policy].process.pid
                for process in [pid, *guest_processes.children(pid)]:
                    pin(process, processor)
        for program in options.programs:
            one = times[program.name]
            with HostLoop(kit, program, processor, options.elapsed) as host:
                for number in range(options.runs):
                    order = list(guests) if number % 2 == 0 else list(reversed(guests))
                    for policy in order:
                        before = processor_time(guests[policy])
                        turns = host.guests_turns.seconds()
                        host.enter(guests[policy])
                        direct_compare.run_in_guest(guests[policy], program)
                        turns = host.guests_turns.seconds() - turns  # Its last turn goes on.
                        host.leave()
                        after = processor_time(guests[policy])
                        vmm, containers = (end - begin for begin, end in zip(before, after))
                        whole = turns if options.elapsed else vmm + containers
                        one.setdefault(policy, []).append({"whole": whole, "vmm": vmm})
            if host.failure:
                raise BenchError(f"{program.name} on the host {host.failure}")
            one[direct_compare.HOST] = [
                {"whole": seconds}
                for seconds in (host.elapsed if options.elapsed else host.seconds)]
            print(f"{program.name} is done", file=sys.stderr, flush=True)
        for running in guests.values():
            direct_compare.power_off(running)
    except machine.MachineError as error:
        said = "\n".join(running.description() for running in guests.values())
        raise BenchError(f"{error}\n{said}") from error
    finally:
        for running in guests.values():
            running.stop()
    return times


def spread(runs):
    """By how much the middle half of the runs differs."""
    if len(runs) < 2:
        return 0.0
    quarters = statistics.quantiles([run["whole"] for run in runs], n=4, method="inclusive")
    return quarters[2] / quarters[0] - 1


def median(runs, part="whole"):
    return statistics.median(run[part] for run in runs)


def summary(times, policy):
    speed = {name: median(one[direct_compare.HOST]) / median(one[policy])
             for name, one in times.items()}
    return {"speed": speed, "mean": benchlib.geometric_mean(speed.values())}


def print_table(times, summaries):
    print(f"{'of the host speed':16}{'host s':>9}{'runs':>6}{'spread':>8}"
          + "".join(f"{policy:>12}{'spread':>8}{'VMM':>7}" for policy in summaries))
    for name, one in times.items():
        host = one[direct_compare.HOST]
        line = f"{name:17}{median(host):8.3f}{len(host):6}{spread(host):8.1%}"
        for policy, values in summaries.items():
            part = median(one[policy], "vmm") / median(one[policy])
            line += f"{values['speed'][name]:12.3f}{spread(one[policy]):8.1%}{part:7.1%}"
        print(line)
    print(f"{'geometric mean':40}"
          + "".join(f"{values['mean']:12.3f}{'':15}" for values in summaries.values()))


def judge(summaries):
    verdicts = []
    for policy in [name for name in summaries if name != "never"]:
        values = summaries[policy]
        worst = min(values["speed"], key=values["speed"].get)
        for what, value, target in [
                ("geometric mean", values["mean"], direct_compare.TARGET_MEAN),
                (f"worst ({worst})", values["speed"][worst], direct_compare.TARGET_WORST)]:
            verdicts.append((f"{policy}: {what} {value:.3f} of the host's speed, target {target}",
                             value >= target))
    return verdicts


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        times = measure(options, direct_compare.Kit(options, pathlib.Path(name)))
    summaries = {policy: summary(times, policy) for policy in options.policies}
    verdicts = judge(summaries)
    if options.json != "-":
        print_table(times, summaries)
        benchlib.print_verdicts(verdicts)
    benchlib.write_json(options.json, {
        "host": benchlib.host_description(), "elapsed": options.elapsed, "times": times,
        "summaries": summaries,
        "targets": [{"what": what, "met": met} for what, met in verdicts]})
    return int(options.require_targets and not all(met for _, met in verdicts))


if __name__ == "__main__":
    benchlib.main_guard(main)
