#!/usr/bin/env python3
"""Asks Headwater and DuckDB the same random questions about the same rows, and wants the same
answers: in the tail, half compacted and compacted. Never fails by chance: a failure names its seed.

    tests/duckdb/compare.py target/release/headwater [--seconds 60] [--seed N] [--statements N]
"""

import argparse
import datetime
import http.client
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

import duckdb

sys.dont_write_bytecode = True
from generate import DAYS, Generator, TEXTS  # noqa: E402

# What is deliberately another answer here than there, by a pattern of the error of one side.
DIFFERENCES = [
    # Sums of integers have 64 bits here and 128 there.
    r"exceeds 64 bits|[Oo]verflow",
    # A cast has the name of what it casts, and no two may be grouped by under one name.
    r"unique expression names|duplicate unqualified field name",
    # Times end in 2262 here.
    r"out of range|Timestamp|nanosecond",
]


class Node:
    """A primary of its own, with HTTP on a free port."""

    def __init__(self, program, folder, settings):
        self.log = open(os.path.join(folder, "log"), "w+")
        conf = os.path.join(folder, "conf.toml")
        with open(conf, "w") as file:
            file.write(
                f'[node]\nrole = "primary"\nname = "compared"\ndata_dir = "{folder}/data"\n'
                '[mqtt]\nlisten = "127.0.0.1:0"\n[http]\nlisten = "127.0.0.1:0"\n' + settings
            )
        self.process = subprocess.Popen([program, "serve", "--conf", conf], stderr=self.log)
        self.connection = http.client.HTTPConnection(self.address(), timeout=60)

    def address(self):
        for _ in within(30):
            self.log.flush()
            with open(self.log.name) as log:
                text = log.read()
            found = re.search(r"HTTP is listening.*?address=(\S+)", text)
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
        sys.exit(f"the node does not start:\n{text}")

    def request(self, path, body, kind):
        self.connection.request("POST", path, body, {"Content-Type": kind})
        response = self.connection.getresponse()
        return response.status, response.read()

    def write(self, table, rows):
        for start in range(0, len(rows), 500):
            body = json.dumps(rows[start:start + 500])
            status, text = self.request(f"/api/v1/ingest/{table}?tags=device,site", body, "application/json")
            if status != 200:
                sys.exit(f"{table}: {status} {text.decode()}")

    def ask(self, sql):
        status, text = self.request("/api/v3/query_sql?format=jsonl", sql, "text/plain")
        text = text.decode()
        if status != 200:
            return json.loads(text)["error"], None
        return None, [tuple(json.loads(line).values()) for line in text.splitlines()]

    def count(self, sql):
        error, rows = self.ask(sql)
        return 0 if error else rows[0][0] or 0

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def within(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def make_rows(rng):
    rows = []
    for number in range(ROWS):
        day = datetime.datetime.fromisoformat(rng.choice(DAYS))
        moved = datetime.timedelta(
            seconds=rng.choice([0, 1, -1, 3600, -18000, rng.randint(-100000, 100000)]),
            microseconds=rng.choice([0, 0, 1, 500000]),
        )
        row = {
            "time": (day + moved).isoformat() + "Z", "device": f"d{rng.randrange(9)}", "id": number,
            "pad": f"{rng.getrandbits(PAD_BITS):x}",
        }
        for name, make in [
            ("site", lambda: f"s{rng.randrange(4)}"), ("i", lambda: rng.randint(-20, 20)),
            ("f", lambda: rng.randint(-40, 40) / 4 + 0.0), ("b", lambda: rng.random() < 0.5),
            ("x", lambda: rng.choice(TEXTS)),
        ]:
            if rng.random() < 0.85:
                row[name] = make()
        rows.append(row)
    # A column is a float from its first value on.
    rows[0].update(site="s0", i=1, f=0.5, b=True, x="a")
    return rows


def make_second(rng):
    rows = []
    for number in range(60):
        row = {"time": f"2026-11-05T00:{number:02}:00Z", "device": f"d{rng.randrange(12)}"}
        if rng.random() < 0.8:
            row["w"] = rng.randint(-20, 60)
        if rng.random() < 0.8:
            row["g"] = rng.randint(-40, 40) / 4 + 0.0
        rows.append(row)
    rows[0].update(w=1, g=0.5)
    return rows


def fill_duckdb(rows, second):
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    duck.execute("SET threads = 2")
    duck.execute(
        "CREATE TABLE t (time TIMESTAMP, device VARCHAR, site VARCHAR, id BIGINT, i BIGINT, f DOUBLE, "
        "b BOOLEAN, x VARCHAR, pad VARCHAR)"
    )
    duck.execute("CREATE TABLE u (time TIMESTAMP, device VARCHAR, w BIGINT, g DOUBLE)")
    for table, columns, of in [
        ("t", ["time", "device", "site", "id", "i", "f", "b", "x", "pad"], rows),
        ("u", ["time", "device", "w", "g"], second),
    ]:
        marks = ", ".join("?" * len(columns))
        values = [[row.get(c) if c != "time" else row[c].rstrip("Z") for c in columns] for row in of]
        duck.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    return duck


def make_nodes(program, folder, rows, second, rng):
    """One for each state that rows can be in."""
    nodes = {}
    for state, settings in [
        ("tail", ""), ("half compacted", SMALL_SEGMENTS), ("compacted", SMALL_SEGMENTS),
    ]:
        place = os.path.join(folder, state.replace(" ", "-"))
        os.mkdir(place)
        node = Node(program, place, settings)
        nodes[state] = node
        node.write("u", second)
        node.write("t", rows)
        if state == "compacted":
            filler = [{"time": "2026-11-05T00:00:00Z", "pad": f"{rng.getrandbits(PAD_BITS):x}"} for _ in range(ROWS)]
            node.write("filler", filler)
        if state != "tail":
            wanted = ROWS if state == "compacted" else 1
            for _ in within(60):
                if node.count("SELECT file_rows FROM system.tables WHERE name = 't'") >= wanted:
                    break
            else:
                sys.exit(f"{state}: the rows were not compacted in time")
    return nodes


def normal(value):
    if isinstance(value, datetime.datetime):
        return normal(value.replace(tzinfo=None).isoformat())
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return None
        return value + 0.0
    if isinstance(value, str) and STAMP.fullmatch(value):
        value = value.rstrip("Z")
        return value.rstrip("0").rstrip(".") if "." in value else value
    return value


def key(row):
    return [(v is None, type(v) is str, str(v) if isinstance(v, str) else 0, v if not isinstance(v, str) else 0)
            if v is not None else (True, False, "", 0) for v in row]


def alike(left, right, loose):
    if left is None or right is None or isinstance(left, (str, bool)) or isinstance(right, (str, bool)):
        return left == right
    if loose:
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return left == right


def differ(ours, theirs, ordered, loose):
    ours = [[normal(v) for v in row] for row in ours]
    theirs = [[normal(v) for v in row] for row in theirs]
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, not {len(theirs)}"
    if not ordered:
        ours.sort(key=key)
        theirs.sort(key=key)
    for left, right in zip(ours, theirs):
        if len(left) != len(right) or not all(alike(a, b, loose) for a, b in zip(left, right)):
            return f"{left} and not {right}"
    return None


def ask_duckdb(duck, sql):
    try:
        return None, duck.execute(sql).fetchall()
    except duckdb.Error as error:
        return str(error), None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--statements", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HEADWATER_SEED", random.getrandbits(32))))
    parser.add_argument("--failures", type=int, default=1)
    options = parser.parse_args()
    print(f"compared with DuckDB {duckdb.__version__}: HEADWATER_SEED={options.seed}", flush=True)
    rng = random.Random(options.seed)
    folder = tempfile.mkdtemp(prefix="headwater-duckdb-")
    rows, second = make_rows(rng), make_second(rng)
    duck = fill_duckdb(rows, second)
    nodes, failed = {}, 0
    try:
        nodes = make_nodes(os.path.abspath(options.program), folder, rows, second, rng)
        asked, refused, end = 0, 0, time.monotonic() + options.seconds
        while time.monotonic() < end and asked < options.statements and failed < options.failures:
            sql, ordered, loose = Generator(rng).statement()
            state = rng.choice(list(nodes))
            asked += 1
            error, ours = nodes[state].ask(sql.h)
            other_error, theirs = ask_duckdb(duck, sql.d)
            if error or other_error:
                refused += 1
                both = error and other_error
                known = any(re.search(pattern, error or other_error) for pattern in DIFFERENCES)
                if both or known:
                    continue
                wrong = f"only one side refuses: {error or other_error}"
            else:
                wrong = differ(ours, theirs, ordered, loose)
            if wrong:
                failed += 1
                print(f"\nseed {options.seed}, statement {asked}, {state}: {wrong}\n  {sql.h}\n  {sql.d}")
        print(f"{asked} statements, {refused} of them refused, {failed} answered otherwise")
        if not failed and refused * 4 > asked:
            sys.exit("too many are refused: the statements say little")
    finally:
        for node in nodes.values():
            node.stop()
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


ROWS = 3000
# Enough to fill segments.
PAD_BITS = 3200
SMALL_SEGMENTS = '[log]\nsegment_size = "1 MiB"\n'
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")

if __name__ == "__main__":
    main()
