"""How an attribute is written, by chance: whichever of the forms that its unit's version allows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Optional

from dwarftables import Ranges
from dwarfwriter import Attribute, Die, DwarfFile, Unit


class Forms:
    """The forms of one unit. `low_pc` is the root's: what ranges are relative to. Every tool knows the usual."""

    def __init__(
        self, rng: random.Random, unit: Unit, low_pc: Optional[int], alternate: Optional[DwarfFile], usual: bool
    ) -> None:
        self._rng, self._unit, self._alternate, self._usual = rng, unit, alternate, usual
        self._low_pc = low_pc
        self._split = unit.skeleton is not None
        self._version = unit.version

    def constant(self, name: str, value: int) -> Attribute:
        """A number that is not negative."""
        fitting = [f"data{size}" for size in (1, 2, 4, 8) if value < 1 << 8 * size - 1]
        forms = [*fitting, "udata", *(["sdata"] if not self._usual else [])]
        if self._version >= 5 and not self._usual:
            forms.append("implicit_const")
        return self._perhaps_indirect((name, self._rng.choice(forms), value))

    def name(self, text: str) -> Attribute:
        """A unit's name."""
        return self.text("name", text)

    def text(self, name: str, text: str) -> Attribute:
        """A string, in whatever way there is."""
        forms = ["string"]
        if not self._split:
            forms.append("strp")
        if self._usual:
            pass
        elif self._version >= 5:
            forms += ["strx", "strx1", "strx2", "strx3", "strx4", *(["line_strp"] if not self._split else [])]
        elif self._split:
            forms.append("GNU_str_index")
        if self._alternate is not None:
            forms.append("strp_sup" if self._version >= 5 else "GNU_strp_alt")
        return self._perhaps_indirect((name, self._rng.choice(forms), text))

    def reference(self) -> str:
        """The form of a reference inside of the unit."""
        return self._rng.choice(
            ("ref2", "ref4", "ref4", "ref8", "ref_udata", *(["ref_addr"] if not self._split else []))
        )

    def address(self, name: str, value: int) -> Attribute:
        """An address."""
        return self._perhaps_indirect((name, self._address_form(), value))

    def _address_form(self) -> str:
        if self._version >= 5 and not self._usual:
            forms = ["addrx", "addrx1", "addrx2", "addrx3", "addrx4"]
            return self._rng.choice(forms if self._split else [*forms, "addr"])
        return "GNU_addr_index" if self._split else "addr"

    def _perhaps_indirect(self, attribute: Attribute) -> Attribute:
        name, form, value = attribute
        if form == "implicit_const" or self._usual or self._rng.random() > 0.05:
            return attribute
        return name, "indirect", (form, value)

    # ---- places --------------------------------------------------------------------------------------

    def place(self, intervals: Sequence[tuple[int, int]], *, root: bool = False) -> list[Attribute]:
        """The attributes that say which addresses an entry covers. A root's low_pc is kept as it is."""
        (low, high), *more = intervals
        if more or self._rng.random() < 0.2 or (root and self._low_pc != low):
            return [("ranges", self._ranges_form(), Ranges(self._entries(intervals)))]
        low_pc = self.address("low_pc", low)
        if self._version >= 4 and self._rng.random() < 0.7:
            return [low_pc, self.constant("high_pc", high - low)]
        return [low_pc, self.address("high_pc", high)]

    def _ranges_form(self) -> str:
        if self._version >= 5:
            return "rnglistx" if self._split else self._rng.choice(("rnglistx", "sec_offset"))
        return "sec_offset" if self._version == 4 else f"data{self._unit.offset_size}"

    def _entries(self, intervals: Sequence[tuple[int, int]]) -> list[tuple]:
        entries: list[tuple] = []
        base = self._low_pc or 0
        for low, high in intervals:
            if self._version < 5:
                if low < base or self._rng.random() < 0.3:
                    base = self._rng.choice((0, low, max(0, low - 9)))
                    entries.append(("base", base))
                entries.append(("pair", low - base, high - base))
                continue
            kind = self._rng.choice(("offset_pair", "startx_endx", "startx_length", "start_end", "start_length"))
            if kind == "offset_pair":
                if low < base or self._rng.random() < 0.3:
                    base = self._rng.choice((0, low, max(0, low - 9)))
                    entries.append((self._rng.choice(("base_address", "base_addressx")), base))
                entries.append((kind, low - base, high - base))
            else:
                entries.append((kind, low, high if kind.endswith(("_endx", "_end")) else high - low))
        if self._rng.random() < 0.1:  # nothing: not the end marker
            entries.append(("pair", 8, 8) if self._version < 5 else ("start_length", 8, 0))
        return entries

    def bases(self, version: int, *, is_skeleton: bool) -> list[Attribute]:
        """The attributes of a root that say where its tables begin."""
        unit = self._unit
        if version >= 5:
            strings = [("str_offsets_base", "sec_offset", lambda: unit.strings.base)] if not self._usual else []
            return [
                *strings,
                ("addr_base", "sec_offset", lambda: unit.addresses.base),
                ("rnglists_base", "sec_offset", lambda: unit.ranges.base),
            ]
        if not is_skeleton:
            return []
        return [
            ("GNU_addr_base", "sec_offset", lambda: unit.addresses.base),
            ("GNU_ranges_base", "sec_offset", lambda: unit.ranges.base),
        ]

    # ---- what is passed over -------------------------------------------------------------------------

    def junk(self, parent: Die) -> None:
        """Add entries without meaning, of all forms that must be passed over."""
        rng = self._rng
        for _ in range(rng.randint(0, 3)):
            values: list[tuple[str, Any]] = [
                ("block1", rng.randbytes(rng.randrange(9))), ("block2", rng.randbytes(3)), ("block4", rng.randbytes(2)),
                ("block", rng.randbytes(rng.randrange(200))), ("flag", 1), ("sdata", -rng.randrange(1 << 20)),
                ("udata", rng.getrandbits(60)), ("string", "v" * rng.randrange(200)), ("data8", rng.getrandbits(64)),
            ]  # fmt: skip
            if self._version >= 4:
                values += [("exprloc", rng.randbytes(5)), ("flag_present", 1), ("ref_sig8", 5)]
            if self._version >= 5:
                values += [("data16", rng.randbytes(16)), ("loclistx", 300), ("implicit_const", -3)]
            chosen = rng.sample(values, rng.randrange(1, 5))
            names = rng.sample(
                ("location", "const_value", "decl_line", "upper_bound", "byte_size", "encoding"), len(chosen)
            )
            die = Die(rng.choice(("variable", "formal_parameter", "base_type", "array_type")))
            die.attributes = [(name, form, value) for name, (form, value) in zip(names, chosen)]
            if rng.random() < 0.3:
                die.children.append(Die("subrange_type"))
            parent.children.insert(rng.randint(0, len(parent.children)), die)
