"""Measures pan against text and pgcrypto on the servers that bench.sh started: bench.py DIR PORT"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

import chart

DIR, PORT = Path(sys.argv[1]), int(sys.argv[2])
ROWS = int(os.environ.get("BENCH_ROWS", 1_000_000))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 3))
RESULTS = Path(__file__).parent.parent / "bench-results"
# For pgcrypto the key is in the statement; that is how it is used.
KEY = "'\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f'::bytea"

ROLES = """
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE cy LOGIN; CREATE ROLE di LOGIN; CREATE ROLE eve LOGIN;
CREATE ROLE fay LOGIN;
"""
INIT = """
CREATE EXTENSION pgpci;
SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,fay}');
"""
SETUP = ROLES + f"""
CREATE ROLE loader LOGIN IN ROLE pg_read_server_files, pg_write_server_files;
CREATE ROLE reader LOGIN; CREATE ROLE revealer LOGIN IN ROLE pg_write_server_files;
CREATE EXTENSION pgcrypto;
{INIT}
CREATE TABLE t_text (id bigint, card text, amount integer);
CREATE TABLE t_bytea (id bigint, card bytea, amount integer);
CREATE TABLE t_pan (id bigint, card pci.pan, amount integer);
CREATE TABLE x_text (LIKE t_text); CREATE INDEX ON x_text (card);
CREATE TABLE x_pan (LIKE t_pan); CREATE INDEX ON x_pan (card);
-- For those who only look card numbers up: a hash index is small.
CREATE TABLE h_text (LIKE t_text); CREATE INDEX ON h_text USING hash (card);
CREATE TABLE h_pan (LIKE t_pan); CREATE INDEX ON h_pan USING hash (card);
-- The way it is done with pgcrypto: COPY goes to a staging table, for it cannot call functions.
CREATE UNLOGGED TABLE staging (id bigint, card text, amount integer);
CREATE TABLE t_pgcrypto (id bigint, sealed bytea, iv bytea, hash bytea, mask text, amount integer);
CREATE TABLE x_pgcrypto (LIKE t_pgcrypto); CREATE INDEX ON x_pgcrypto (hash);
CREATE TABLE h_pgcrypto (LIKE t_pgcrypto); CREATE INDEX ON h_pgcrypto USING hash (hash);
GRANT ALL ON ALL TABLES IN SCHEMA public TO loader, reader, revealer;
"""
GRANTS = """
SELECT pci.grant_access('loader', 'default', 'store');
SELECT pci.grant_access('reader', 'default', 'search');
SELECT pci.grant_access('revealer', 'default', 'reveal') AS request \\gset
\\c - bob
SELECT pci.approve(:request);
"""
TO_PGCRYPTO = f"""
INSERT INTO {{table}} SELECT id, encrypt_iv(card::bytea, {KEY}, iv, 'aes-cbc'), iv, hmac(card::bytea, {KEY}, 'sha256'),
    overlay(card PLACING repeat('*', length(card) - 10) FROM 7), amount
