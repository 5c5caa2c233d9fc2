#!/usr/bin/env python3
"""Those who mean ill, or are broken: each attack is a loop of its own, bounded in what it holds,
that begins anew until the time is over. An attack must never judge: it counts what it could do.

    attacks.py MQTT_PORT PRIMARY_HTTP,SECONDARY_HTTP SHIP_PORT SECONDS OUT [NAME ...]
"""

import asyncio
import gzip
import json
import os
import random
import socket
import sys
import time

import mqtt

STATEMENTS = [
    "SELECT length(replace(repeat('a', 100000), 'a', repeat('b', 100000)))",
    "SELECT sum(a.value + b.value) FROM range(1, 1000000000) a, range(1, 1000000000) b",
    "SELECT array_length(array_repeat(array_repeat(1, 100000), 100000))",
    "SELECT array_length(array_resize(make_array(1), 2000000000, 1))",
    "SELECT length(lpad('a', 2147483647, 'b'))",
    "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "SELECT length(overlay(repeat('a', 1000000) placing repeat('b', 100000000) from 1))",
    "SELECT regexp_replace(repeat('a', 1000000), 'a', repeat('b', 10000), 'g')",
    "SELECT count(*) FROM fleet a, fleet b, fleet c, fleet d",
    "SELECT array_agg(a.topic || b.topic || c.topic) FROM fleet a, fleet b, fleet c",
    "SELECT string_agg(a.topic, repeat('x', 100000)) FROM fleet a, fleet b",
    "SELECT * FROM fleet a, fleet b ORDER BY a.value * b.value",
    "SELECT median(a.value * b.value) FROM fleet a, fleet b",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "WITH "
    + ", ".join(
        ["t0 AS (SELECT 1 AS a)"]
        + [
            f"t{n} AS (SELECT l.a FROM t{n - 1} l UNION ALL SELECT r.a FROM t{n - 1} r)"
            for n in range(1, 25)
        ]
    )
    + " SELECT count(*) FROM t24",
    "SELECT " + ", ".join(f"value + {n} AS c{n}" for n in range(25_000)) + " FROM fleet",
    "SELECT count(*) FROM fleet WHERE seq IN (" + ", ".join(map(str, range(50_000))) + ")",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "-" * 1 + " - ".join(["1"] * 20_000),
    "SELECT 1" + " UNION ALL SELECT 1" * 10_000,
    "SELECT a" + "[1]" * 20_000 + " FROM (SELECT make_array(1) AS a)",
    "SELECT count(*) FROM (SELECT "
    + ", ".join(f"value + {n} AS c{n}" for n in range(40))
    + " FROM fleet) GROUP BY CUBE ("
    + ", ".join(f"c{n}" for n in range(40))
    + ")",
    "EXPLAIN SELECT count(*) FROM fleet GROUP BY CUBE ("
    + ", ".join(["topic", "value", "seq"] * 20)
    + ")",
    "SELECT payload FROM system.dead_letters a, generate_series(1, 100000) b",
    "SELECT unnest(range(1, 2000000000))",
    "SELECT CASE "
    + " ".join(f"WHEN seq = {n} THEN '{n}'" for n in range(20_000))
    + " END FROM fleet",
]


class Front:
    """Where the doors are, and what came of knocking."""

    def __init__(self, mqtt_port, http_ports, ship_port, seconds):
        self.mqtt, self.http, self.ship = mqtt_port, http_ports, ship_port
        self.end = time.monotonic() + seconds
        self.counts = {}

    def count(self, attack, what="done"):
        key = f"{attack}: {what}"
        self.counts[key] = self.counts.get(key, 0) + 1

    def any_http(self):
        return random.choice(self.http)

    async def client(self, version=4):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.mqtt)
        name = f"mallory-{os.getpid()}-{random.randrange(1 << 30)}"
        writer.write(mqtt.connect(name, version=version))
        await asyncio.wait_for(mqtt.read(reader), 10)
        return reader, writer

    async def send(self, messages, version=4):
        """Publishes with QoS 1 and waits for what comes back, a window at a time."""
        reader, writer = await self.client(version)
        try:
            waiting = 0
            for number, (topic, payload) in enumerate(messages):
                writer.write(mqtt.publish(topic, payload, 1 + number % 60000, version=version))
                waiting += 1
                if waiting == 100:
                    await writer.drain()
                    for _ in range(waiting):
                        await asyncio.wait_for(mqtt.read(reader), 30)
                    waiting = 0
        finally:
            writer.close()

    async def post(self, port, path, body, headers=(), wait=30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            lines = [
                f"POST {path} HTTP/1.1",
                f"Host: 127.0.0.1:{port}",
                f"Content-Length: {len(body)}",
            ]
            head = "\r\n".join([*lines, "Connection: close", *headers]) + "\r\n\r\n"
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.read(4096), wait)
            return answer[9:12].decode()
        finally:
            writer.close()


