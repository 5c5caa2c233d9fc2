#!/usr/bin/env python3
"""All attacks at once beside an honest fleet: nothing that was acknowledged may be lost, no node
may end or take more memory than it may, and the honest must be served. Exits 1 where one of these
is not so.

    tests/soak/run.py target/release/headwater [--seconds 3600] [--memory-mib 512] [--devices 200]
        [--queries 10] [--attacks NAME,NAME] [--no-attacks]
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from nodes import cluster  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--memory-mib", type=int, default=512)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--queries", type=float, default=10)
    parser.add_argument("--attacks", default="")
    parser.add_argument("--no-attacks", action="store_true")
    return parser.parse_args()


def missing(node, acked, faults):
    """Rows that were acknowledged and that this node does not have."""
    rows = node.sql("SELECT topic, seq, count(*) AS n FROM fleet GROUP BY topic, seq", timeout=300)
    held = {(row["topic"], row["seq"]) for row in rows}
    lost = [
        (name, seq)
        for name, all_seqs in acked.items()
        for seq in all_seqs
        if (f"fleet/{name}", seq) not in held
    ]
    if lost:
        faults.append(f"{node.name}: {len(lost)} acknowledged rows are missing, such as {lost[:3]}")


def watch(nodes, ends, seconds, faults):
    """Until the time is over: the nodes live and say that they do."""
    worst_health = 0.0
    while any(process.poll() is None for process in ends):
        for node in nodes:
            if not node.lives():
                faults.append(f"{node.name} ended with {node.process.returncode}: {node.tail()}")
                return worst_health
            begun = time.monotonic()
            try:
                health = node.get("/health", timeout=30)[0]
                worst_health = max(worst_health, time.monotonic() - begun)
                if health != 200:
                    faults.append(f"{node.name}: /health said {health}")
            except OSError as error:
                faults.append(f"{node.name}: no answer from /health: {error}")
        time.sleep(2)
    return worst_health


def settle(nodes, faults):
    """The secondary has what the primary has, and both say that they are well."""
    primary, secondary = nodes

    def caught_up():
        first, second = (node.status().get("lsn", -1) for node in nodes)
        return 0 <= first <= second

    for node in nodes:
        node.wait(lambda: node.get("/ready")[0] == 200, 60, "is not ready after the attacks")
    secondary.wait(caught_up, 120, "has not caught up")


def soak(options, folder):
    faults = []
    limit = options.memory_mib << 20
    nodes, mqtt, ship = cluster(options.program, folder, limit)
    doors = ",".join(str(node.http) for node in nodes)
    honest_out, attacks_out = os.path.join(folder, "honest"), os.path.join(folder, "attacks")
    try:
        for node in nodes:
            node.start()
        seconds = str(options.seconds)
        fleet = [
            sys.executable,
            f"{HERE}/honest.py",
            str(mqtt),
            doors,
            str(options.devices),
            str(options.queries),
        ]
        ends = [subprocess.Popen([*fleet, seconds, honest_out])]
        if not options.no_attacks:
            names = [name for name in options.attacks.split(",") if name]
            attackers = [sys.executable, f"{HERE}/attacks.py", str(mqtt), doors, str(ship)]
            ends.append(subprocess.Popen([*attackers, seconds, attacks_out, *names]))
        health = watch(nodes, ends, options.seconds, faults)
        for process in ends:
            process.kill() if process.poll() is None else None
            process.wait()
        with open(honest_out) as file:
            met = json.load(file)
        if all(node.lives() for node in nodes):
            settle(nodes, faults)
            for node in nodes:
                missing(node, met["acked"], faults)
        peaks = {node.name: node.peak() if node.lives() else 0 for node in nodes}
        for name, peak in peaks.items():
            if peak > limit * 5 // 4:
                faults.append(f"{name}: {peak >> 20} MiB were resident, of {limit >> 20} MiB")
        codes = [node.stop() for node in nodes if node.lives()]
        if any(codes):
            faults.append(f"exit codes {codes}")
    finally:
        for node in nodes:
            node.kill()
    tell(met, attacks_out, peaks, health)
    return faults


def spread(seconds):
    """Half, 99 of 100 and all took no longer, in milliseconds."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p50, p99, last = (
        ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000 for part in (0.5, 0.99, 1)
    )
    return f"{len(ordered)}, ms: p50 {p50:.1f}, p99 {p99:.1f}, max {last:.0f}"


def tell(met, attacks_out, peaks, health):
    print(f"messages: {met['sent']} sent; PUBACKs: {spread(met['acks'])}")
    print(f"connections lost: {met['lost_connections']}")
    print(f"answers: {spread(met['answers'])}; queries refused: {met['refused']}")
    peaks = ", ".join(f"{name} {peak >> 20}" for name, peak in peaks.items())
    print(f"most MiB resident: {peaks}; slowest /health {health * 1000:.0f} ms")
    if os.path.exists(attacks_out):
        with open(attacks_out) as file:
            for what, count in sorted(json.load(file).items()):
                print(f"  {what}: {count}")


def main():
    options = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = tempfile.mkdtemp(prefix="headwater-soak.")
    faults = soak(options, folder)
    for fault in faults[:40]:
        print(f"FAULT {fault}")
    if faults:
        print(f"soak: FAILED with {len(faults)} faults; data and logs are in {folder}")
        raise SystemExit(1)
    shutil.rmtree(folder)
    print("soak: ok")


main()
