#!/usr/bin/env python3
"""Bytes per row of other databases for the rows of `bench filesize --csv`: DuckDB, chDB (ClickHouse),
VictoriaMetrics, and plain Parquet of pyarrow. README.md says how to install them. A peer that is not
installed is reported as missing. Talks to 127.0.0.1 only, and ends only the process it started."""

import argparse
import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

TAGS = [
    "hostname", "region", "datacenter", "rack", "os", "arch", "team", "service",
    "service_version", "service_environment",
]
# What `--headwater` is divided by is the smallest size with counted = True: those keep the same
# values as binary doubles. Decimal columns know in advance that two digits are enough.
COUNTED, UNCOUNTED = True, False
MISSING = []


def main():
    args = arguments()
    with open(args.csv, newline="") as file:
        header = next(csv.reader(file))
        rows = sum(1 for _ in file)
    fields = header[1 + len(TAGS):]
    if header[: 1 + len(TAGS)] != ["time", *TAGS] or not fields or not rows:
        sys.exit(f"{args.csv} is not a file of `bench filesize --csv`")
    peers = {"parquet": parquet, "duckdb": duckdb, "chdb": chdb, "victoria": victoria}
    results = []
    with tempfile.TemporaryDirectory(prefix="peers-", dir=args.dir) as scratch:
        for name in args.only or peers:
            place = os.path.join(scratch, name)
            os.mkdir(place)
            try:
                for label, size, counted in peers[name](args, os.path.abspath(args.csv), fields, rows, place):
                    print(f"{label}: {size / rows:.2f} bytes per row", file=sys.stderr)
                    results.append((label, size / rows, counted))
            except ImportError as error:
                MISSING.append(f"{name}: {error}")
            shutil.rmtree(place, ignore_errors=True)
    report(args, rows, results)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", help="the file of `bench filesize --csv`")
    parser.add_argument("--headwater", type=float, metavar="N", help="Headwater's bytes per row, as `bench filesize` prints them")
    parser.add_argument("--dir", default=".", help="where the databases are made")
    parser.add_argument("--only", action="append", choices=["parquet", "duckdb", "chdb", "victoria"])
    parser.add_argument("--victoria", default="victoria-metrics", help="the VictoriaMetrics binary")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def report(args, rows, results):
    ours = args.headwater
    print(f"\n{rows:,} rows of {args.csv}\n")
    print("| what | bytes per row | Headwater of it |\n| --- | --- | --- |")
    for label, size, counted in sorted(results, key=lambda result: result[1]):
        ratio = f"{ours / size:.2f}" if ours else ""
        print(f"| {label}{'' if counted else ' (not counted)'} | {size:.2f} | {ratio} |")
    counted = [result for result in results if result[2]]
    if counted and ours:
        label, best, _ = min(counted, key=lambda result: result[1])
        print(f"\nHeadwater {ours:.2f}, best other {best:.2f} ({label}): ratio {ours / best:.2f}")
    for missing in MISSING:
        print(f"\nMissing: {missing}")


# ---- plain Parquet


def parquet(args, path, fields, rows, place):
    import pyarrow as arrow
    import pyarrow.csv as reader
    import pyarrow.parquet as files

    arrow.set_cpu_count(args.threads)
    types = {"time": arrow.int64()} | {tag: arrow.string() for tag in TAGS} | {field: arrow.float64() for field in fields}
    table = reader.read_csv(path, convert_options=reader.ConvertOptions(column_types=types))
    table = table.set_column(0, "time", table["time"].cast(arrow.timestamp("ns", "UTC")))
    ordered = table.sort_by([("hostname", "ascending"), ("time", "ascending")])
    decimal = ordered
    for field in fields:
        column = ordered[field].cast(arrow.decimal128(5, 2))
        decimal = decimal.set_column(decimal.column_names.index(field), field, column)

    def coded(encoding):
        # A column has a dictionary or an encoding; times are always deltas here.
        codes = {"time": "DELTA_BINARY_PACKED"} | ({field: encoding for field in fields} if encoding else {})
        words = TAGS if encoding else TAGS + fields
        return {"use_dictionary": words, "column_encoding": codes, "store_decimal_as_integer": True}

    name = f"Parquet (pyarrow {arrow.__version__})"
    file = os.path.join(place, "rows.parquet")
    for label, rows_in, level, options, counted in [
        ("order of arrival, defaults, zstd 1", table, 1, {}, COUNTED),
        ("sorted, defaults, zstd 1", ordered, 1, {}, COUNTED),
        ("sorted, dictionaries, delta time, zstd 1", ordered, 1, coded(None), COUNTED),
        ("sorted, dictionaries, delta time, zstd 9", ordered, 9, coded(None), COUNTED),
        ("sorted, BYTE_STREAM_SPLIT, delta time, zstd 9", ordered, 9, coded("BYTE_STREAM_SPLIT"), COUNTED),
        ("sorted, DECIMAL(5,2) as deltas, zstd 1", decimal, 1, coded("DELTA_BINARY_PACKED"), UNCOUNTED),
    ]:
        files.write_table(rows_in, file, compression="zstd", compression_level=level, row_group_size=1 << 20, **options)
        yield f"{name}, {label}", os.path.getsize(file), counted


