"""Publishes numbered messages with paho at QoS 1 and notes each number once it is acknowledged.

One thread, so that an acknowledgement can never be seen before its publish. Exits 0 when all are
acknowledged, 3 when the connection ends before that. It never connects twice: what was in flight
when a server died is neither acknowledged nor denied.
"""

import argparse
import sys
import time

import paho.mqtt.client as mqtt

WINDOW = 200
CONNECT_TIMEOUT_S = 10


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=["311", "5"], required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--acknowledged", required=True, help="file of acknowledged numbers")
    return parser.parse_args()


def main():
    args = arguments()
    protocol = mqtt.MQTTv5 if args.protocol == "5" else mqtt.MQTTv311
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=f"e2e-{args.protocol}-{args.first}",
        protocol=protocol,
    )
    client.max_inflight_messages_set(WINDOW)
    pending = {}
    refused = []
    with open(args.acknowledged, "a", encoding="ascii") as acknowledged:

        def on_publish(_client, _userdata, mid, reason, _properties):
            number = pending.pop(mid)
            if reason.is_failure:
                refused.append(number)
            else:
                acknowledged.write(f"{number}\n")
                acknowledged.flush()

        client.on_publish = on_publish
        client.connect("127.0.0.1", args.port)
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not client.is_connected():
            if client.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS or time.monotonic() > deadline:
                return 3
        next_number, end = args.first, args.first + args.count
        while next_number < end or pending:
            while next_number < end and len(pending) < WINDOW:
                payload = f'{{"n": {next_number}, "value": {next_number / 4:.2f}}}'
                info = client.publish(args.topic, payload, qos=1)
                if info.rc != mqtt.MQTT_ERR_SUCCESS:
                    return 3
                pending[info.mid] = next_number
                next_number += 1
            if client.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS:
                return 3
    client.disconnect()
    if refused:
        print(f"refused: {refused[:10]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
