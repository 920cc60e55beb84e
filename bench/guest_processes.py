"""The processes of a guest: the VMM's, and the containers in which its native code runs."""

import os
import pathlib
import signal


def threads(pid):
    return [int(path.name) for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]


def children(pid):
    found = []
    for thread in threads(pid):
        text = pathlib.Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
        found += [int(word) for word in text.split()]
    return found


def seconds_of(pid):
    """Of a process's threads; 0 when it has just ended."""
    try:
        return sum(int(pathlib.Path(f"/proc/{pid}/task/{thread}/schedstat")
                       .read_text(encoding="ascii").split()[0]) for thread in threads(pid)) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def last_processor(pid):
    """That its first thread runs on, or ran on; None when it has just ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        return int(stat.rpartition(")")[2].split()[36])
    except (FileNotFoundError, ProcessLookupError):
        return None


class Processes:
    """A guest's: the VMM's, and its containers. They are known before they are stopped or go on, so
    that neither takes long."""

    def __init__(self, running):
        self.vmm = running.process.pid
        self.used = {}  # Seconds of each container.
        self.busiest = None

    def find(self):
        """Whether there are others than before."""
        try:
            used = {child: seconds_of(child) for child in children(self.vmm)}
        except (FileNotFoundError, ProcessLookupError):
            used = {}  # The VMM ended just now, which others notice.
        ran = {child: seconds - self.used.get(child, 0.0) for child, seconds in used.items()}
        if any(ran.values()):
            self.busiest = max(ran, key=ran.get)
        others = not self.used.keys() >= used.keys()
        self.used = used
        return others

    def signal(self, number):
        """The VMM first, so that it starts no container in between."""
        for pid in [self.vmm, *self.used]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # A container ended just now.

    def stop(self):
        self.signal(signal.SIGSTOP)

    def stop_others(self):
        """Containers that have been started since the last time."""
        while self.find():
            self.stop()

    def go_on(self):
        self.signal(signal.SIGCONT)

    def processor(self):
        """Native code's, as a rule; None where it is not known."""
        return self.busiest and last_processor(self.busiest)
