"""Programs made by chance whose every answer is known: units, functions, inlined calls and lines in random forms.

What is true is kept apart from how it is written: `Truth` knows intervals and rows, never an offset or a form.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

from dwarfwriter import NEXT, Die, DwarfFile, Unit
from elfwriter import write_elf
from randomforms import Forms
from randomlines import LinePlan, random_lines

Interval = tuple  # low, high
Answer = list  # of (function, file, line, discriminator), innermost first
BASE = 0x1000
CALL_LINES = 5000


@dataclass(eq=False)
class Scope:
    """A function, or a call inlined into another scope."""

    name: Optional[str]
    outer: Optional[Scope] = None
    call: tuple[int, int, int, int] = (0, 0, 0, 0)  # file, line, column, discriminator


@dataclass
class Truth:
    """What a program's debug information says of each address."""

    lines: dict[int, LinePlan] = field(default_factory=dict)  # by address: that of the unit
    scopes: dict[int, Scope] = field(default_factory=dict)

    def answer(self, address: int) -> Answer:
        """Return the frames of an address; none where no line is known."""
        plan = self.lines.get(address)
        if plan is None:
            return []
        file, line, discriminator = plan.row(address)
        frames, scope = [], self.scopes.get(address)
        while scope is not None:
            frames.append((scope.name, file, line, discriminator))
            number, line, _, discriminator = scope.call
            file, line = plan.path(number), line or None
            scope = scope.outer
        frames = frames or [(None, file, line, discriminator)]
        return frames if any(line for _, _, line, _ in frames) else []


@dataclass
class Written:
    """A program: its file, and those beside it, by their names."""

    elf: bytes
    beside: dict[str, bytes]
    truth: Truth
    addresses: range


class _Unit:
    """One unit while it is made."""

    def __init__(self, rng: random.Random, number: int, blocks: Sequence[Interval], usual: bool) -> None:
        self.rng, self.number, self.blocks, self.usual = rng, number, blocks, usual
        self.version = rng.choice((2, 3, 4, 4, 5, 5, 5))
        self.is_split = self.version >= 4 and rng.random() < 0.25 and not usual
        self.offset_size = 8 if self.version >= 3 and rng.random() < 0.2 and not usual else 4
        self.address_size = 4 if rng.random() < 0.15 and not usual else 8
        self.root = Die("compile_unit")
        self.low_pc = rng.choice((None, min(low for low, _ in blocks)))
        self.lines = random_lines(rng, self.version, self.offset_size, self.address_size, blocks, usual)
        self.skeleton: Optional[Unit] = None
        self.origins: list[tuple[Die, Optional[str]]] = []  # abstract instances
        self.says_siblings = rng.choice(("no", "first", "last"))

    def make(self, alternate: Optional[DwarfFile]) -> None:
        """Make the unit, and its skeleton."""
        what = {"offset_size": self.offset_size, "address_size": self.address_size, "id": self.rng.getrandbits(64)}
        if self.is_split:
            self.skeleton = Unit(
                self.version, Die("skeleton_unit" if self.version >= 5 else "compile_unit"), type="skeleton", **what
            )
        kind = "split_compile" if self.is_split else "compile"
        self.unit = Unit(self.version, self.root, type=kind, skeleton=self.skeleton, **what)
        self.forms = Forms(self.rng, self.unit, self.low_pc, alternate if not self.is_split else None, self.usual)
        self.root.attributes.append(self.forms.name(f"unit{self.number}.c"))