# ---- DuckDB


def duckdb(args, path, fields, rows, place):
    import duckdb as database

    def columns(kind):
        return ", ".join(
            ["make_timestamp_ns(\"time\") AS \"time\"", *TAGS, *(f"{field}::{kind} AS {field}" for field in fields)]
        )

    types = ", ".join(["'time': 'BIGINT'", *(f"'{tag}': 'VARCHAR'" for tag in TAGS), *(f"'{field}': 'DOUBLE'" for field in fields)])
    source = f"read_csv('{path}', header = true, columns = {{{types}}})"
    for label, kind, order, counted in [
        ("order of arrival", "DOUBLE", "", COUNTED),
        ("sorted", "DOUBLE", "ORDER BY hostname, \"time\"", COUNTED),
        ("sorted, DECIMAL(5,2)", "DECIMAL(5,2)", "ORDER BY hostname, \"time\"", UNCOUNTED),
    ]:
        file = os.path.join(place, "rows.duckdb")
        if os.path.exists(file):
            os.remove(file)
        connection = database.connect()
        connection.execute(f"SET threads = {args.threads}; SET temp_directory = '{place}'")
        connection.execute(f"ATTACH '{file}' AS peer (STORAGE_VERSION 'latest')")
        connection.execute(f"CREATE TABLE peer.cpu AS SELECT {columns(kind)} FROM {source} {order}")
        connection.execute("CHECKPOINT peer")
        stored = connection.execute("SELECT count(*) FROM peer.cpu").fetchone()[0]
        connection.execute("DETACH peer")
        connection.close()
        check("DuckDB", stored, rows)
        yield f"DuckDB {database.__version__}, {label}", os.path.getsize(file), counted


# ---- ClickHouse, as chDB


