#!/usr/bin/env python3
"""Makes an initramfs that boots to a busybox shell on the console.

    initramfs.py --busybox FILE --output FILE [--add NAME=PATH...] [--program PATH --from TREE...]

--add puts a file or a tree of the host at NAME. --program takes a program out of an unpacked tree of
Debian packages (--from), together with the libraries that it needs. A kernel command line with
trapline.run=NAME,NAME runs /loads/NAME, and so on, in the place of the shell and powers off.
"""

import argparse
import os
import pathlib
import sys

sys.dont_write_bytecode = True

import cpio
import elf

HERE = pathlib.Path(__file__).resolve().parent
FOLDERS = ("bin", "dev", "etc", "loads", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin",
           "var")
LIBRARY_FOLDERS = ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu", "lib", "usr/lib")


class InitramfsError(Exception):
    """The text is a sentence for the user."""


def base(busybox):
    """An archive with all that a boot to the shell needs."""
    archive = cpio.Archive()
    for folder in FOLDERS:
        archive.add_folder(folder)
    archive.add_character_device("dev/console", 5, 1)
    archive.add_path("bin/busybox", busybox)
    archive.add_link("bin/sh", "busybox")
    archive.add_path("", HERE / "root")
    return archive


def add_program(archive, tree, name):
    """Program `name` (as a path inside the tree), and what it needs to start."""
    path = pathlib.Path(tree) / name
    if not path.exists():
        raise InitramfsError(f"{tree} holds no {name}")
    archive.add_file(name, path.read_bytes(), 0o755)
    add_libraries(archive, tree, path.read_bytes())


def add_libraries(archive, tree, content):
    """What a program (or a library that it loads by name) with this content needs to start."""
    interpreter, libraries = elf.needs(content)
    wanted = [find_library(tree, library) for library in libraries]
    if interpreter:
        wanted.append((interpreter.strip("/"), find_library(tree, interpreter)[1]))
    for name, path in wanted:
        if name not in archive.entries:
            archive.add_file(name, path.read_bytes(), 0o755)
            add_libraries(archive, tree, path.read_bytes())


def find_library(tree, library):
    """(its path in the guest, the file on the host), with symbolic links resolved in the tree."""
    for folder in LIBRARY_FOLDERS:
        name = os.path.join(folder, os.path.basename(library))
        path = resolve(pathlib.Path(tree), name)
        if path:
            return name, path
    raise InitramfsError(f"{tree} holds no {library}")


def resolve(tree, name):
    path = tree / name
    for _ in range(10):
        if not path.is_symlink():
            return path if path.exists() else None
        target = os.readlink(path)
        path = tree / target.lstrip("/") if target.startswith("/") else path.parent / target
    return None


def write(archive, path):
    pathlib.Path(path).write_bytes(archive.compressed())


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busybox", required=True, metavar="FILE", help="a static busybox")
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument("--add", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--program", action="append", default=[], metavar="PATH")
    parser.add_argument("--from", dest="tree", metavar="TREE")
    options = parser.parse_args()
    if options.program and not options.tree:
        parser.error("--program needs --from")
    return options


def main():
    options = parse_arguments()
    try:
        archive = base(options.busybox)
        for addition in options.add:
            name, separator, path = addition.partition("=")
            if not separator:
                raise InitramfsError(f"--add wants NAME=PATH, not {addition}")
            archive.add_path(name, path)
        for program in options.program:
            add_program(archive, options.tree, program)
        write(archive, options.output)
    except (InitramfsError, OSError) as error:
        print(f"initramfs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
