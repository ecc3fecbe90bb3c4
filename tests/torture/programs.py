"""Programs of Debian's, and some work for each whose result can be compared."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

NUMBERS = "seq 1 40000"
SOURCE = (
    "seq $((N * 60)) | awk '{ printf \"int f%d(int x, int *y) { for (int i = 0; i < x; i++) y[i] += y[i / 2] * %d;"
    " return y[x %% 7]; }\\n\", $1, $1 }' > a.c"
)


@dataclass(frozen=True)
class Program:
    """A command, and what a shell does with it in an empty directory; what it prints and leaves there is the result."""

    command: str
    work: str  # a shell script; $N scales it


# The work takes a tenth of a second or so at N = 1, in as few processes as it can be done in: what a start costs is another question.
PROGRAMS = {
    "awk": Program("awk", f"{NUMBERS} | awk -v n=$N '{{ for (i = 0; i < n * 4; i++) a[$1 % 997] = a[$1 % 997] $1 % 7 }} END {{ for (k in a) s += length(a[k]); print s }}'"),
    "bash": Program("bash", "bash -c 'for ((i = 0; i < 12000 * N; i++)); do a[i % 100]=${a[i % 100]:0:50}x$i; done; echo ${a[*]} | cksum'"),
    "clang": Program("clang", f"{SOURCE} && clang -O2 -S -o a.s a.c && cksum a.s && rm a.s"),
    "curl": Program("curl", f"{NUMBERS} > numbers; for i in $(seq $((N * 30))); do echo url = file://$PWD/numbers; done > list; curl -s -K list | cksum; rm list"),
    "gcc": Program("gcc", f"{SOURCE} && gcc -O2 -S -o a.s a.c && cksum a.s && rm a.s"),
    "diff": Program("diff", "seq 1 3 $((N * 60000)) > a; seq 1 2 $((N * 60000)) > b; diff a b | cksum; diff --label a --label b -u -d a b | cksum; rm a b"),
    "git": Program("git", "export GIT_AUTHOR_DATE='2020-01-01 00:00:00Z' GIT_COMMITTER_DATE='2020-01-01 00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null HOME=$PWD; git init -q . && git config user.email a@b && git config user.name n && git config gc.auto 0; for i in 1 2 3; do seq $i $((N * 20000)) | split -a 4 -l 100 - f; git add . && git commit -qm c$i; done; git log --stat --oneline | cksum; git repack -adfq; git fsck; git blame faaaa | cksum; rm -rf .git f*"),
    "java": Program("java", "printf 'import java.util.*; class M { public static void main(String[] a) { int n = Integer.parseInt(a[0]), s = 0; Map<Integer, String> m = new HashMap<>(); for (int i = 0; i < 300000 * n; i++) { String t = m.getOrDefault(i %% 5000, \"\") + i; m.put(i %% 5000, t.substring(Math.max(0, t.length() - 20))); } for (String v : m.values()) s += v.length(); System.out.println(s); } }' > M.java; java -XX:+UseSerialGC M.java $N; rm M.java"),
    "jq": Program("jq", "seq $((N * 40000)) | jq -c -n '[inputs | {k: (. % 997), v: tostring}] | group_by(.k) | map(length) | add'"),
    "lua": Program("lua5.4", "lua5.4 -e 'local n = tonumber(os.getenv(\"N\")) local t = {} for i = 1, 150000 * n do t[i % 5000] = (t[i % 5000] or \"\"):sub(-20) .. i end local s = 0 for _, v in pairs(t) do s = s + #v end print(s)'"),
    "make": Program("make", "printf 'L := $(shell seq %%d)\\n$(info $(words $(sort $(patsubst %%1,x%%,$(L)))))\\n$(info $(words $(foreach a,$(L),$(if $(filter %%7,$a),$(subst 7,seven,$a)))))\\nall: a b\\na:\\n\\t@echo a\\nb: a\\n\\t@echo b\\n' > Makefile; sed -i s/%d/$((N * 20000))/ Makefile; make -s -j2 all"),
    "node": Program("node", "node -e 'const m = new Map(); for (let i = 0; i < 300000 * +process.env.N; i++) m.set(i % 5000, String(m.get(i % 5000) || \"\").slice(-20) + i); let s = 0; for (const v of m.values()) s += v.length; console.log(s, Buffer.alloc(1e6, 7).toString(\"base64\").length)'"),
    "objdump": Program("objdump", "objdump -d --no-show-raw-insn $(for i in $(seq $((N * 2))); do echo /usr/bin/sed; done) | cksum"),
    "openssl": Program("openssl", "seq 1 $((N * 300000)) > n; openssl enc -aes-256-cbc -K 0123456789abcdef0123456789abcdef -iv 00112233445566778899aabbccddeeff -in n 2>/dev/null | openssl dgst -sha256; rm n"),
    "perl": Program("perl", "perl -e 'my %h; for my $i (1 .. 150000 * $ENV{N}) { $h{$i % 5000} = substr($h{$i % 5000} // \"\", -20) . $i; push @{$l[$i % 100]}, [$i] if $i % 9 == 0 } my $s = 0; $s += length for values %h; print \"$s\\n\"'"),
    "python3": Program("/usr/bin/python3", "/usr/bin/python3 -c 'import json, os, re; n = int(os.environ[\"N\"]); t = [{\"k\": i, \"v\": [str(j) for j in range(i % 20)]} for i in range(4000)]; s = 0\nfor i in range(n * 3): s += len(re.findall(\"[0-9]+\", json.dumps(json.loads(json.dumps(t)))))\nprint(s)'"),
    "sed": Program("sed", "seq 1 $((N * 240000)) | sed -E 's/([0-9])([0-9]*)/\\2-\\1/; 1~3d' | cksum"),
    "sort": Program("sort", "seq 1 $((N * 100000)) > n; sort -R --random-source=n n | sort -k1.2 --parallel=2 | cksum; rm n"),
    "sqlite3": Program("sqlite3", "sqlite3 base \"CREATE TABLE t (a, b); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 60000 * $N) INSERT INTO t SELECT x % 997, hex(x) FROM c; CREATE INDEX i ON t (a); SELECT a, count(*), max(b) FROM t GROUP BY a ORDER BY 2, 3 LIMIT 5; DROP TABLE t; VACUUM;\"; rm -f base"),
    "tar": Program("tar", "mkdir d; seq 1 $((N * 100000)) | split -a 4 -l 100 - d/; tar --sort=name --mtime=2020-01-01 --owner=0 --group=0 --numeric-owner -cf - d | tar -tvf - | cksum; rm -r d"),
    "xz": Program("xz", "seq 1 $((N * 40000)) | xz -T2 -c | xz -dc | cksum"),
}  # fmt: skip


LARGE = {"java", "node", "python3"}  # nobody has to install them for a test


def installed() -> dict[str, Program]:
    """Return those whose command is here."""
    return {name: program for name, program in PROGRAMS.items() if shutil.which(program.command)}