class RandomProgram:
    """Makes a program from a seed; `file` is its debug information. A usual one has what every tool knows."""

    file: DwarfFile

    def __init__(self, seed: int, *, usual: bool = False) -> None:
        self.rng, self.usual = random.Random(seed), usual
        self.truth = Truth()
        self._names = 0

    def make(self) -> Written:
        """Return the program."""
        rng = self.rng
        blocks, end = self._blocks()
        units = [_Unit(rng, number, mine, self.usual) for number, mine in enumerate(blocks) if mine]
        alternate = self._alternate() if rng.random() < 0.3 and not self.usual else None
        for unit in units:
            unit.make(alternate)
            self._shared_origins(unit, alternate)
        for unit in units:
            self._fill(
                unit, [origin for other in units if not (other.is_split or unit.is_split) for origin in other.origins]
            )
        splits = {
            f"unit{unit.number}.dwo": DwarfFile([unit.unit], dwo=True, **self._table())
            for unit in units
            if unit.is_split
        }
        main = [unit.skeleton or unit.unit for unit in units]
        for unit in units:
            self._finish_root(unit)
        self._disturb(main)
        self.file = file = DwarfFile(main, splits=list(splits.values()), alternate=alternate, **self._table())
        return self._as_files(file, splits, alternate, range(BASE - 3, end + 3))

    def _table(self) -> dict[str, object]:
        if self.usual:
            return {}
        return {"abbrev_step": self.rng.choice((1, 1, 3)), "one_abbrev_table": self.rng.random() < 0.3}

    def _as_files(
        self, file: DwarfFile, splits: dict[str, DwarfFile], alternate: Optional[DwarfFile], addresses: range
    ) -> Written:
        file.lay_out()
        beside = {name: write_elf(type="rel", sections=split.sections()) for name, split in splits.items()}
        sections = file.sections()
        if alternate is not None:
            beside["shared.debug"] = write_elf(type="rel", sections=alternate.sections(), build_id=b"\x07" * 20)
            sections[".gnu_debugaltlink"] = b"shared.debug\0" + b"\x07" * 20
        return Written(write_elf(sections=sections, text_address=BASE), beside, self.truth, addresses)

    # ---- where code is -------------------------------------------------------------------------------

    def _blocks(self) -> tuple[list[list[Interval]], int]:
        """Cut the code into pieces, each a unit's or nobody's."""
        units: list[list[Interval]] = [[] for _ in range(self.rng.randint(1, 4))]
        at = BASE
        for _ in range(self.rng.randint(1, 14)):
            length = self.rng.randint(1, 40)
            if self.rng.random() < 0.85:
                self.rng.choice(units).append((at, at + length))
            at += length
        if not any(units):
            units[0].append((at, at + 9))
            at += 9
        return units, at

    def _pieces(self, within: Sequence[Interval], most: int) -> list[Interval]:
        """Choose intervals inside of others."""
        out = []
        for low, high in self.rng.sample(list(within), self.rng.randint(1, min(most, len(within)))):
            first = self.rng.randint(low, high - 1)
            out.append((first, self.rng.randint(first + 1, high)) if self.rng.random() < 0.7 else (low, high))
        return out

    # ---- names ---------------------------------------------------------------------------------------

    def _new_name(self) -> str:
        self._names += 1
        return f"f{self._names}" + "x" * self.rng.choice((0, 0, 3, 300))

    def _named(self, unit: _Unit, die: Die) -> Optional[str]:
        """Give an entry a name, a linkage name, both or none; return what a frame is to show."""
        kind = self.rng.choice(("name", "name", "both", "both", "linkage", "none"))
        plain = linkage = None
        if kind in ("name", "both"):
            plain = self._new_name()
            die.attributes.append(unit.forms.text("name", plain))
        if kind in ("linkage", "both"):
            linkage = "_Z" + self._new_name()
            attribute = "linkage_name" if unit.version >= 4 else "MIPS_linkage_name"
            die.attributes.append(unit.forms.text(attribute, linkage))
        return linkage or plain

    def _declared(self, unit: _Unit, die: Die) -> Optional[str]:
        """Name an entry by itself, or by a declaration in a class that it refers to."""
        if self.rng.random() < 0.5:
            return self._named(unit, die)
        declaration = Die("subprogram", [("declaration", "flag", 1)])
        name = self._named(unit, declaration)
        home = Die(self.rng.choice(("class_type", "structure_type", "namespace")), children=[declaration])
        unit.root.children.append(home)
        die.attributes.append(("specification", unit.forms.reference(), declaration))
        return name

    def _shared_origins(self, unit: _Unit, alternate: Optional[DwarfFile]) -> None:
        for _ in range(self.rng.randint(1, 3)):
            die = Die("subprogram", [("inline", "data1", 1)])
            name = self._declared(unit, die)
            unit.root.children.append(die)
            unit.origins.append((die, name))
        if alternate is not None and not unit.is_split:
            form = "ref_sup4" if unit.version >= 5 and self.rng.random() < 0.5 else "GNU_ref_alt"
            for die, name in self._alternate_origins:
                link = Die("subprogram", [("abstract_origin", form, die)])
                unit.root.children.append(link)
                unit.origins.append((link, name))

    def _alternate(self) -> DwarfFile:
        root = Die("partial_unit")
        self._alternate_origins = []
        for _ in range(2):
            name = self._new_name()
            root.children.append(Die("subprogram", [("name", "strp", name)]))
            self._alternate_origins.append((root.children[-1], name))
        return DwarfFile([Unit(4, root)])

    # ---- functions -----------------------------------------------------------------------------------

    def _fill(self, unit: _Unit, foreign: Sequence[tuple[Die, Optional[str]]]) -> None:
        left = list(unit.blocks)
        for low, high in unit.blocks:
            for address in range(low, high):
                self.truth.lines[address] = unit.lines
        while left and self.rng.random() < 0.9:
            count = self.rng.choice((1, 1, 1, 2, 3))
            mine, left = left[:count], left[count:]
            if self.rng.random() < 0.3:
                mine = sorted(self._pieces(mine, 3))
            self._function(unit, mine, foreign)
        if self.rng.random() < 0.3:
            unit.root.children.append(Die("subprogram", unit.forms.place([(BASE + 5, BASE + 5)])))
        unit.forms.junk(unit.root)
        for die in unit.root.all():
            if die.children and die is not unit.root and unit.says_siblings != "no" and self.rng.random() < 0.9:
                at = 0 if unit.says_siblings == "first" else len(die.attributes)
                die.attributes.insert(
                    at, ("sibling", "ref4" if unit.says_siblings == "last" else unit.forms.reference(), NEXT)
                )

    def _function(self, unit: _Unit, mine: list[Interval], foreign: Sequence[tuple[Die, Optional[str]]]) -> None:
        die = Die("subprogram", unit.forms.place(mine))
        if self.rng.random() < 0.4:
            origin, name = self.rng.choice(unit.origins)
            die.attributes.append(("abstract_origin", unit.forms.reference(), origin))
        else:
            name = self._declared(unit, die)
        self.rng.shuffle(die.attributes)
        scope = Scope(name)
        self._paint(mine, scope)
        self._calls(unit, die, mine, scope, foreign, 0)
        unit.forms.junk(die)
        home = unit.root
        while self.rng.random() < 0.3 and not self.usual:
            kind = self.rng.choice(
                ("namespace", "class_type", "structure_type", "union_type", "module", "lexical_block")
            )
            home.children.append(Die(kind))
            home = home.children[-1]
        home.children.insert(self.rng.randint(0, len(home.children)), die)

    def _calls(
        self, unit: _Unit, parent: Die, within: list[Interval], outer: Scope, foreign: Sequence[tuple], depth: int
    ) -> None:
        left = list(within)
        while left and self.rng.random() < 0.8 ** (depth + 1):
            count = self.rng.choice((1, 1, 2))
            part, left = left[:count], left[count:]
            mine = self._pieces(part, 2)
            left += [rest for piece in part for rest in _without(piece, mine)]
            if self.rng.random() < 0.2:
                block = Die("lexical_block", unit.forms.place(mine) if self.rng.random() < 0.5 else [])
                parent.children.append(block)
                self._calls(unit, block, mine, outer, foreign, depth + 1)
                continue
            die = Die("inlined_subroutine", unit.forms.place(mine))
            scope = self._call(unit, die, outer, foreign)
            self.rng.shuffle(die.attributes)
            self._paint(mine, scope)
            parent.children.append(die)
            self._calls(unit, die, mine, scope, foreign, depth + 1)

    def _call(self, unit: _Unit, die: Die, outer: Scope, foreign: Sequence[tuple]) -> Scope:
        origin, name = self.rng.choice(unit.origins)
        form = unit.forms.reference()
        if foreign and self.rng.random() < 0.3:
            origin, name = self.rng.choice(foreign)
            form = "ref_addr"
        die.attributes.append(("abstract_origin", form, origin))
        call = [
            self.rng.choice(range(int(self.usual and unit.version < 5), len(unit.lines.files) + 2 * (not self.usual))),
            self.rng.choice((0, self.rng.randint(1, CALL_LINES))),
            7,
            0,
        ]
        if self.rng.random() < 0.3:
            call[3] = self.rng.randint(1, 99)
            die.attributes.append(unit.forms.constant("GNU_discriminator", call[3]))
        for attribute, value in zip(("call_file", "call_line", "call_column"), call):
            die.attributes.append(unit.forms.constant(attribute, value))
        return Scope(name, outer, tuple(call))

    def _paint(self, intervals: Sequence[Interval], scope: Scope) -> None:
        for low, high in intervals:
            for address in range(low, high):
                self.truth.scopes[address] = scope

    # ---- first entries -------------------------------------------------------------------------------

    def _finish_root(self, unit: _Unit) -> None:
        root = unit.skeleton.root if unit.skeleton else unit.root
        holder = unit.skeleton or unit.unit
        forms = Forms(self.rng, holder, unit.low_pc, None, self.usual)
        place = forms.place(list(unit.blocks), root=True)
        if unit.low_pc is not None and not any(name == "low_pc" for name, _, _ in place):
            place.append(("low_pc", "addr", unit.low_pc))
        says_where = self.rng.random() < 0.8 or self.usual
        if not says_where:
            holder.aranges = [(low, high - low) for low, high in unit.blocks]
            place = [("low_pc", "addr", unit.low_pc)] if unit.low_pc is not None else []
        elif self.rng.random() < 0.5:
            holder.aranges = [(low, high - low) for low, high in unit.blocks]
        attributes = [
            *place,
            ("stmt_list", "sec_offset" if unit.version >= 4 else f"data{unit.offset_size}", unit.lines.program),
        ]
        if unit.lines.comp_dir is not None:
            attributes.append(forms.text("comp_dir", unit.lines.comp_dir))
        if unit.skeleton:
            name, at = ("dwo_name", "strp") if unit.version >= 5 else ("GNU_dwo_name", "strp")
            attributes.append((name, at, f"unit{unit.number}.dwo"))
            if unit.version < 5:
                attributes.append(("GNU_dwo_id", "data8", unit.skeleton.id))
                unit.root.attributes.append(("GNU_dwo_id", "data8", unit.skeleton.id))
        root.attributes += attributes
        root.attributes += forms.bases(unit.version, is_skeleton=unit.skeleton is not None)
        self.rng.shuffle(root.attributes)

    def _disturb(self, units: list[Unit]) -> None:
        """Put between the units some that nobody can read."""
        if self.rng.random() < 0.3 and not self.usual:
            strange = Unit(
                4, Die("compile_unit", [("name", "string", "strange")]), header_version=self.rng.choice((0, 1, 6, 99))
            )
            units.insert(self.rng.randint(0, len(units)), strange)


def _without(whole: Interval, taken: Sequence[Interval]) -> Iterator[Interval]:
    """Yield what is left of an interval."""
    at = whole[0]
    for low, high in sorted(taken):
        if whole[0] <= low < whole[1]:
            if at < low:
                yield at, low
            at = high
    if at < whole[1]:
        yield at, whole[1]
