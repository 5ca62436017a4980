"""AWS KMS on loopback: moto's server, and a proxy in front of it that counts calls and goes wrong on demand."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REGION = "eu-west-1"
# moto takes any; the server finds them in its environment, as the SDK's ordinary chain does.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDTEST",
    "AWS_SECRET_ACCESS_KEY": "SECRETTEST",
    "AWS_EC2_METADATA_DISABLED": "true",
}
HINT = "moto_server is missing: make test installs it (tests/kms/requirements.txt), or set PGPCI_MOTO"


class Moto:
    """The emulator, with a wrapping key `alias/cards` and another one `alias/cards-2`."""

    def __init__(self):
        program = Path(os.environ.get("PGPCI_MOTO", Path(sys.executable).parent / "moto_server"))
        if not program.exists():
            raise RuntimeError(HINT)
        self.process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", "0"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for line in self.process.stderr:
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                break
        else:
            raise RuntimeError("moto_server did not say where it listens")
        # It logs every request, and must not wait for somebody to read it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.keys = [self.new_key("alias/cards"), self.new_key("alias/cards-2")]

    def call(self, operation, **body):
        """What an administrator does in KMS, and pgpci never."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {
            "X-Amz-Target": f"TrentService.{operation}", "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20260101/{REGION}/kms/aws4_request",
        }
        connection.request("POST", "/", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == 200, (operation, text)
        return json.loads(text) if text else None

    def new_key(self, alias):
        key = self.call("CreateKey", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"]
        self.call("CreateAlias", AliasName=alias, TargetKeyId=key)
        return key

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Fault:
    """What a request meets instead of KMS."""

    def __init__(self, status=None, code=None, message="", body=None, delay=0):
        self.status, self.delay = status, delay
        self.body = body if body is not None else json.dumps({"__type": code, "message": message}).encode()


SLOW = Fault(delay=10)
THROTTLED = Fault(400, "ThrottlingException", "Rate exceeded")
DISABLED = Fault(400, "DisabledException", "arn:aws:kms:eu-west-1:111122223333:key/1 is disabled.")
DENIED = Fault(400, "AccessDeniedException", "User is not authorized to perform: kms:Decrypt")
GARBAGE = Fault(200, body=b"<html>welcome</html>")
EXPIRED = Fault(400, "ExpiredTokenException", "The security token TOKENSECRET is expired")


class Proxy:
    """Forwards to moto. `fault` is what every request of `only` meets instead; None: nothing goes wrong."""

    def __init__(self, upstream):
        self.upstream, self.fault, self.only, self.delay = upstream, None, None, 0
        self.calls, self.logins = [], []
        # When each of the calls arrived and when its answer had left, by the monotonic clock.
        self.times = []
        self.port = 0
        self._lock = threading.Lock()
        self._server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Listens, on the same port as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one segment: else the other side's delayed acknowledgement costs 40 ms.
            wbufsize = -1
            disable_nagle_algorithm = True

            def parse_request(self):
                self.began = time.monotonic()
                return super().parse_request()

            def do_POST(self):
                proxy.serve(self)
                if not self.is_login:
                    with proxy._lock:
                        proxy.times.append((self.began, time.monotonic()))

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_):
                """A client that gives up is no failure of the proxy."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Nobody answers there any more."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def forget_calls(self):
        with self._lock:
            self.calls, self.logins, self.times = [], [], []

    def took(self):
        """Seconds from the arrival of the first call to the end of the last answer."""
        times = self._settled()
        return max(ended for _, ended in times) - min(began for began, _ in times)

    def were_at_once(self):
        """Whether all calls had arrived before the first was answered."""
        times = self._settled()
        return max(began for began, _ in times) < min(ended for _, ended in times)

    def _settled(self):
        """The times of all calls: what was answered is noted a moment later."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with self._lock:
                if len(self.times) == len(self.calls):
                    return list(self.times)
            time.sleep(0.001)
        raise AssertionError(f"{len(self.calls)} calls, {len(self.times)} answered")

    def decrypts(self):
        """The data keys that were asked for, in the order of the calls."""
        with self._lock:
            return [key for operation, key, *_ in self.calls if operation == "Decrypt"]

    def purposes(self):
        """What the keys that were asked for are for, sorted."""
        with self._lock:
            return sorted(purpose for *_, purpose in self.calls)

    def serve(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        operation = request.headers["X-Amz-Target"].rsplit(".", 1)[1]
        region = request.headers["Authorization"].split("/")[2]
        asked = json.loads(body)
        context = asked.get("EncryptionContext") or asked.get("SourceEncryptionContext") or {}
        with self._lock:
            # Logins ask for the key of accounts in the background, whatever else is done.
            request.is_login = operation == "Decrypt" and context.get("pgpci:purpose") == "account"
            (self.logins if request.is_login else self.calls).append((operation, context.get("pgpci:key"), region, context.get("pgpci:purpose")))
            fault = self.fault if self.only is None or operation in self.only else None
        time.sleep(self.delay)
        if fault:
            time.sleep(fault.delay)
        if self._server is None or fault and fault.status == 0:
            request.close_connection = True
            return
        if fault and fault.status:
            return self.answer(request, fault.status, fault.body)
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream.port)
        names = ("X-Amz-Target", "Authorization", "Content-Type")
        connection.request("POST", "/", body, {name: request.headers[name] for name in names})
        answer = connection.getresponse()
        self.answer(request, answer.status, answer.read())
        connection.close()

    @staticmethod
    def answer(request, status, body):
        request.send_response(status)
        request.send_header("Content-Type", "application/x-amz-json-1.1")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()