async def new_fields(front):
    await front.send(
        (f"wide/{n % 3}", json.dumps({f"f{random.randrange(1 << 40)}": n}).encode())
        for n in range(2_000)
    )


async def new_tables(front):
    def row(n):
        at = (int(time.time()) - 86_400 * (n % 8)) * 1000
        return f"t{random.randrange(1 << 40)}/x", json.dumps({"ts": at, "v": n}).encode()

    await front.send(row(n) for n in range(2_000))


async def names_over_http(front):
    lines = "\n".join(f"h{random.randrange(1 << 40)} v=1" for _ in range(400))
    status = await front.post(front.http[0], "/write", lines.encode())
    front.count("names_over_http", status)
    fields = {f"f{random.randrange(1 << 40)}": n for n in range(900)}
    for _ in range(5):
        path = f"/api/v1/ingest/wide{random.randrange(1 << 40)}"
        body = json.dumps(fields).encode()
        status = await front.post(front.http[0], path, body, ["Content-Type: application/json"])
        front.count("names_over_http", status)


async def dead_letters(front):
    await front.send(
        ("fleet/bad", b'{"seq": "not a number", "x": "' + b"y" * 50_000 + b'"}') for _ in range(200)
    )
    await front.send(("/".join("x" * 5 for _ in range(50)), b"{broken" * 100) for _ in range(500))


async def headers_in_text(front):
    block = b"HWBK\x04\x01\0\0" + bytes(random.randrange(256) for _ in range(160))
    text = json.dumps({"note": block.decode("latin-1")}).encode()
    await front.send(("text/evil", text) for _ in range(200))


async def times(front):
    extremes = [-(1 << 63), (1 << 63) - 1, -9_223_372_036_000_000_000, 0, 9_999_999_999_999_999]
    rows = [json.dumps({"ts": at, "v": 1}).encode() for at in extremes] * 20
    await front.send(("times/extreme", row) for row in rows)


async def empty_lines(front):
    await front.send([("lines/empty", b"{}\n" * 300_000)])
    deep = b"[" * 100_000 + b"]" * 100_000
    await front.send(
        [
            ("lines/deep", deep),
            ("lines/keys", json.dumps({f"k{n}": n for n in range(20_000)}).encode()),
        ]
    )


async def idle_devices(front):
    clients = [await front.client() for _ in range(500)]
    await asyncio.sleep(20)
    for _, writer in clients:
        writer.close()


async def half_packets(front):
    held = []
    for _ in range(200):
        reader, writer = await front.client()
        whole = mqtt.publish("half/x", b"z" * 900_000, 1)
        writer.write(whole[:-10])
        held.append(writer)
    await asyncio.sleep(15)
    for writer in held:
        writer.close()


async def aliases(front):
    held = []
    for _ in range(50):
        reader, writer = await front.client(version=5)
        for alias in range(1, 40):
            writer.write(
                mqtt.publish("a/" + "t" * 30_000 + str(alias), b"1", None, alias, version=5)
            )
        held.append(writer)
    await asyncio.sleep(10)
    for writer in held:
        writer.close()


async def not_reading_mqtt(front):
    reader, writer = await front.client()
    for number in range(20_000):
        writer.write(mqtt.publish("unread/x", b"1", 1 + number % 60_000))
        if writer.transport.get_write_buffer_size() > 1 << 20:
            break
    await asyncio.sleep(5)
    writer.close()