FROM (SELECT *, gen_random_bytes(16) AS iv FROM staging OFFSET 0) s;
"""

rows = []  # the printed table
raw = {}  # what was measured, by name: seconds, or transactions a second


def psql(sql, role="postgres", database="postgres", where="with", port=PORT):
    command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", DIR / where, "-p", port, "-U", role, database]
    run = subprocess.run([str(c) for c in command], input=sql, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"bench: {role}: {run.stderr}")
    return run.stdout


def seconds(sql, role):
    """The time psql reports for the last statement, until its last row has arrived."""
    return float(re.findall(r"Time: ([\d.]+) ms", psql("\\timing on\n" + sql, role))[-1]) / 1000


def rounds(measures, times=ROUNDS, starts=()):
    """Runs the measures in turn, several rounds; medians by name. Each is (prepare, measure). With servers to start
    (directory, port), so often for each of several starts of them: where a server's memory happens to lie makes its
    rates differ by a tenth and more from one start to the next."""
    found = {name: [] for name in measures}
    for _ in range(ROUNDS if starts else 1):
        for where, port in starts:
            restart(where, port)
        for number in range(times + bool(starts)):
            # Every other round backwards, so that nobody always comes after the same neighbour.
            for name in sorted(measures, reverse=bool(number % 2)):
                prepare, measure = measures[name]
                prepare()
                value = measure()
                # A server that was just started has to read everything once.
                if number > 0 or not starts:
                    found[name].append(value)
    for name, values in found.items():
        raw[name] = median(values)


def restart(where, port):
    script = Path(__file__).parent.parent / "scripts/cluster.sh"
    subprocess.run([str(script), "restart", str(DIR / where), str(port)], check=True, stdout=subprocess.DEVNULL)


def line(what, value, unit, target=None, passed=None, note=""):
    rows.append({"what": what, "value": value, "unit": unit, "target": target, "passed": passed, "note": note})
    verdict = "" if passed is None else "pass" if passed else "MISS"
    print(f"{what:<58} {value:>9.3f} {unit:<8} {target or '':<9} {verdict:<5} {note}", flush=True)


def at_most(what, value, unit, limit, note=""):
    line(what, value, unit, f"<= {limit}", value <= limit, note)


def at_least(what, value, unit, limit, note=""):
    line(what, value, unit, f">= {limit}", value >= limit, note)


def per_row(name):
    return raw[name] / ROWS * 1e6


def number_of(n):
    """A card number of a test range by its six varying digits; pgbench computes the same in LOOKUP."""
    doubled = lambda d: 2 * d - 9 if d > 4 else 2 * d
    digits = [4, 1, 1, 1, 1, 1, 0, 0, 0, *(n // 10**k % 10 for k in (5, 4, 3, 2, 1, 0))]
    total = sum(d if i % 2 else doubled(d) for i, d in enumerate(digits))
    return "".join(map(str, digits)) + str(-total % 10)


LOOKUP = f"""
\\set n random(0, {ROWS - 1})
\\set a :n / 100000
\\set b :n / 10000 % 10
\\set c :n / 1000 % 10
\\set d :n / 100 % 10
\\set e :n / 10 % 10
\\set f :n % 10
\\set sum FIXED + :a + 2 * :b - 9 * (:b / 5) + :c + 2 * :d - 9 * (:d / 5) + :e + 2 * :f - 9 * (:f / 5)
\\set card 4111110000000000 + :n * 10 + (10 - :sum % 10) % 10
"""


def copy():
    files = {"text": DIR / "cards.tsv", "bytea": DIR / "bytea.tsv"}
    with open(files["text"], "w") as text, open(files["bytea"], "w") as blob:
        for i in range(ROWS):
            # In an order of no meaning; ROWS and the factor have no common divisor.
            card = number_of(i * 7368787 % ROWS)
            text.write(f"{i}\t{card}\t{i % 90000}\n")
            blob.write(f"{i}\t\\\\x{card * 6}ab\t{i % 90000}\n")
    for file in files.values():
        file.chmod(0o644)

    def load(table, file="text"):
        prepare = lambda: (psql(f"TRUNCATE {table}"), psql("CHECKPOINT"))
        return prepare, lambda: seconds(f"COPY {table} FROM '{files[file]}';", "loader")

    def load_pgcrypto(table):
        prepare = lambda: (psql(f"TRUNCATE staging, {table}"), psql("CHECKPOINT"))
        return prepare, lambda: (seconds(f"COPY staging FROM '{files['text']}';", "loader")
                                 + seconds(TO_PGCRYPTO.format(table=table), "loader"))

    rounds({
        "copy text": load("t_text"),
        "copy bytea49": load("t_bytea", "bytea"),
        "copy pan": load("t_pan"),
        "copy text, index": load("x_text"),
        "copy pan, index": load("x_pan"),
        "copy text, hash index": load("h_text"),
        "copy pan, hash index": load("h_pan"),
        "copy pgcrypto": load_pgcrypto("t_pgcrypto"),
        "copy pgcrypto, index": load_pgcrypto("x_pgcrypto"),
        "copy pgcrypto, hash index": load_pgcrypto("h_pgcrypto"),
    })
    psql("VACUUM ANALYZE; CHECKPOINT")
    print(f"COPY FROM a server's file, {ROWS} rows; seconds:",
          ", ".join(f"{n.removeprefix('copy ')} {raw[n]:.2f}" for n in raw))
    at_most("COPY, pan / text", raw["copy pan"] / raw["copy text"], "x", 2.5)
    line("COPY, bytea of 49 bytes, no cryptography / text", raw["copy bytea49"] / raw["copy text"], "x")
    line("COPY with an index on the card, pan / text", raw["copy pan, index"] / raw["copy text, index"], "x")
    at_least("COPY, pgcrypto table / pan, no index on either", raw["copy pgcrypto"] / raw["copy pan"], "x", 3,
             "COPY to staging, INSERT .. SELECT")
    at_least("COPY, pgcrypto table / pan, both with their index", raw["copy pgcrypto, index"] / raw["copy pan, index"], "x", 3,
             "the same")
    line("COPY with a hash index on the card, pan / text", raw["copy pan, hash index"] / raw["copy text, hash index"], "x")
    at_least("COPY, pgcrypto table / pan, both with a hash index", raw["copy pgcrypto, hash index"] / raw["copy pan, hash index"],
             "x", 3, "the same")
    sizes = {kind: int(psql(f"SELECT pg_relation_size('{kind}_pan_card_idx')")) / 2**20 for kind in "xh"}
    print(f"index on {ROWS} cards: btree {sizes['x']:.0f} MiB, hash {sizes['h']:.0f} MiB")


def scans():
    nothing = lambda: None
    server = lambda sql, role: (nothing, lambda: seconds(f"COPY ({sql}) TO '/dev/null';", role))
    wire = lambda sql, role: (nothing, lambda: wire_seconds(sql, role))
    aggregate = lambda sql, role: (nothing, lambda: seconds(sql + ";", role))
    decrypt = f"encode(decrypt_iv(sealed, {KEY}, iv, 'aes-cbc'), 'escape')"
    rounds({
        "masks server text": server("SELECT card FROM t_text", "loader"),
        "masks server pan": server("SELECT card::text FROM t_pan", "loader"),
        "masks wire text": wire("SELECT card FROM t_text", "reader"),
        "masks wire pan": wire("SELECT card FROM t_pan", "reader"),
        "scan pan mask": aggregate("SELECT count(pci.mask(card)) FROM t_pan", "revealer"),
        "scan pan reveal": aggregate("SELECT count(pci.reveal(card)) FROM t_pan", "revealer"),
        "scan pgcrypto mask": aggregate("SELECT count(mask) FROM x_pgcrypto", "revealer"),
        "scan pgcrypto decrypt": aggregate(f"SELECT count({decrypt}) FROM x_pgcrypto", "revealer"),
    })
    at_most("SELECT of all masks, at the client, pan / text", raw["masks wire pan"] / raw["masks wire text"], "x", 1.5,
            "psql, until the last row")
    at_most("SELECT of all masks, server alone, pan / text", raw["masks server pan"] / raw["masks server text"], "x", 1.5,
            "COPY (SELECT ..) TO '/dev/null'")
    reveal = per_row("scan pan reveal") - per_row("scan pan mask")
    decrypt = per_row("scan pgcrypto decrypt") - per_row("scan pgcrypto mask")
    at_most("reveal, above the masked scan", reveal, "us/value", 0.6, "server alone")
    line("decrypt_iv, above its masked scan", decrypt, "us/value")
    at_least("decrypt_iv / reveal", decrypt / reveal, "x", 3)
    pgp()


def wire_seconds(sql, role):
    return seconds(f"\\o /dev/null\n{sql};", role)


def pgp():
    """pgp_sym_* are so slow that a sample must do."""
    sample = min(2000, ROWS)
    text = seconds(f"SELECT count(pgp_sym_encrypt(card, 'a passphrase')) FROM (SELECT card FROM t_text LIMIT {sample}) s;", "revealer")
    line("pgp_sym_encrypt", text / sample * 1e6, "us/value", note=f"sample of {sample}")
    psql(f"CREATE TABLE pgp AS SELECT pgp_sym_encrypt(card, 'a passphrase') AS card FROM t_text LIMIT {sample};"
         "GRANT SELECT ON pgp TO PUBLIC")
    text = seconds("SELECT count(pgp_sym_decrypt(card, 'a passphrase')) FROM pgp;", "revealer")
    line("pgp_sym_decrypt", text / sample * 1e6, "us/value", note=f"sample of {sample}")


def pgbench(script, mode="prepared", role="reader", database="postgres", where="with", port=PORT, clients=4, builtin=(), slice_seconds=2):
    """Transactions a second."""
    command = ["pgbench", "-n", "-M", mode, "-c", clients, "-j", 2, "-T", slice_seconds, "-h", DIR / where, "-p", port, "-U", role]
    command += builtin or ["-f", script]
    run = subprocess.run([str(c) for c in [*command, database]], capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+) \((?:without|including)", run.stdout)
    if run.returncode or not rate or " aborted" in run.stderr:
        sys.exit(f"bench: pgbench: {run.stderr}")
    return float(rate[1])


def by_second(script, seconds):
    """Transactions a second, second by second, in connections that stay open."""
    command = ["pgbench", "-n", "-M", "prepared", "-c", 4, "-j", 2, "-P", 1, "-T", seconds, "-h", DIR / "with", "-p", PORT,
               "-U", "reader", "-f", script, "postgres"]
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    rates = [float(rate) for rate in re.findall(r"^progress: .*? ([\d.]+) tps", run.stderr, re.M)]
    if run.returncode or len(rates) < seconds - 1:
        sys.exit(f"bench: pgbench: {run.stderr}")
    return rates


def lookups():
    fixed = sum(int(d) if i % 2 else (2 * int(d)) % 10 + int(d) // 5 for i, d in enumerate("411111000"))
    queries = {
        "lookup text": "SELECT id, amount FROM x_text WHERE card = :card",
        "lookup pan": "SELECT id, amount FROM x_pan WHERE card = :card",
        "lookup text, hash index": "SELECT id, amount FROM h_text WHERE card = :card",
        "lookup pan, hash index": "SELECT id, amount FROM h_pan WHERE card = :card",
        "lookup pan, $1::text": "SELECT id, amount FROM x_pan WHERE card = :card::text",
    }
    measures, young = {}, {name: [] for name in queries}
    for name, sql in queries.items():
        script = DIR / (re.sub(r"\W", "", name) + ".sql")
        script.write_text(LOOKUP.replace("FIXED", str(fixed)) + sql + ";\n")
        # An application's connections live long, and have mapped what they read of the shared buffers; young ones do that
        # page by page, and are told apart.
        def measure(name=name, script=script):
            rates = by_second(script, 10)
            young[name].append(mean(rates[:2]))
            return mean(rates[6:])
        measures[name] = (lambda: None, measure)
    # What is measured must be found.
    some = [number_of(n * 7919 % ROWS) for n in range(20)]
    found = psql("".join(f"SELECT 1 FROM x_pan WHERE card = '{card}' LIMIT 1;" for card in some), "reader").count("1")
    if found != len(some):
        sys.exit(f"bench: look-ups find {found} of {len(some)} numbers")
    rounds(measures)
    print("prepared look-ups by card number, 4 clients; a second:",
          ", ".join(f"{n.removeprefix('lookup ')} {raw[n]:.0f}" for n in queries))
    at_least("look-up, rate of pan / text, card = $1", raw["lookup pan"] / raw["lookup text"], "x", 0.9, "pgbench -M prepared -c 4")
    at_least("look-up, rate of pan / text, card = $1::text", raw["lookup pan, $1::text"] / raw["lookup text"], "x", 0.9)
    line("the same in connections of two seconds", median(young["lookup pan"]) / median(young["lookup text"]), "x")
    line("look-up, both by a hash index", raw["lookup pan, hash index"] / raw["lookup text, hash index"], "x")
    line("look-up, pan by a hash index / text by a btree", raw["lookup pan, hash index"] / raw["lookup text"], "x")
    script = DIR / "reveal.sql"
    script.write_text("\\set id random(1, 1000)\nSELECT pci.reveal(card) FROM t_reveal WHERE id = :id;\n")
    psql("CREATE TABLE t_reveal AS SELECT row_number() OVER () AS id, card FROM (SELECT card FROM t_pan LIMIT 1000) s;"
         "CREATE UNIQUE INDEX ON t_reveal (id); GRANT SELECT ON t_reveal TO PUBLIC; ANALYZE t_reveal")
    # Two records each: before the digits leave, and when the transaction is over.
    rate = 2 * pgbench(script, role="revealer", clients=32, slice_seconds=5)
    at_least("records a second of 32 sessions that reveal", rate, "1/s", 10000, "each on the disk before its digits leave")


def bystanders():
    psql("CREATE DATABASE bare", where="without", port=PORT + 1)
    psql("CREATE DATABASE bare", where="beside", port=PORT + 2)
    psql(ROLES + INIT + "CREATE ROLE reader LOGIN;", where="beside", port=PORT + 2)
    places = {"bystander without library": ("bare", "without", PORT + 1), "bystander without extension": ("bare", "beside", PORT + 2),
              "bystander with extension": ("postgres", "beside", PORT + 2)}
    measures = {}
    for name, (database, where, port) in places.items():
        init = ["pgbench", "-i", "-q", "-s", "2", "-h", DIR / where, "-p", port, "-U", "postgres", database]
        subprocess.run([str(c) for c in init], check=True, capture_output=True)
        # An ordinary role: all that a superuser does is recorded.
        psql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", database=database, where=where, port=port)
        if where == "without" and not psql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'", where=where, port=port):
            psql("CREATE ROLE reader LOGIN", where=where, port=port)
        measures[name] = (lambda: None, lambda d=database, w=where, p=port: pgbench(
            None, "simple", "reader", d, w, p, 2, ["-S"], 1))
    # The difference looked for is smaller than the noise of a slice.
    rounds(measures, 5, [("without", PORT + 1), ("beside", PORT + 2)])
    ratio = lambda other: raw["bystander with extension"] / raw[other]
    at_least("statements without a pan, rate with / without extension", ratio("bystander without extension"), "x", 0.97, "pgbench -S")
    at_least("statements without a pan, rate with / without library", ratio("bystander without library"), "x", 0.97, "pgbench -S")


def trail():
    """What the audit trail costs those who have nothing to do with card numbers, with the default scope and with all."""
    places = {"none": ("without", PORT + 1), "default": ("with", PORT), "all": ("all", PORT + 3),
              "pgaudit": ("pgaudit", PORT + 4), "log_statement": ("log", PORT + 5)}
    for name, (where, port) in places.items():
        if name not in ("none", "default"):
            psql("CREATE ROLE reader LOGIN", where=where, port=port)
        psql("CREATE DATABASE trail OWNER reader", where=where, port=port)
        if name == "default":
            psql("CREATE EXTENSION pgpci", database="trail")
        # As many branches as clients at least, as pgbench's manual says: fewer measure waits for one another's rows.
        init = ["pgbench", "-i", "-q", "-s", "8", "-h", DIR / where, "-p", port, "-U", "reader", "trail"]
        subprocess.run([str(c) for c in init], check=True, capture_output=True)
    kinds = {"select-only": ["-S"], "tpcb-like": ["-b", "tpcb-like"], "login": ["-S", "-C"]}
    measures = {}
    for kind, builtin in kinds.items():
        for name, (where, port) in places.items():
            measures[f"trail {kind} {name}"] = (lambda: None, lambda b=builtin, w=where, p=port: pgbench(
                None, "prepared", "reader", "trail", w, p, 4, b, 1))
    rounds(measures, 5, list(places.values()))
    print("audit trail, prepared, 4 clients; a second:", ", ".join(f"{n.removeprefix('trail ')} {raw[n]:.0f}" for n in measures))
    ratio = lambda kind, name: raw[f"trail {kind} {name}"] / raw[f"trail {kind} none"]
    loss = lambda name: 1 - ratio("select-only", name)
    at_least("select-only, audit_scope = default / no library", ratio("select-only", "default"), "x", 0.97)
    at_least("select-only, audit_scope = all / no library", ratio("select-only", "all"), "x", 0.90)
    line("select-only, pgaudit.log = all, CSV / no library", ratio("select-only", "pgaudit"), "x")
    line("select-only, log_statement = all, CSV / no library", ratio("select-only", "log_statement"), "x")
    at_most("select-only, loss by audit_scope = all / by pgaudit", loss("all") / loss("pgaudit"), "x", 0.5)
    at_least("tpcb-like, audit_scope = all / no library", ratio("tpcb-like", "all"), "x", 0.95)
    line("tpcb-like, pgaudit.log = all, CSV / no library", ratio("tpcb-like", "pgaudit"), "x")
    at_least("login (pgbench -C), audit_scope = default / no library", ratio("login", "default"), "x", 0.97)


def main():
    # Parts by name, for trying things out: copy scans lookups bystanders trail.
    wanted = set(sys.argv[3:])
    psql(SETUP)
    psql(GRANTS, "ann")
    version = psql("SHOW server_version").split()[0]
    print(f"PostgreSQL {version}, {os.cpu_count()} processors, {ROWS} rows, medians of {ROUNDS} rounds in turn; fsync off, so that the\n"
          "disk does not hide what the processor does.\n")
    if (load := os.getloadavg()[0]) > 1.5:
        print(f"WARNING: other work runs on this machine (load {load:.1f}); ratios of rates are not reliable.\n")
    if wanted and not wanted & {"copy", "scans", "lookups"}:
        bystanders()
        return trail()
    copy()
    size = int(psql("SELECT max(pg_column_size(card)) FROM t_pan"))
    at_most("a sealed value of 16 digits", size, "bytes", 84)
    scans()
    lookups()
    bystanders()
    trail()
    missed = sum(r["passed"] is False for r in rows)
    print(f"\n{sum(r['passed'] is True for r in rows)} targets met, {missed} missed")
    RESULTS.mkdir(exist_ok=True)
    report = {"postgresql": version, "processors": os.cpu_count(), "rows": ROWS, "rounds": ROUNDS, "table": rows, "measured": raw}
    (RESULTS / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "bench.svg").write_text(chart.svg(report))
    print(f"written: {RESULTS}/bench.json, {RESULTS}/bench.svg")


main()
