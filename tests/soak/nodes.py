"""A primary and a secondary as processes of the released program, on free ports of loopback, in a
folder of their own; and what the system says of their memory."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request


class Node:
    """One process. It must be stopped, or killed, by whoever made it."""

    def __init__(self, program, folder, name, conf, http):
        self.program, self.folder, self.name, self.http = program, folder, name, http
        self.conf = os.path.join(folder, f"{name}.toml")
        with open(self.conf, "w") as file:
            file.write(conf)
        self.log_path = os.path.join(folder, f"{name}.log")
        self.process = None

    def start(self):
        log = open(self.log_path, "a")
        arguments = [self.program, "serve", "--conf", self.conf]
        self.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        self.wait(lambda: self.get("/ready")[0] == 200, 60, "is not ready")

    def wait(self, true, seconds, what):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(
                    f"{self.name} has ended with {self.process.returncode}: {self.tail()}"
                )
            try:
                if true():
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"{self.name} {what} within {seconds} s: {self.tail()}")

    def get(self, path, timeout=30):
        url = f"http://127.0.0.1:{self.http}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def sql(self, statement, timeout=60):
        url = f"http://127.0.0.1:{self.http}/api/v3/query_sql?format=json"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, statement.encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read())

    def status(self):
        return json.loads(self.get("/api/v1/status")[1])

    def lives(self):
        return self.process.poll() is None

    def peak(self):
        """The most memory that was resident, in bytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
        return 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tail(self, count=15):
        with open(self.log_path, errors="replace") as log:
            return "\n" + "".join(log.readlines()[-count:])


def free_ports(tcp, udp):
    kinds = [socket.SOCK_STREAM] * tcp + [socket.SOCK_DGRAM] * udp
    sockets = [socket.socket(socket.AF_INET, kind) for kind in kinds]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cluster(program, folder, limit):
    """A primary and its secondary, not started yet, and the port where devices publish."""
    mqtt, primary, secondary, ship = free_ports(3, 1)
    certs = os.path.join(folder, "certs")
    for arguments in (["init", certs], ["node", certs, "p"], ["node", certs, "s"]):
        subprocess.run([program, "certs", *arguments], check=True, capture_output=True)
    limits = f'memory_limit = "{limit >> 20} MiB"\n'
    log = '[log]\nreserve_disk = "64 MiB"\nsegment_size = "8 MiB"\n'
    first = (
        f'[node]\nrole = "primary"\nname = "p"\ndata_dir = "{folder}/p"\n{limits}'
        f'[mqtt]\nlisten = "127.0.0.1:{mqtt}"\n[http]\nlisten = "127.0.0.1:{primary}"\n'
        f'[replication]\nlisten = "127.0.0.1:{ship}"\ncerts = "{certs}/p"\n{log}'
    )
    second = (
        f'[node]\nrole = "secondary"\nname = "s"\ndata_dir = "{folder}/s"\n{limits}'
        f'[replication]\nupstream = "127.0.0.1:{ship}"\ncerts = "{certs}/s"\n'
        f'[http]\nlisten = "127.0.0.1:{secondary}"\n[log]\nreserve_disk = "64 MiB"\n'
    )
    nodes = [
        Node(program, folder, "p", first, primary),
        Node(program, folder, "s", second, secondary),
    ]
    return nodes, mqtt, ship
