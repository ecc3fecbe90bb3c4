"""Each C test fails for the fault it is there to find: one changed expression in one core file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import nativebuild
from nativemutant import mutated


class Mutant(NamedTuple):
    """In *module*, *old* becomes *new*; the C test that must then fail, and what to compile and call it with."""

    module: str
    old: str
    new: str
    test: str
    flags: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


# How long the others may take while one thread stands; with --short they need a few milliseconds. They spin meanwhile.
STANDS = {"flags": ("-DDEADLINE_MS=3000",), "arguments": ("--short",)}
STANDS_SAMPLING = {"test": "test_lockfree_tracer", "flags": ("-DDEADLINE_MS=6000",)}


# Of the governor what needs no time.
RULES = {"test": "test_governor", "arguments": ("--rules",)}
GAP = "return min + (uint32_t)((sampler_random() >> 32) * range >> 32);"
MUTANTS = {
    "gap + 1": Mutant("sampler", GAP, GAP.replace("return min", "return 1 + min"), "test_sampler"),
    "first gap + 1": Mutant(
        "sampler",
        "return 1 + (uint32_t)(draw / (2 * range));",
        "return 2 + (uint32_t)(draw / (2 * range));",
        "test_sampler",
    ),
    "first gap as any other": Mutant(
        "sampler",
        "sampler_equilibrium_gap(law_min(law), law_max(law), sampler_random());",
        "next_gap(law);",
        "test_sampler",
    ),
    "knobs noticed at a sample": Mutant("sampler", "if (self->calls_mod_64 == 0 &&", "if (hit &&", "test_sampler"),
    "a count sample restarts the bytes": Mutant(
        "sampler",
        "self->gap_left = (uint16_t)next_gap(law);",
        "self->gap_left = (uint16_t)next_gap(law), load_bytes(self, new_byte_countdown(self));",
        "test_sampler",
    ),
    "the next law's weight": Mutant(
        "sampler",
        "return ask | (hit ? sampler_weight(law, law_bytes, size) : 0);",
        "return ask | (hit ? sampler_weight(self->law, self->sample_bytes, size) : 0);",
        "test_sampler",
    ),
    "weight without the byte rule": Mutant(
        "sampler", "if (sample_bytes)\n\t\tmiss", "if (0)\n\t\tmiss", "test_sampler"
    ),
    "the borrow is kept": Mutant("sampler", "self->bytes_left += size; // undo", "; // undo", "test_sampler"),
    "the borrow is kept when nested": Mutant(
        "tracer_take", "sampler_skip(size_bytes);", "sampler_self.looks++;", "test_tracer"
    ),
    "widened to off": Mutant(
        "governor", "times(max, factor, GOVERNOR_MAX_INTERVAL)", "times(max, factor, 10000)", **RULES
    ),
    "widened to narrow gaps": Mutant(
        "governor", "max >= 8 * min ? wide_max / 8 :", "max >= 8 * min ? wide_max :", **RULES
    ),
    "widened into another request": Mutant("governor", "return interval >> 32 << 32 |", "return 0 |", **RULES),
    "full is widened": Mutant("governor", " && (uint32_t)law != SAMPLER_FULL; }", "; }", **RULES),
    "the governor narrows at once": Mutant("governor", "if (wanted < factor) {", "if (0) {", **RULES),
    "the governor never rests": Mutant(
        "governor", "return difference * 10 < factor && !is_end ?", "return 0 ?", **RULES
    ),
    "the governor aims at the budget itself": Mutant("governor", "/ 1024 * 10 / 9;", "/ 1024;", **RULES),
    "a request is adopted as it is": Mutant(
        "governor",
        "wide = governor_widen(native, factor),",
        "wide = native,",
        "test_governor",
        arguments=("--requests",),
    ),
    "bit set beside a remover": Mutant(
        "liveset",
        "for (int spins = 0; anyone_clearing(address); spins++)",
        "for (int spins = 0; 0; spins++)",
        "test_liveset",
    ),
    "bit cleared beside a claim": Mutant(
        "liveset", "(!(key & MLF_LIVE_KEY_LIVE) || bitmap", "((key & MLF_LIVE_KEY_LIVE) && bitmap", "test_liveset"
    ),
    "bit cleared though shared": Mutant("liveset", "if (!bit_needed(address, slot))", "if (1)", "test_liveset"),
    "two removers win": Mutant(
        "liveset",
        "!cas_seq_cst(slot, &key, clearing(address))",
        "(store_release(slot, clearing(address)), false)",
        "test_liveset",
    ),
    "slots are never free again": Mutant(
        "liveset", "store_release(slot, SLOT_FREE); // after the clear", "; // after the clear", "test_liveset"
    ),
    "a sample has no other weight": Mutant(
        "liveset",
        "&entry->weight_x1024, weight_x1024);\n\tuint32_t check",
        "&entry->weight_x1024, entry->weight_x1024);\n\tuint32_t check",
        "test_liveset",
    ),
    "always the lighter is merged": Mutant(
        "thinning", "stays = draw_below(both) >= first;", "stays = 1;", "test_thinning", arguments=("--short",)
    ),
    "what is left weighs what it did": Mutant(
        "thinning",
        "*weight = quotient(both, least_size(&sample[stays]));",
        "*weight = sample[stays].weight_x1024;",
        "test_thinning",
        arguments=("--short",),
    ),
    "what is merged is merged without kin": Mutant(
        "liveset",
        "if (unlikely(found && pick[0].kind != pick[1].kind)) {",
        "if (0) {",
        "test_thinning",
        arguments=("--short",),
    ),
    "what is alone of its kind stops all": Mutant(
        "liveset", "found = pick_two(address, &of, pick);", "found = false;", "test_thinning", arguments=("--short",)
    ),
    "a bucket is looked at twice": Mutant(
        "liveset", "1 + (window->keys[0] != window->keys[1])", "2", "test_thinning", arguments=("--short",)
    ),
    "what is tiny fades": Mutant(
        "thinning",
        "bool stays = draw_below(LIVESET_WEIGHT_MAX) < share;",
        "bool stays = draw_below(both) < liveset_value(&sample[i]);",
        "test_thinning",
        arguments=("--short",),
    ),
    "rounded down each time": Mutant(
        "thinning", "+ (draw_below(by) < value % by);", "+ 0 * draw_below(by);", "test_thinning", arguments=("--short",)
    ),
    "what is merged has been freed": Mutant(
        "thinning", "rows_hand_over(recording_at(gone", "rows_remove(recording_at(gone", "test_thinning", arguments=("--short",)
    ),
    "room is made for nothing": Mutant(
        "samples", "cost_ns += (inserted - 1)", "cost_ns += 0 * (inserted - 1)", "test_thinning", arguments=("--short",)
    ),
    "totals grow by what is taken over": Mutant(
        "rows",
        "add_relaxed(&row->moved_bytes, bytes);\n\taccount_held",
        "account_held",
        "test_thinning",
        arguments=("--short",),
    ),
    "an inserter waits for a stopped remover": Mutant(
        "liveset", "if (spins == SPINS_FOR_CLEARING) {", "if (0) {", "test_lockfree", **STANDS
    ),
    "a segment's builder is waited for": Mutant(
        "recording_room",
        "looks < BUILDER_LOOKS; looks++",
        "; looks++",
        "test_lockfree",
        **STANDS,
    ),
    "a module's writer is waited for": Mutant(
        "catalog",
        "\tuint32_t state = load_acquire(&record->state);",
        "\tuint32_t state;\n\twhile ((state = load_acquire(&record->state)) == 1)\n\t\t;",
        **STANDS_SAMPLING,
    ),
    "a number of a thread lost wins": Mutant(
        "catalog",
        "while (!cas_relaxed(&threads_given, &seen, next));",
        "while (exchange_acq_rel(&threads_given, next) && 0);",
        **STANDS_SAMPLING,
    ),
    "who frees does not leave": Mutant(
        "tracer",
        "samples_forget(address, layer, false);\n\ttracer_leave(inside);",
        "samples_forget(address, layer, false);",
        **STANDS_SAMPLING,
    ),
    "two threads get one room": Mutant(
        "recording_room",
        "if (cas_relaxed(&header->room_used, &used, to))",
        "if (store_relaxed(&header->room_used, to), true)",
        "test_recording",
    ),
    "a segment for each": Mutant(
        "recording_room",
        "exchange_acq_rel(&table_claims[kind][order], 1))",
        "load_acquire(&table_claims[kind][order]))",
        "test_recording",
    ),
    "the room passes its backing": Mutant(
        "recording_room",
        "if (to > load_acquire(&header->room_backed))",
        "if (to > header->file_bytes + 4096)",
        "test_recording",
    ),
    "file size limit ignored": Mutant("recording", "if (sys_file_size_limit() < *cap)", "if (0)", "test_recording"),
    "an index word is overwritten": Mutant(
        "index",
        "if (seen == 0 && cas_acq_rel(place, &seen, word))",
        "if (seen == 0 && (store_release(place, word), true))",
        "test_index",
    ),
    "a lost insertion overwrites": Mutant(
        "index",
        "if (seen == 0 && cas_acq_rel(place, &seen, word))",
        "if (seen == 0 && (exchange_acq_rel(place, word), true))",
        "test_lockfree", **STANDS,
    ),
    "a lost insertion is told its own record": Mutant(
        "index",
        "\t\t\t\treturn (uint32_t)seen;\n\t\t}\n\t}",
        "\t\t\t\treturn ref;\n\t\t}\n\t}",
        "test_lockfree",
        **STANDS,
    ),
    "a removal lost wins": Mutant(
        "liveset",
        "!cas_seq_cst(slot, &key, clearing(address))",
        "(exchange_acq_rel(slot, clearing(address)), false)",
        "test_lockfree", **STANDS,
    ),
    "a claim of room lost wins": Mutant(
        "recording_room",
        "if (cas_relaxed(&header->room_used, &used, to))",
        "if (exchange_acq_rel(&header->room_used, to), true)",
        "test_lockfree", **STANDS,
    ),
    "half a key is enough": Mutant("index", "return record[1] == key;", "return true;", "test_index"),
    "ages by the wall clock": Mutant(
        "clock", "read_ns(CLOCK_MONOTONIC_COARSE)", "read_ns(CLOCK_REALTIME_COARSE)", "test_clock"
    ),
    "history of the wrong side": Mutant(
        "rows", "write_slot(history, level, last, before);", "write_slot(history, level, last, after);", "test_rows"
    ),
    "history in the wrong period": Mutant(
        "rows", "uint32_t period = tick >> level", "uint32_t period = (tick + 1) >> level", "test_rows"
    ),
    "a level marked each second": Mutant(
        "marks", "level = passed & 1U << i ? level : levels[i];", "level = levels[i];", "test_marks"
    ),
    "a far limit is looked at each second": Mutant(
        "marks", "percent < FAR_PERCENT ? now_cs + FAR_EVERY_CS : 0", "0", "test_marks"
    ),
    "growth towards a far limit waits": Mutant(
        "marks", "|| memory_touched_bytes() >= load_relaxed(&touched_due_bytes)", "", "test_marks"
    ),
    "armed again at once": Mutant("marks", "#define REARM_PERCENT 10U", "#define REARM_PERCENT 0U", "test_marks"),
    "the smallest rows are marked": Mutant(
        "marks", "largest_bytes[at - 1] < bytes; at--", "largest_bytes[at - 1] > bytes; at--", "test_marks"
    ),
    "all marks in one place": Mutant("marks", "table->base + sequence % MLF_MARKS;", "table->base;", "test_marks"),
    "marks of the recording before": Mutant("marks", "\tpassed = 0;\n", "", "test_marks"),
    "pages of files count": Mutant("memory", "bound.used_bytes -= idle <", "idle -= idle <", "test_memory"),
    "the own cgroup alone": Mutant("memory", "#define LEVELS_UP 16", "#define LEVELS_UP 1", "test_memory"),
    "a limit beyond the machine": Mutant(
        "memory", "bound.limit_bytes < machine && is_nearer", "is_nearer", "test_memory"
    ),
    "any word with memory in it": Mutant("memory", "(*end == ',' || *end == ':')", "(*end || 1)", "test_memory"),
    "plumbing is shown": Mutant("rows", "while (plumbing < frames && catalog", "while (0 && catalog", "test_rows"),
    "thread ids go on": Mutant("catalog", "(seen >> 32 == number ? seen :", "(seen >> 32 ? seen :", "test_catalog"),
    "a region taken twice": Mutant(
        "regions",
        "if (!cas_acq_rel(&regions[i].start, &start, HELD))\n\t\t\tcontinue;\n\t\t*out",
        "store_relaxed(&regions[i].start, HELD);\n\t\t*out",
        "test_regions",
    ),
    "a piece nobody finds": Mutant(
        "mappings", "liveset_remove((void *)start, MLF_LAYER_MMAP, &sample); // nothing", "; // nothing", "test_regions"
    ),
    "unmapped past us": Mutant(
        "mappings", "mappings_cut(start, bytes, true, &unseen);", "unseen.count = 0;", "test_regions"
    ),
    "the tail is forgotten": Mutant("mappings", "keep_piece(cut_end, region.end, sample);", ";", "test_regions"),
    "freed late": Mutant("samples", "samples_close(&before, true);", ";", "test_tracer"),
    "pools add to totals": Mutant(
        "rows", "return likely(row->domain < MLF_POOL_DOMAIN);", "return true;", "test_owners"
    ),
    "given out again and still free": Mutant(
        "owners", "while (unmark(p, MLF_LAYER_POOL_FREED, 0))", "while (0)", "test_owners"
    ),
    "the owner is not noted": Mutant("owners", "if (sampled || !is_sampled_elsewhere(p) ||", "if (1 ||", "test_owners"),
    "the memory of a pool is malloc's": Mutant("owners", "&sample) && !is_cut_up(p)", "&sample)", "test_owners"),
    "regions are not asked": Mutant("owners", "!pools_disowns(pool, (uintptr_t)p))", "0)", "test_owners"),
    "another pool's entry": Mutant("liveset", "return pool == 0 ||", "return true ||", "test_owners"),
    "what a region held stays": Mutant("owners", "if (layers[i] == MLF_LAYER_POOL)", "if (0)", "test_owners"),
    "marks without end": Mutant("owners", "if (oldest)", "if (0)", "test_owners"),
    "any jump is a call": Mutant(
        "callsite", "if (!slot || !holds(image, slot, function))", "if (!slot)", "test_callsite"
    ),
    "a region within a region": Mutant(
        "pools", "if (!found || region.high - region.low < out->high - out->low)", "if (!found)", "test_pools"
    ),
    "a part that goes takes the region": Mutant(
        "pools", "if (look(i, out) && low <= out->low && out->high <= high_end && take(i, out))", "if (look(i, out) && take(i, out))", "test_pools"
    ),
    "a part that goes takes nothing": Mutant("owners", "if (pools_region_overlaps(low, high))", "if (0)", "test_owners"),
    "a pool's name has two numbers": Mutant("pools", "if (is_new || found == key)\n", "if (is_new)\n", "test_pools"),
    "a range's end is not looked at": Mutant("bitmap", "if (word == last)", "if (word + 1 >= last)", "test_owners"),
    "a failed realloc forgets": Mutant(
        "tracer",
        "if (is_of_now(moving) && !thinning_insert(address, layer, sample, &place, clock_now_cs())) // counted",
        "if (1) // counted",
        "test_tracer",
    ),
    "a realloc ends in another recording": Mutant(
        "tracer", "m->was_sampled && m->recording == recording.number", "m->was_sampled", "test_tracer"
    ),
    "replaced under a thread": Mutant(
        "tracer_start", "if (!tracer_all_left(START_WAITS)) {", "if (0) {", "test_tracer"
    ),
    "stopped and not frozen": Mutant(
        "tracer_start", "\t\t\ttracer_all_left(STOP_WAITS); // then it", "\t\t\t; // then it", "test_tracer"
    ),
    "a walk begins during a fork": Mutant(
        "objects",
        "return forks && forks > this_thread_forks();",
        "return forks && 0;",
        "test_objects",
        ("-DDEADLINE_S=2",),
    ),
    "a fork during a walk": Mutant(
        "objects", "return seen >> 32 == of_this_process() >> 32 ?", "return 0 ?", "test_objects", ("-DDEADLINE_S=2",)
    ),
    "a fork during a long walk": Mutant(
        "objects",
        "i < WAITS_HELD && value_of(&holding)",
        "0 && value_of(&holding)",
        "test_objects",
        ("-DDEADLINE_S=2",),
    ),
    "who forks may walk while another does": Mutant(
        "objects",
        "return forks && forks > this_thread_forks();",
        "return forks && !this_thread_forks();",
        "test_objects",
        ("-DDEADLINE_S=2",),
    ),
    "who has forked may walk while another does": Mutant(
        "objects",
        "\tcas_seq_cst(&forker, &self, of_this_process());",
        "\t(void)self;",
        "test_objects",
        ("-DDEADLINE_S=2",),
    ),
    "the lock comes during a fork and is kept": Mutant(
        "objects", "walk->put_off = !walk->anyway && another_forks();", ";", "test_objects", ("-DDEADLINE_S=2",)
    ),
    "two threads have a turn": Mutant("turn", "return holder != self &&", "return", "test_turn"),
    "a turn is never taken from the dead": Mutant(
        "turn", "return holder != self &&", "return holder == 0 &&", "test_turn"
    ),
    "known before it is known": Mutant("boot", "\t\tlearn();\n", "\t\tdone = true, learn();\n", "test_boot"),
    "displaced samples stay": Mutant(
        "samples", "if (!liveset_remove(address, layers[i], &sample))", "if (1)", "test_tracer"
    ),
    "a protected page is writable": Mutant(
        "pages", "case -EINVAL: return PAGES_PROTECTED;", "case -EINVAL: return PAGES_WRITABLE;", "test_pages"
    ),
    "no memory for a page protects it": Mutant("pages", "case -EINVAL:", "case -ENOMEM: case -EINVAL:", "test_patch"),
    "a slot is stored to, not exchanged": Mutant(
        "patch",
        "cas_acq_rel(place, &from, to) ? PATCH_DONE : PATCH_CHANGED;",
        "(store_release(place, to), PATCH_DONE);",
        "test_slots",
    ),
    "an open page is stored to, come what may": Mutant(
        "patch", "= store_by_kernel(place, to);", "= (store_release(place, to), 0);", "test_slots"
    ),
    "what stands in an open page is overwritten": Mutant(
        "patch", "if (load_acquire(place) != from)", "if (0)", "test_patch"
    ),
    "pages are left open": Mutant("patch", "cannot_close = sys_call(", "cannot_close = 0 && sys_call(", "test_patch"),
    "that a page stays open is not noticed": Mutant(
        "patch", "PAGE_BYTES, PROT_READ) < 0;", "PAGE_BYTES, PROT_READ) < -4096;", "test_slots"
    ),
    "a name goes past its table": Mutant("relocs", "while (object->string_bytes && *", "while (0 && *", "test_relocs"),
    "a slot leads out of the object": Mutant(
        "relocs", "|| !elf_image_readable(image, place, sizeof(*out->place)))", ")", "test_relocs"
    ),
    "a symbol lies out of the object": Mutant(
        "relocs",
        "return object->symbols && elf_image_readable(&object->image, at, sizeof(ElfW(Sym))) ?",
        "return object->symbols ?",
        "test_relocs",
    ),
    "a variable is the loader's": Mutant(
        "relocs", "? RELOCS_FIXED : RELOCS_VARIABLE;", "? RELOCS_FIXED : RELOCS_FIXED;", "test_slots"
    ),
    "who is first in the list is called": Mutant(
        "binding", "return several ? 0 : foreign ? foreign : first;", "return first;", "test_slots"
    ),
    "a program's own function is not bound yet": Mutant(
        "slots_object", "return slot->kind == RELOCS_CALL && value >= image->low", "return value >= image->low", "test_slots"
    ),
    "what a program stores is another tool's": Mutant(
        "slots_object", "if (slot->kind == RELOCS_VARIABLE && (!bound || holder == object->id))", "if (0)", "test_slots"
    ),
    "a variable stands for all slots": Mutant(
        "slots_object", "if (slot->kind == RELOCS_VARIABLE || (object->sentinel", "if ((object->sentinel", "test_slots"
    ),
    "any slot stands for all": Mutant("slots_object", "(object->watched || !name->watched)", "1", "test_slots"),
    "a tool that takes some functions only": Mutant(
        "slots", "state->rounds && state->taken != object->taken;", "0;", "test_slots"
    ),
    "an object that is being loaded is done": Mutant(
        "slots_object", "object->unfinished |= !slot->weak && slot->kind != RELOCS_VARIABLE;", ";", "test_slots"
    ),
    "a slot that changed is not looked at again": Mutant(
        "slots_object", "object->unfinished |= result == PATCH_LATER;", ";", "test_slots"
    ),
    "maps are read to the first line only": Mutant(
        "pages", "for (long got; !found && (got", "for (long got; !found && !length && (got", "test_pages"
    ),
    "two open a child's recording": Mutant("tracer_child", "|| !turn_try(&tracer_turn))", ")", "test_tracer"),
    "a child's counters are its parent's": Mutant("tracer_child", "\tstats_detach();\n", "", "test_tracer"),
    "a focus noticed at a sample": Mutant(
        "sampler",
        "if (self->calls_mod_64 == 0)\n\t\t\tadopt_focus(self);",
        "if (hit)\n\t\t\tadopt_focus(self);",
        "test_focus",
    ),
    "a focus noticed at one of Python's samples": Mutant(
        "counter", "if (c->calls_mod_64 == 0)\n\t\tadopt_focus(c);", "if (hit)\n\t\tadopt_focus(c);", "test_focus"
    ),
    "drawn and in focus": Mutant(
        "focus", "return SAMPLER_WEIGHT_ONE | FOCUS_MATCHED |", "return drawn | FOCUS_MATCHED |", "test_focus"
    ),
    "a call of the focus passes": Mutant(
        "sampler",
        "self->calls_loaded = 1;\n\t\tself->calls_left = 0;",
        "self->calls_loaded = 1;\n\t\tself->calls_left = 1;",
        "test_focus",
    ),
    "a torn focus is believed": Mutant(
        "focus", "mlf_focus_check(text, (uint32_t)(word >> 32)) == (uint32_t)word && aim", "aim", "test_focus"
    ),
    "what is known of a module outlives its aim": Mutant(
        "aim", "known >> 8 == aim->number && known & KNOWN", "known & KNOWN", "test_focus"
    ),
    "what is known of labels outlives its aim": Mutant(
        "aim", "if (unlikely(known >> 8 != aim->number)) {", "if (!known) {", "test_focus"
    ),
    "the budget pays for the focus": Mutant(
        "samples", "if (unlikely(payer == SAMPLES_OF_FOCUS))", "if (0)", "test_focus"
    ),
    "a label that begins like it": Mutant(
        "labels", "if (!*wanted && (at == bytes ||", "if (!*wanted && (1 ||", "test_focus"
    ),
    "knob words are believed": Mutant(
        "governor", "if (!sampler_interval_valid(requested) ||", "if (0 ||", "test_tracer"
    ),
    "the dead of a living pid are kept": Mutant(
        "siblings", "return living_since(pid) != start_ticks;", "return living_since(pid) == 0;", "test_siblings"
    ),
    "the newest is removed": Mutant(
        "siblings",
        "found[i].modified_ns < oldest->modified_ns",
        "found[i].modified_ns > oldest->modified_ns",
        "test_siblings",
    ),
    "a zombie lives": Mutant("siblings", "return zombie ? 0 :", "return zombie && 0 ? 0 :", "test_siblings"),
    "room is made once": Mutant("siblings", "\t\tprune(directory_fd, 0);\n\t}", "\t}", "test_siblings"),
    "no limit to the bytes of the dead": Mutant(
        "siblings", " || dead_bytes > kept || (dead", " || (dead", "test_siblings"
    ),
    "an interpreter is looked for in vain": Mutant(
        "pyruntime",
        "return !search.counted || !seen_any || search.adds != seen_adds;",
        "return true;",
        "test_pyruntime",
        ("-rdynamic",),
    ),
    "an interpreter may go": Mutant(
        "pyruntime", "|| (search.found && !keep_loaded()))", ")", "test_pyruntime", ("-rdynamic",)
    ),
    "other structures are believed": Mutant(
        "pyruntime", "|| !fits(layout))", "|| (0 && !fits(layout)))", "test_pyruntime", ("-rdynamic",)
    ),
    "a code object dies unseen": Mutant(
        "pycode", "if (value && (code == object ||", "if (value && (", "test_pycode", ("-rdynamic",)
    ),
    "the end waits for nobody": Mutant(
        "pyframes",
        "i < READERS_WAITS && load_seq_cst(&readers)",
        "i < 0 && load_seq_cst(&readers)",
        "test_pyframes",
        ("-rdynamic",),
    ),
    "frames that were freed are believed": Mutant(
        "pyframes",
        "if (unlikely(!end_reading(&reader)))",
        "if (end_reading(&reader) && 0)",
        "test_pyframes",
        ("-rdynamic",),
    ),
    "a slot is believed in a sub-interpreter": Mutant(
        "pyframes", "if (l->minor < 12 && !has_gil &&", "if (0 && !has_gil &&", "test_pyframes", ("-rdynamic",)
    ),
    "a greenlet's stack goes on": Mutant(
        "greenlets", "else if (runs == 0 && is_greenlets(frames[i]))", "else if (i == count)", "test_greenlets"
    ),
    "a greenlet's runs are not waited for": Mutant("greenlets", "runs -= runs > 0;", "runs = 0;", "test_greenlets"),
    "another variable's value": Mutant(
        "pylabel", "return key == known.variable ? value : 0;", "return value;", "test_pylabel", ("-rdynamic",)
    ),
    "another place in the node": Mutant(
        "pylabel", "bits_set(bits & ((1U << at) - 1))", "bits_set(bits)", "test_pylabel", ("-rdynamic",)
    ),
    "a gauge takes any name": Mutant("gauges", "|| !is_letter(text[0])", "", "test_gauges"),
    "a name has two numbers": Mutant("gauges", "if (found == key)\n\t\t\treturn i + 1;", ";", "test_gauges"),
    "a gauge's past has the new value": Mutant(
        "gauges", "last, history_value(before));", "last, history_value(after));", "test_gauges"
    ),
    "a gauge set to the same has changed": Mutant("gauges", "if (was_set && before == value)", "if (0)", "test_gauges"),
    "a large gauge loses its exponent": Mutant("gauges", "| exponent << MLF_GAUGE_MANTISSA_BITS |", "|", "test_gauges"),
    "a child counts its parent's": Mutant(
        "gauges", "sys_madvise(made, PAGE_BYTES, MADV_WIPEONFORK);", ";", "test_gauges"
    ),
    "half-made gauges are taken over": Mutant(
        "gauges", "load_acquire(&record->state) != MLF_GAUGE_NAMED || ", "", "test_gauges"
    ),
    "the last of two gauges set is not written": Mutant(
        "gauges",
        "while (unlikely(load_relaxed(&mine->value) != value) && ++tries < TRIES);",
        "while (0);",
        "test_gauges",
    ),
    "a look stands at one level only": Mutant("ledger", "(tick >> level * MLF_LEDGER_LEVEL_SHIFT)", "tick", "test_ledger"),
    "looks come ever more rarely": Mutant(
        "ledger", "wait < MLF_LEDGER_UNIT_CS ? wait : MLF_LEDGER_UNIT_CS", "wait", "test_ledger"
    ),
    "arenas below nothing": Mutant("ledger", "return v > 0 ? (uint64_t)v : 0;", "return (uint64_t)v;", "test_ledger"),
    "why a heap is silent is not told": Mutant("ledger", "heap.state = told->state;", ";", "test_ledger"),
    "what a heap told is an older recording's": Mutant("ledger", "heap = (struct ledger_heap){0};", ";", "test_ledger"),
    "full regions are pinned": Mutant("pins", "if (!region || live_of(region) >= SPARSE_BYTES)", "if (!region)", "test_ledger"),
    "large objects of Python's count twice": Mutant("pins", "if (sample.size_bytes <= PYMALLOC_MOST)", "", "test_ledger"),
    "a part of the live set is taken for all": Mutant(
        "pins", "(uint64_t)sample.weight_x1024 * stride, chunk", "sample.weight_x1024, chunk", "test_ledger"
    ),
    "a row pins again and again": Mutant("pins", "most->pinned_bytes = 0;", "most->pinned_bytes /= 2;", "test_ledger"),
    "each large block is a mapping": Mutant(
        "pins", "size_bytes >= MMAP_BYTES && (uintptr_t)address % PAGE_BYTES == 16", "size_bytes >= MMAP_BYTES", "test_ledger"
    ),
    "small blocks lie side by side": Mutant("pins", "if (chunk < PAGE_BYTES) {", "if (0) {", "test_ledger"),
    "a busy heap is asked again and again": Mutant(
        "heaps", "clock_now_cs() < load_relaxed(&next_cs) || ", "", "test_ledger"
    ),
    "a heap that took long is asked again": Mutant("heaps", "load_relaxed(&took_long) || ", "", "test_ledger"),
    "another allocator's blocks are the heap's": Mutant(
        "heaps", "!function || modules_find(function) != modules_find((uintptr_t)real.malloc)", "!function", "test_ledger"
    ),
    "mismatches of two pools are one": Mutant("mismatches", "(uint64_t)seen->freed_pool << 8 | ", "", "test_owners"),
    "mismatches by two functions are one": Mutant("mismatches", "key ^= seen->target * MLF_CHECK_3;", ";", "test_owners"),
    "mismatches without room are not counted": Mutant("mismatches", "count(mismatch_full);", ";", "test_owners"),
    "a mismatch counts for itself only": Mutant(
        "mismatches", "add_relaxed(&record->count_x1024, seen->weight_x1024);", "add_relaxed(&record->count_x1024, 1024);", "test_owners"
    ),
    "each mismatch is told apart": Mutant("mismatches", "if (state == VALID && record->key == key)", "if (0)", "test_owners"),
    "a name is cut within a character": Mutant("pools", "((unsigned char)name[length] & 0xC0) == 0x80)", "0)", "test_pools"),
    "a pool's regions that ended are there": Mutant("pools", "if (!record || (!pool && !load_relaxed(&record->pool)))", "if (!record || !pool)", "test_pools"),
    "a pool of another name": Mutant("pools", "if (is_new || found == key)\n\t\t\treturn", "if (is_new || found)\n\t\t\treturn", "test_pools"),
    "labels share a row": Mutant("rows", "(label << 8 | domain)", "domain", "test_labels"),
    "a recording lacks the text": Mutant("rows", "labels_note(stack->label);", ";", "test_labels"),
    "numbers go on": Mutant("labels", "if (n >= MLF_LABEL_SETS)", "if (n >= MLF_LABEL_SETS - 1)", "test_labels"),
    "a text is cut anywhere": Mutant("labels", "(text[bytes] & 0xC0) == 0x80", "0", "test_labels"),
    "a removal passes by what is moved": Mutant(
        "liveset", "(KEY_MATCH_MASK & ~MLF_LIVE_KEY_LIVE)) == 0", "KEY_MATCH_MASK) == 0", "test_lockfree", **STANDS
    ),
    "a removal that lost to a mover looks no further": Mutant(
        "liveset",
        "if (take(slot, key, entry, address, out))\n\t\t\t\treturn true;",
        "return take(slot, key, entry, address, out);",
        "test_liveset",
    ),
    "a mover overwrites what it was left": Mutant(
        "liveset",
        "if (likely(cas_seq_cst(slot, &moving, key)))",
        "if ((exchange_acq_rel(slot, key), 1))",
        "test_lockfree",
        **STANDS,
    ),
    "a removal waits for a stopped mover": Mutant(
        "liveset", "spins >= SPINS_FOR_MOVING && cas_seq_cst", "0 && cas_seq_cst", "test_lockfree", **STANDS
    ),
    "what is moved keeps its check": Mutant(
        "liveset",
        "store_relaxed(&entry->check, check);",
        ";",
        "test_liveset",
    ),
    "what stands for others stays": Mutant(
        "liveset", "if ((key ^ place->key) & KEY_MATCH_MASK ||", "if (key != place->key ||", "test_outcome"
    ),
    "another's sample at the place goes along": Mutant(
        "liveset", "uses / CHANGES != place->insertion || sequence_of(uses)", "sequence_of(uses)", "test_outcome"
    ),
    "a key has no sequence": Mutant("liveset", "if (unlikely(!sequence_of(uses))) // is", "if (0) // is", "test_liveset"),
    "an entry takes others' samples": Mutant("outcome", "whose >> 32 == entry && tries", "whose && tries", "test_outcome"),
    "an entry takes what was before": Mutant(
        "outcome", "at = end - began > NOTES ? end - NOTES : began", "at = end - NOTES", "test_outcome"
    ),
    "lost notes are not counted": Mutant(
        "outcome", "if (load_relaxed(&noted) - began > NOTES)", "if (0)", "test_outcome"
    ),
    "a removal left to the mover is not accounted for": Mutant(
        "outcome", "} else if (moved == LIVESET_REMOVED) {", "} else if (0) {", "test_outcome"
    ),
    "what moved counts twice": Mutant(
        "rows", "add_relaxed(&from->moved_bytes, scaled(size_bytes, weight_x1024));", ";", "test_outcome"
    ),
    "what moves has a row of its own": Mutant(
        "rows", "return mix_key(hash, python, domain, label);", "return row->key + label;", "test_outcome"
    ),
    "a part of a label is replaced": Mutant(
        "labels", "if (end - at == length &&", "if (end - at >= length &&", "test_outcome"
    ),
    "calls go uncounted": Mutant("labels", "[number - 1].calls, 1);", "[number - 1].calls, 0);", "test_outcome"),
    "a number that comes later is not seen": Mutant(
        "pylabel", "if (!found.number && said->kept)", "if (0)", "test_pylabel", ("-rdynamic",)
    ),
    "the last sample is not noted": Mutant("catalog", "store_relaxed(&record->last_row, row);", ";", "test_catalog"),
    "two attach at once": Mutant(
        "pyframes",
        "if (holder == self || !cas_acq_rel(&attaching, &holder, self))",
        "if (0 && holder == self)",
        "test_pyruntime",
        ("-rdynamic",),
    ),
}


# Races: a run loses them by chance, more often on an idle machine. A test that must not fail by chance leaves
# them to the long form, which gives each twenty runs.
RACES = {
    "bit set beside a remover",
    "bit cleared beside a claim",
    "two removers win",
    "a removal that lost to a mover looks no further",
    "a removal left to the mover is not accounted for",
    "two threads get one room",
    "a segment for each",
    "an index word is overwritten",
    "a region taken twice",
    "the last of two gauges set is not written",
}
LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
RUN_S = 120  # the longest needs 10 s of an idle machine
pytestmark = pytest.mark.timeout(3600 if LONG else 300)


@pytest.fixture(scope="module")
def sound() -> set[tuple]:
    """Return which programs passed with nothing changed, by test, flags and arguments."""
    return set()


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_fails(tmp_path, runtime_directory, sound, name, record_property):
    """The C test passes as it is; with the mutant it returns 1 or does not survive. Being slow is not enough."""
    if name in RACES and not LONG:
        pytest.skip("long form: set MEMLEAK_TEST_LONG=1")
    mutant = MUTANTS[name]
    runtime_directory.chmod(0o711)  # a test may go there as another user; what a run leaves behind goes with it
    control = (mutant.test, mutant.flags, mutant.arguments)
    if control not in sound:
        unchanged = outcome(mutant, built(tmp_path, mutant, mutant.old), runtime_directory)
        if unchanged.returncode == 77:
            pytest.skip(unchanged.stdout.splitlines()[-1])
        assert unchanged.returncode == 0, f"fails with nothing changed:\n{unchanged.stderr[-4000:]}"
        sound.add(control)
    program = built(tmp_path, mutant, mutant.new)
    for _ in range(20 if name in RACES else 1):
        done = outcome(mutant, program, runtime_directory)
        print(done.stderr[-2000:])
        if done.returncode == 1 or done.returncode < 0:
            record_property("mutants found", 1)
            return
    pytest.fail(f"{mutant.test} passes all the same")


def built(directory: Path, mutant: Mutant, new: str) -> Path:
    """Return the program of the mutant's test with *new* in its place."""
    source = nativebuild.ROOT / "tests/native" / f"{mutant.test}.c"
    return mutated(directory, source, mutant.module, mutant.old, new, *mutant.flags)


def outcome(mutant: Mutant, program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the program in its usual form, whatever form ./test has; one that does not end is an error."""
    environment = {name: value for name, value in os.environ.items() if name != "MEMLEAK_TEST_LONG"}
    environment["MEMLEAK_TEST_TMPFS"] = str(directory)
    command = [str(program), *mutant.arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=RUN_S, env=environment)