async def garbage_mqtt(front):
    for _ in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.mqtt)
        start = mqtt.connect("g") if random.random() < 0.5 else b""
        writer.write(start + bytes(random.randrange(256) for _ in range(random.randrange(1, 200))))
        writer.close()
    await asyncio.sleep(1)


async def statements(front):
    statement = random.choice(STATEMENTS)
    path = "/api/v3/query_sql?timeout_ms=10000&format=" + random.choice(
        ["json", "csv", "arrow", "pretty"]
    )
    status = await front.post(
        front.any_http(), path, statement.encode(), ["Content-Type: text/plain"], 60
    )
    front.count("statements", f"{STATEMENTS.index(statement)} {status}")


async def unread_answers(front):
    held = []
    port = front.any_http()
    sql = b"SELECT a.topic || repeat('x', 10000) FROM fleet a, fleet b"
    for _ in range(300):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        head = (
            "POST /api/v3/query_sql HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Length: {len(sql)}\r\nContent-Type: text/plain\r\n\r\n"
        )
        await asyncio.get_running_loop().sock_sendall(raw, head.encode() + sql)
        held.append(raw)
    await asyncio.sleep(15)
    for raw in held:
        raw.close()


async def idle_http(front):
    held = []
    port = front.any_http()
    for _ in range(1_100):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            random.choice([b"", b"G", b"GET /health HTTP/1.1\r\nHost: x", b"POST / HTTP/1.1\r\n"])
        )
        held.append(writer)
    await asyncio.sleep(20)
    for writer in held:
        writer.close()


async def large_bodies(front):
    body = b"SELECT '" + b"x" * (4 << 20) + b"'"
    wanted = [
        front.post(front.any_http(), "/api/v3/query_sql", body, ["Content-Type: text/plain"])
        for _ in range(50)
    ]
    await asyncio.gather(*wanted, return_exceptions=True)
    bomb = gzip.compress(b"m,t=1 v=1\n" * 3_000_000)
    await front.post(front.http[0], "/api/v2/write", bomb, ["Content-Encoding: gzip"])


async def web_pages(front):
    for headers in (
        ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"],
        ["Host: evil.example"],
    ):
        for path in ("/api/v3/query_sql", "/api/v1/ingest/fleet", "/api/v1/verify"):
            await front.post(front.any_http(), path, b"{}", ["Content-Type: text/plain", *headers])


async def reports(front):
    for path in ("/api/v1/digest", "/api/v1/verify", "/api/v1/status", "/metrics"):
        reader, writer = await asyncio.open_connection("127.0.0.1", front.any_http())
        for _ in range(50):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await asyncio.sleep(1)
        writer.close()


async def half_quic(front):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(500):
        first = b"\xc3\0\0\0\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\0"
        sender.sendto(first + os.urandom(1200 - len(first)), ("127.0.0.1", front.ship))
        await asyncio.sleep(0.002)
    sender.close()


ATTACKS = [
    new_fields,
    new_tables,
    names_over_http,
    dead_letters,
    headers_in_text,
    times,
    empty_lines,
    idle_devices,
    half_packets,
    aliases,
    not_reading_mqtt,
    garbage_mqtt,
    statements,
    unread_answers,
    idle_http,
    large_bodies,
    web_pages,
    reports,
    half_quic,
]


async def again(front, attack):
    name = attack.__name__
    while time.monotonic() < front.end:
        try:
            await asyncio.wait_for(attack(front), 120)
            front.count(name)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            front.count(name, type(error).__name__)
        await asyncio.sleep(1)


async def main(front, names, out):
    chosen = [attack for attack in ATTACKS if not names or attack.__name__ in names]
    loops = [again(front, attack) for attack in chosen]
    await asyncio.wait(
        [asyncio.ensure_future(loop) for loop in loops], timeout=front.end - time.monotonic()
    )
    with open(out, "w") as file:
        json.dump(front.counts, file)


if __name__ == "__main__":
    doors = Front(
        int(sys.argv[1]),
        [int(port) for port in sys.argv[2].split(",")],
        int(sys.argv[3]),
        float(sys.argv[4]),
    )
    asyncio.run(main(doors, sys.argv[6:], sys.argv[5]))
