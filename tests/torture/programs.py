"""Programs of Debian's, and some work for each whose result can be compared."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

NUMBERS = "seq 1 40000"


@dataclass(frozen=True)
class Program:
    """A command, and what a shell does with it in an empty directory; what it prints and leaves there is the result."""

    command: str
    work: str  # a shell script; $N scales it


# The work takes a tenth of a second or so at N = 1.
PROGRAMS = {
    "awk": Program("awk", f"{NUMBERS} | awk -v n=$N '{{ for (i = 0; i < n * 4; i++) a[$1 % 997] = a[$1 % 997] $1 % 7 }} END {{ for (k in a) s += length(a[k]); print s }}'"),
    "bash": Program("bash", "bash -c 'for ((i = 0; i < 12000 * N; i++)); do a[i % 100]=${a[i % 100]:0:50}x$i; done; echo ${a[*]} | cksum'"),
    "clang": Program("clang", "for i in $(seq $N); do printf '#include <stdio.h>\\nint f(int x) { return printf(\"%d\", x * 3); }\\n' > a.c; clang -O2 -S -o a.s a.c; done; cat a.s"),
    "curl": Program("curl", f"{NUMBERS} > numbers; for i in $(seq $((N * 5))); do curl -s file://$PWD/numbers; done | cksum"),
    "gcc": Program("gcc", "for i in $(seq $N); do printf '#include <stdio.h>\\n#include <math.h>\\nint f(int x) { return printf(\"%d\", x * 3); }\\n' > a.c; gcc -O2 -S -o a.s a.c; done; cat a.s"),
    "git": Program("git", "export GIT_AUTHOR_DATE='2020-01-01 00:00:00Z' GIT_COMMITTER_DATE='2020-01-01 00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null HOME=$PWD; git init -q . && git config user.email a@b && git config user.name n; for i in $(seq $((N * 6))); do seq $i 3000 > f$((i % 5)); git add . && git commit -qm c$i; done; git log --stat --oneline; git fsck; rm -rf .git"),
    "java": Program("java", "for i in $(seq $N); do java -Xshare:auto -XX:+UseSerialGC -version 2>&1; done"),
    "jq": Program("jq", f"{NUMBERS} | jq -c -n --argjson n $N '[inputs | {{k: (. % 997), v: tostring}}] | group_by(.k) | map(length) | add * $n'"),
    "lua": Program("lua5.4", "lua5.4 -e 'local n = tonumber(os.getenv(\"N\")) local t = {} for i = 1, 150000 * n do t[i % 5000] = (t[i % 5000] or \"\"):sub(-20) .. i end local s = 0 for _, v in pairs(t) do s = s + #v end print(s)'"),
    "make": Program("make", "for i in $(seq 30); do printf 'f%d: f%d\\n\\t@cat $< > $@; echo %d >> $@\\n' $i $((i - 1)) $i; done > Makefile; echo 0 > f0; for i in $(seq $((N * 4))); do make -s -j2 f30; rm -f f[1-9]*; done; make -s f30; cksum f30"),
    "node": Program("node", "node -e 'const m = new Map(); for (let i = 0; i < 300000 * +process.env.N; i++) m.set(i % 5000, String(m.get(i % 5000) || \"\").slice(-20) + i); let s = 0; for (const v of m.values()) s += v.length; console.log(s, Buffer.alloc(1e6, 7).toString(\"base64\").length)'"),
    "openssl": Program("openssl", f"{NUMBERS} > n; for i in $(seq $((N * 8))); do openssl enc -aes-256-cbc -K 0123456789abcdef0123456789abcdef -iv 00112233445566778899aabbccddeeff -in n 2>/dev/null | openssl dgst -sha256; done"),
    "perl": Program("perl", "perl -e 'my %h; for my $i (1 .. 150000 * $ENV{N}) { $h{$i % 5000} = substr($h{$i % 5000} // \"\", -20) . $i; push @{$l[$i % 100]}, [$i] if $i % 9 == 0 } my $s = 0; $s += length for values %h; print \"$s\\n\"'"),
    "sed": Program("sed", f"{NUMBERS} > n; for i in $(seq $((N * 6))); do sed -E 's/([0-9])([0-9]*)/\\2-\\1/; 1~3d' n; done | cksum"),
    "sort": Program("sort", f"{NUMBERS} > n; for i in $(seq $((N * 4))); do sort -R --random-source=n n | sort -k1.2 --parallel=2; done | cksum"),
    "sqlite3": Program("sqlite3", "sqlite3 base \"CREATE TABLE t (a, b); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 60000 * $N) INSERT INTO t SELECT x % 997, hex(x) FROM c; CREATE INDEX i ON t (a); SELECT a, count(*), max(b) FROM t GROUP BY a ORDER BY 2, 3 LIMIT 5; DROP TABLE t; VACUUM;\"; rm -f base"),
    "tar": Program("tar", f"mkdir d; {NUMBERS} | split -l 400 - d/; for i in $(seq $((N * 4))); do tar --sort=name --mtime=2020-01-01 --owner=0 --group=0 --numeric-owner -cf - d | tar -tvf - | cksum; done"),
    "xz": Program("xz", f"{NUMBERS} > n; for i in $(seq $N); do xz -T2 -c n | xz -dc; done | cksum"),
}  # fmt: skip


LARGE = {"java", "node"}  # nobody has to install them for a test


def installed() -> dict[str, Program]:
    """Return those whose command is here."""
    return {name: program for name, program in PROGRAMS.items() if shutil.which(program.command)}