def chdb(args, path, fields, rows, place):
    from chdb import session

    connection = session.Session(os.path.join(place, "chdb"))

    def ask(sql):
        return str(connection.query(sql, "TabSeparated")).strip()

    version = ask("SELECT version()")
    alp = ask("SELECT count() FROM system.settings WHERE name = 'enable_alp_codec'") == "1"
    if alp:
        ask("SET enable_alp_codec = 1")
    structure = ", ".join(["time Int64", *(f"{tag} String" for tag in TAGS), *(f"{field} Float64" for field in fields)])
    variants = [
        ("default (LZ4)", "", "", "Float64", COUNTED),
        ("ZSTD(1)", "CODEC(ZSTD(1))", "CODEC(ZSTD(1))", "Float64", COUNTED),
        ("DoubleDelta time, Gorilla fields, ZSTD(1)", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(Gorilla, ZSTD(1))", "Float64", COUNTED),
        ("DoubleDelta time, Delta fields, ZSTD(1)", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(Delta, ZSTD(1))", "Float64", COUNTED),
        ("DoubleDelta time, ZSTD(1) fields", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(ZSTD(1))", "Float64", COUNTED),
        ("DoubleDelta time, ZSTD(9) fields", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(ZSTD(9))", "Float64", COUNTED),
        ("DoubleDelta time, Decimal(5,2) with Delta, ZSTD(1)", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(Delta, ZSTD(1))", "Decimal(5,2)", UNCOUNTED),
    ]
    if alp:
        variants.insert(5, ("DoubleDelta time, ALP fields, ZSTD(1)", "CODEC(DoubleDelta, ZSTD(1))", "CODEC(ALP, ZSTD(1))", "Float64", COUNTED))
    try:
        for label, time_codec, field_codec, kind, counted in variants:
            tag_codec = "CODEC(ZSTD(1))" if field_codec else ""
            columns = ", ".join(
                [f"time DateTime64(9, 'UTC') {time_codec}", *(f"{tag} LowCardinality(String) {tag_codec}" for tag in TAGS), *(f"{field} {kind} {field_codec}" for field in fields)]
            )
            ask("DROP TABLE IF EXISTS default.cpu SYNC")
            ask(
                f"CREATE TABLE default.cpu ({columns}) ENGINE = MergeTree ORDER BY (hostname, time) "
                "SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
            )
            ask(
                f"INSERT INTO default.cpu SELECT fromUnixTimestamp64Nano(time, 'UTC'), {', '.join(TAGS + fields)} "
                f"FROM file('{path}', CSVWithNames, '{structure}') SETTINGS max_threads = {args.threads}"
            )
            ask("OPTIMIZE TABLE default.cpu FINAL")
            stored, parts, size = map(
                int,
                ask("SELECT sum(rows), count(), sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'default' AND table = 'cpu'").split("\t"),
            )
            check("chDB", stored, rows)
            if parts != 1:
                print(f"chDB, {label}: {parts} parts, not one", file=sys.stderr)
            yield f"ClickHouse (chDB, {version}), {label}", size, counted
    finally:
        connection.close()


# ---- VictoriaMetrics


def victoria(args, path, fields, rows, place):
    binary = shutil.which(args.victoria)
    if not binary:
        raise ImportError(f"{args.victoria} is not on PATH; name it with --victoria")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = os.path.join(place, "data")
    base = f"http://127.0.0.1:{port}"
    with open(os.path.join(place, "log"), "w") as log:
        process = subprocess.Popen(
            [binary, f"-storageDataPath={data}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y"],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: get(base + "/health") == "OK", "VictoriaMetrics is not up", 60)
        version = re.search(r'vm_app_version\{version="(?:victoria-metrics-)?([^"]+)"', get(base + "/metrics"))
        formats = ["1:time:unix_ns"]
        formats += [f"{at}:label:{tag}" for at, tag in enumerate(TAGS, 2)]
        formats += [f"{at}:metric:cpu_{field}" for at, field in enumerate(fields, 2 + len(TAGS))]
        target = base + "/api/v1/import/csv?" + urllib.parse.urlencode({"format": ",".join(formats)})
        for chunk in chunks(path):
            post(target, chunk)
        settle(base, data, rows * len(fields))
    finally:
        # Ended gently, so that what it still holds in memory is on the disk.
        process.terminate()
        process.wait(120)
    size = sum(folder_bytes(os.path.join(data, part)) for part in ("data", "indexdb"))
    # Debian's build does not know its own version.
    label = f" {version.group(1)}" if version else ""
    values = folder_bytes(os.path.join(data, "data")) / rows
    yield f"VictoriaMetrics{label}, times in ms; {values:.2f} without its index", size, COUNTED


def chunks(path, size=8 << 20):
    with open(path, "rb") as file:
        file.readline()
        while chunk := file.read(size):
            yield chunk + file.readline()


def settle(base, data, samples):
    """Everything into one part per month: smaller than what is left to itself."""
    for _ in range(2):
        get(base + "/internal/force_flush")
        get(base + "/internal/force_merge")
        last = -1
        for _ in range(240):
            time.sleep(2)
            metrics = get(base + "/metrics")
            merging = total(metrics, r"vm_active_force_merges") + total(metrics, r'vm_active_merges\{type="storage/[^}]*\}')
            size = folder_bytes(os.path.join(data, "data"))
            if not merging and size == last:
                break
            last = size
    stored = total(get(base + "/metrics"), r'vm_rows\{type="storage/[^}]*\}')
    check("VictoriaMetrics", int(stored), samples)


def total(metrics, name):
    return sum(float(value) for value in re.findall(rf"^{name} (\S+)$", metrics, re.MULTILINE))


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=600) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def post(url, body):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=600) as answer:
        answer.read()


def until(done, what, seconds):
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            sys.exit(what)
        time.sleep(0.1)


def folder_bytes(folder):
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                # A merge removed it meanwhile.
                pass
    return found


def check(who, stored, expected):
    if stored != expected:
        sys.exit(f"{who} holds {stored} rows, not {expected}")


if __name__ == "__main__":
    main()
