"""Python paho over TCP and WebSocket: each level, QoS 0 to 2, a lasting session.

Usage: python_client.py PORT WEBSOCKET-PORT
"""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def make(client_id, level, transport, clean):
    kind = {"protocol": level, "transport": transport}
    if level != mqtt.MQTTv5:
        kind["clean_session"] = clean
    if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, client_id, **kind)
    else:
        client = mqtt.Client(client_id, **kind)
    client.got, client.up, client.granted = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_message = lambda c, u, m: c.got.put(m)
    client.on_connect = lambda c, u, flags, rc, *p: c.up.put((flags["session present"], rc))
    client.on_subscribe = lambda c, u, mid, granted, *p: c.granted.put(granted)
    return client


def connect(client, port, level, clean):
    if level == mqtt.MQTTv5:
        props = Properties(PacketTypes.CONNECT)
        props.SessionExpiryInterval = 600
        client.connect("127.0.0.1", port, keepalive=60, clean_start=clean, properties=props)
    else:
        client.connect("127.0.0.1", port, keepalive=60)
    client.loop_start()
    present, rc = client.up.get(timeout=5)
    assert rc == 0, rc
    return present


def leave(client):
    client.disconnect()
    client.loop_stop()


def play(level, transport, port, tcp):
    name = f"py-{transport}-{level}"
    client = make(name, level, transport, False)
    connect(client, port, level, False)
    client.subscribe(name, 2)
    client.granted.get(timeout=5)
    for qos in range(3):
        client.publish(name, f"m{qos}", qos).wait_for_publish(5)
        m = client.got.get(timeout=5)
        assert (m.topic, m.payload, m.qos) == (name, f"m{qos}".encode(), qos), m
    leave(client)
    other = make("", mqtt.MQTTv311, "tcp", True)
    connect(other, tcp, mqtt.MQTTv311, True)
    other.publish(name, "missed", 1).wait_for_publish(5)
    leave(other)
    client = make(name, level, transport, False)
    present = connect(client, port, level, False)
    assert present or level == mqtt.MQTTv31
    assert client.got.get(timeout=5).payload == b"missed"
    leave(client)
    print("ok", transport, int(level))


for transport, port in (("tcp", int(sys.argv[1])), ("websockets", int(sys.argv[2]))):
    for level in (mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5):
        play(level, transport, port, int(sys.argv[1]))
