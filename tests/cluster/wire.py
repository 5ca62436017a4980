"""PostgreSQL's protocol by hand: what comes back to a password, byte for byte."""

import base64
import hashlib
import hmac
import os
import socket
import struct


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


class Wire:
    """A connection that has sent its startup packet."""

    def __init__(self, cluster, user, dbname="postgres", local=False, source="127.0.0.1", **options):
        if local:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(f"{cluster.dir}/.s.PGSQL.{cluster.port}")
        else:
            self.socket = socket.create_connection(("127.0.0.1", cluster.port), source_address=(source, 0))
        self.socket.settimeout(20)
        self.user_name = user
        pairs = {"user": user, "database": dbname, **options}
        body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in pairs.items()) + b"\0"
        self.socket.sendall(struct.pack("!II", len(body) + 8, 196608) + body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def exactly(self, n):
        got = b""
        while len(got) < n:
            part = self.socket.recv(n - len(got))
            if not part:
                raise EOFError
            got += part
        return got

    def read(self):
        """The next message: its kind and body."""
        kind = self.exactly(1)
        return kind, self.exactly(struct.unpack("!I", self.exactly(4))[0] - 4)

    def send(self, kind, body):
        self.socket.sendall(message(kind, body))

    def until(self, *kinds):
        """Reads to one of these messages; returns all that came."""
        got = []
        while not got or got[-1][0] not in kinds:
            got.append(self.read())
        return got

    def log_in(self, password):
        """Answers whatever is asked for with this password; returns the messages from there on, up to the end."""
        kind, body = self.read()
        if kind == b"v":  # what it does not know of the protocol
            kind, body = self.read()
        if kind != b"R":
            return [(kind, body)]
        asked = struct.unpack("!I", body[:4])[0]
        if asked == 0:
            return [(kind, body)]
        if asked == 3:
            self.send(b"p", password.encode() + b"\0")
        elif asked == 5:
            self.send(b"p", md5_response(self.user_name, password, body[4:8]))
        elif asked == 10:
            failed = self.scram(password)
            if failed:
                return failed
        return self.to_end()

    def scram(self, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = ("n,," + bare).encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
        kind, body = self.read()
        if kind == b"E":
            return [(kind, body)]
        server = body[4:].decode()
        fields = dict(part.split("=", 1) for part in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        mac = lambda key, text: hmac.new(key, text, "sha256").digest()
        client_key = mac(salted, b"Client Key")
        without_proof = f"c=biws,r={fields['r']}"
        auth = f"{bare},{server},{without_proof}".encode()
        signature = mac(hashlib.sha256(client_key).digest(), auth)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        self.send(b"p", f"{without_proof},p={proof}".encode())
        return None

    def to_end(self):
        got = []
        try:
            while True:
                got.append(self.read())
                if got[-1][0] == b"Z":
                    return got
        except (EOFError, ConnectionError):
            return got

    def query(self, sql):
        """One simple query; the messages up to ReadyForQuery, or the end of the session."""
        self.send(b"Q", sql.encode() + b"\0")
        return self.to_end()


def md5_response(user, password, salt):
    inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0"


def fields(body):
    """The fields of an error."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def try_password(cluster, user, password, **options):
    """All that comes back after a login's first request: [(kind, body), …]."""
    with Wire(cluster, user, **options) as wire:
        return wire.log_in(password)


def is_in(messages):
    """Whether the login succeeded."""
    return any(kind == b"Z" for kind, _ in messages)
