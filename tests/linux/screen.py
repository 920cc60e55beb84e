"""A terminal's screen, as a program at the other end of a serial line sees it: as much of a VT100 as
full-screen programs of small systems use."""

import re

SEQUENCE = re.compile(rb"\x1b(?:\[([0-9;?]*)([@-~])|([78=>DM])|[()]([0-9A-Z]))")
INCOMPLETE = re.compile(rb"\x1b(?:\[[0-9;?]*|[()])?\Z")


class Screen:
    """feed() takes what arrives and returns what a terminal would answer. lines() is what is seen."""

    def __init__(self, rows=24, columns=80):
        self.rows, self.columns = rows, columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.saved = (0, 0)
        self.rest = b""
        self.unknown = set()  # Sequences that a VT100 knows and this class does not.

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]

    def text(self):
        return "\n".join(self.lines())

    def feed(self, data):
        data = self.rest + data
        self.rest = b""
        answer = b""
        at = 0
        while at < len(data):
            if data[at] != 0x1b:
                self._character(data[at])
                at += 1
                continue
            found = SEQUENCE.match(data, at)
            if found:
                answer += self._sequence(found)
                at = found.end()
            elif INCOMPLETE.match(data, at):
                self.rest = data[at:]
                break
            else:
                at += 1
        return answer

    def _character(self, code):
        if code == 0x0d:
            self.column = 0
        elif code == 0x0a:
            self._down()
        elif code == 0x08:
            self.column = max(0, min(self.column, self.columns - 1) - 1)
        elif code == 0x09:
            self.column = min((self.column // 8 + 1) * 8, self.columns - 1)
        elif code >= 0x20:
            if self.column >= self.columns:  # The last column holds the cursor until more comes.
                self.column = 0
                self._down()
            self.cells[self.row][self.column] = chr(code)
            self.column += 1

    def _down(self):
        if self.row < self.rows - 1:
            self.row += 1
        else:
            self.cells = self.cells[1:] + [[" "] * self.columns]

    def _up(self):
        if self.row > 0:
            self.row -= 1
        else:
            self.cells = [[" "] * self.columns] + self.cells[:-1]

    def _sequence(self, found):
        final = (found[2] or found[3] or b"(").decode()
        text = found[1] or b""
        numbers = [int(number or 0) for number in text.lstrip(b"?").split(b";")]
        first = max(numbers[0], 1)
        if final in "Hf":
            self.row = min(first, self.rows) - 1
            self.column = min(max(numbers[1] if len(numbers) > 1 else 1, 1), self.columns) - 1
        elif final == "A":
            self.row = max(self.row - first, 0)
        elif final == "B":
            self.row = min(self.row + first, self.rows - 1)
        elif final == "C":
            self.column = min(self.column + first, self.columns - 1)
        elif final == "D" and found[2]:
            self.column = max(self.column - first, 0)
        elif final == "D":
            self._down()
        elif final == "M" and not found[2]:
            self._up()
        elif final == "J":
            self._erase_screen(numbers[0])
        elif final == "K":
            self._erase_line(self.row, numbers[0])
        elif final == "7":
            self.saved = (self.row, self.column)
        elif final == "8":
            self.row, self.column = self.saved
        elif final == "n" and numbers[0] == 6:
            return b"\x1b[%d;%dR" % (self.row + 1, min(self.column, self.columns - 1) + 1)
        elif final not in "mhl=>(":
            self.unknown.add(final)
        return b""

    def _erase_line(self, row, part):
        """Part 0 is from the cursor on, 1 up to it, 2 all."""
        first = 0 if part else self.column
        last = self.column if part == 1 else self.columns - 1
        for column in range(first, min(last + 1, self.columns)):
            self.cells[row][column] = " "

    def _erase_screen(self, part):
        self._erase_line(self.row, part)
        rows = {0: range(self.row + 1, self.rows), 1: range(self.row)}.get(part, range(self.rows))
        for row in rows:
            self._erase_line(row, 2)
