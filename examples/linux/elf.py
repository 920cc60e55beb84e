"""What a 32-bit ELF program needs at run time: its interpreter and its libraries, by name."""

import struct

PT_DYNAMIC, PT_INTERP, PT_LOAD = 2, 3, 1
DT_NEEDED, DT_STRTAB = 1, 5


def needs(content):
    """(interpreter or None, [library names]); nothing for what is no such program."""
    if content[:5] != b"\x7fELF\x01":
        return None, []
    offset, size, count = _header_table(content)
    segments = [struct.unpack_from("<8I", content, offset + index * size)
                for index in range(count)]
    interpreter = None
    libraries = []
    for kind, start, _, _, length, *_ in segments:
        if kind == PT_INTERP:
            interpreter = content[start:start + length].rstrip(b"\0").decode()
        elif kind == PT_DYNAMIC:
            libraries = _needed(content, segments, start, length)
    return interpreter, libraries


def _header_table(content):
    offset, = struct.unpack_from("<I", content, 28)
    size, count = struct.unpack_from("<HH", content, 42)
    return offset, size, count


def _needed(content, segments, start, length):
    tags = list(struct.iter_unpack("<2I", content[start:start + length]))
    names = next(_file_offset(segments, value) for tag, value in tags if tag == DT_STRTAB)
    return [content[names + value:content.index(b"\0", names + value)].decode()
            for tag, value in tags if tag == DT_NEEDED]


def _file_offset(segments, address):
    return next(address - virtual + start
                for kind, start, virtual, _, length, *_ in segments
                if kind == PT_LOAD and virtual <= address < virtual + length)
