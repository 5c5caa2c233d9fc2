#!/usr/bin/env python3
"""Those who mean well: devices that publish a row a second each and remember what was acknowledged,
and dashboards that ask ten times a second. Writes what they met to a file; judges nothing.

    honest.py MQTT_PORT HTTP_PORT,HTTP_PORT DEVICES QUERIES_PER_S SECONDS OUT
"""

import asyncio
import json
import random
import struct
import sys
import time

import mqtt


class Met:
    """What happened to them."""

    def __init__(self):
        self.acked = {}
        self.sent = 0
        self.acks, self.answers = [], []
        self.lost_connections, self.refused = {}, {}

    def count(self, where, what):
        where[what] = where.get(what, 0) + 1


async def device(name, port, met, end):
    acked = met.acked.setdefault(name, [])
    seq, pending = 0, None
    await asyncio.sleep(random.random())
    while time.monotonic() < end:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(mqtt.connect(name))
            kind, _ = await asyncio.wait_for(mqtt.read(reader), 30)
            while time.monotonic() < end:
                # What was not acknowledged is sent again, as devices do.
                if pending is None:
                    seq += 1
                    pending = seq
                begun = time.monotonic()
                row = json.dumps({"seq": pending, "value": random.random()}).encode()
                writer.write(mqtt.publish(f"fleet/{name}", row, 1 + pending % 60000))
                met.sent += 1
                kind, body = await asyncio.wait_for(mqtt.read(reader), 60)
                if kind == 0x40 and struct.unpack(">H", body[:2])[0] == 1 + pending % 60000:
                    met.acks.append(time.monotonic() - begun)
                    acked.append(pending)
                    pending = None
                await asyncio.sleep(max(0.0, begun + 1 - time.monotonic()))
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            met.count(met.lost_connections, type(error).__name__)
            await asyncio.sleep(0.5)
        finally:
            if writer:
                writer.close()


async def ask(port, statement, met):
    begun = time.monotonic()
    body = statement.encode()
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /api/v3/query_sql?format=json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.read(1 << 20), 60)
        status = answer[9:12].decode()
        if status == "200":
            met.answers.append(time.monotonic() - begun)
        else:
            met.count(met.refused, status)
    except (OSError, asyncio.TimeoutError) as error:
        met.count(met.refused, type(error).__name__)
    finally:
        if writer:
            writer.close()


async def dashboards(ports, devices, rate, met, end):
    statements = [
        "SELECT count(*) AS n, max(seq) AS last FROM fleet WHERE topic = 'fleet/{}'",
        "SELECT topic, max(time) AS last FROM fleet GROUP BY topic ORDER BY topic LIMIT 5 -- {}",
        "SELECT * FROM fleet WHERE topic = 'fleet/{}' ORDER BY time DESC LIMIT 10",
        "SELECT date_bin(INTERVAL '1 minute', time) AS t, avg(value) AS v FROM fleet"
        " WHERE topic = 'fleet/{}' GROUP BY 1 ORDER BY 1 DESC LIMIT 10",
    ]
    asked = []
    at = 0
    while time.monotonic() < end:
        statement = statements[at // len(ports) % len(statements)]
        statement = statement.format(f"device-{random.randrange(devices)}")
        asked.append(asyncio.ensure_future(ask(ports[at % len(ports)], statement, met)))
        at += 1
        asked = [task for task in asked if not task.done()]
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*asked)


async def main(port, ports, devices, rate, seconds, out):
    met = Met()
    end = time.monotonic() + seconds
    fleet = [device(f"device-{n}", port, met, end) for n in range(devices)]
    await asyncio.gather(*fleet, dashboards(ports, devices, rate, met, end))
    with open(out, "w") as file:
        json.dump(vars(met), file)


if __name__ == "__main__":
    asyncio.run(
        main(
            int(sys.argv[1]),
            [int(port) for port in sys.argv[2].split(",")],
            int(sys.argv[3]),
            float(sys.argv[4]),
            float(sys.argv[5]),
            sys.argv[6],
        )
    )
