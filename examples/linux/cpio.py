"""Writes cpio archives in the "newc" format that Linux takes as an initramfs.

Everything belongs to root and has the time 0, and entries come in the order of their names, so the
same content always gives the same bytes. Device nodes need no privilege: they are only bytes here.
"""

import gzip
import io
import os
import stat

TRAILER = "TRAILER!!!"


class Archive:
    def __init__(self):
        self.entries = {}  # name -> (mode, device numbers, content)

    def add_folder(self, name, mode=0o755):
        """With the folders above it; one that is there keeps its mode."""
        name = name.strip("/")
        if not name or name in self.entries:
            return
        self.add_folder(os.path.dirname(name))
        self.entries[name] = (stat.S_IFDIR | mode, (0, 0), b"")

    def add_file(self, name, content, mode=0o644):
        self._add(name, stat.S_IFREG | mode, content=content)

    def add_link(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, content=os.fsencode(target))

    def add_character_device(self, name, major, minor, mode=0o600):
        self._add(name, stat.S_IFCHR | mode, device=(major, minor))

    def add_path(self, name, path):
        """A file, a symbolic link or a folder of the host with all that is in it."""
        if os.path.islink(path):
            self.add_link(name, os.readlink(path))
        elif os.path.isdir(path):
            self.add_folder(name)
            for entry in sorted(os.listdir(path)):
                self.add_path(os.path.join(name, entry), os.path.join(path, entry))
        else:
            with open(path, "rb") as file:
                self.add_file(name, file.read(), 0o755 if os.access(path, os.X_OK) else 0o644)

    def bytes(self):
        out = io.BytesIO()
        for number, name in enumerate(sorted(self.entries), start=1):
            mode, device, content = self.entries[name]
            _write_entry(out, number, name, mode, device, content)
        _write_entry(out, 0, TRAILER, 0, (0, 0), b"")
        out.write(b"\0" * (-out.tell() % 512))
        return out.getvalue()

    def compressed(self):
        return gzip.compress(self.bytes(), compresslevel=6, mtime=0)

    def _add(self, name, mode, device=(0, 0), content=b""):
        name = name.strip("/")
        self.add_folder(os.path.dirname(name))
        self.entries[name] = (mode, device, content)


def _write_entry(out, number, name, mode, device, content):
    encoded = os.fsencode(name) + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
    out.write(b"\0" * (-out.tell() % 4))
    out.write(content)
    out.write(b"\0" * (-out.tell() % 4))
