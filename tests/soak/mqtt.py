"""As much of MQTT as devices and attackers need: packets as bytes, whole or not."""

import struct


def varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, body):
    return bytes([kind]) + varint(len(body)) + body


def connect(client, keep_alive=60, version=4):
    properties = b"\0" if version == 5 else b""
    body = text("MQTT") + bytes([version, 2]) + struct.pack(">H", keep_alive) + properties
    return packet(0x10, body + text(client))


def publish(topic, payload, number=None, alias=None, version=4):
    body = text(topic)
    if number is not None:
        body += struct.pack(">H", number)
    if version == 5:
        properties = b"" if alias is None else b"\x23" + struct.pack(">H", alias)
        body += varint(len(properties)) + properties
    return packet(0x30 if number is None else 0x32, body + payload)


async def read(reader):
    """Kind and body of the next packet."""
    kind = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)
