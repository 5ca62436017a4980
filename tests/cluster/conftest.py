"""Private clusters with pgpci, seen from outside."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import psycopg.sql
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_SH = ROOT / "scripts" / "cluster.sh"
PG_CONFIG = os.environ.get("PG_CONFIG", "pg_config")
BIN = Path(subprocess.run([PG_CONFIG, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
MAJOR = int(subprocess.run([BIN / "postgres", "--version"], check=True, capture_output=True, text=True).stdout.split()[2].split(".")[0])

VISA = "4111111111111111"
VISA_2 = "4012888888881881"
VISA_3 = "4242424242424242"
MASTERCARD = "5555555555554444"
MASTERCARD_2 = "5105105105105100"
AMEX = "378282246310005"
AMEX_2 = "371449635398431"
DISCOVER = "6011111111111117"

# id, card number, mask
PAYMENTS = [
    (1, VISA, "411111******1111"),
    (2, MASTERCARD, "555555******4444"),
    (3, AMEX, "378282*****0005"),
    (4, DISCOVER, "601111******1117"),
]

ROLES = """
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE cy LOGIN; CREATE ROLE di LOGIN;
CREATE ROLE eve LOGIN; CREATE ROLE fay LOGIN;
CREATE ROLE app LOGIN; CREATE ROLE look LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE "full" LOGIN;
CREATE ROLE plain LOGIN; CREATE ROLE owner LOGIN;
CREATE ROLE backup LOGIN REPLICATION IN ROLE pg_read_all_data;
"""

GRANTS = {
    "app": ["store"],
    "owner": ["store"],
    "postgres": ["store"],
    "look": ["search"],
    "clerk": ["reveal"],
    "backup": ["export"],
    "full": ["store", "search", "reveal", "export"],
}

SCHEMA = """
CREATE TABLE payments(id bigint PRIMARY KEY, card pci.pan UNIQUE, amount int);
GRANT ALL ON payments TO app, look, clerk, "full", plain, owner;
CREATE SCHEMA app AUTHORIZATION app; CREATE SCHEMA look AUTHORIZATION look;
CREATE SCHEMA "full" AUTHORIZATION "full"; CREATE SCHEMA owner AUTHORIZATION owner;
CREATE SCHEMA postgres;
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def as_server(command):
    """The command, to be run as the user that servers run as."""
    command = [str(c) for c in command]
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *command]


class Cluster:
    def __init__(self, conf=(), key=True, fsync=False):
        self.dir = Path(tempfile.mkdtemp(prefix="pgpci-test-", dir="/tmp"))
        self.port = free_port()
        self.conf = list(conf) + ([] if fsync else ["fsync = off"])
        self.key = key
        # Runs in the process that becomes the server, before anything else there.
        self.before_start = None
        # What the server's environment has besides ours.
        self.env = {}
        # Names another PostgreSQL's pg_config than PG_CONFIG.
        self.pg_config = PG_CONFIG

    @property
    def data(self):
        return self.dir / "data"

    @property
    def key_file(self):
        return self.dir / "data.pgpci" / "local.key"

    @property
    def log(self):
        return (self.dir / "server.log").read_text(errors="replace")

    @property
    def postmaster(self):
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def _script(self, action, conf=(), **env):
        env = {**os.environ, **self.env, "PG_CONFIG": str(self.pg_config), "KEY": "yes" if self.key else "no", **env}
        # The server inherits what it is started with: a pipe would stay open as long as it runs.
        done = subprocess.run(
            [CLUSTER_SH, action, self.dir, str(self.port), *conf],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=120,
            preexec_fn=self.before_start,
        )
        if done.returncode != 0:
            log = self.log if (self.dir / "server.log").exists() else "no server log"
            raise RuntimeError(f"cluster.sh {action} failed:\n{log[-4000:]}")

    def start(self):
        self._script("start", self.conf)
        return self

    def stop(self, mode="fast"):
        self._script("stop", MODE=mode)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def configure(self, *lines, reload=True):
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write("\n".join(lines) + "\n")
        if reload:
            self.execute("SELECT pg_reload_conf()")

    def destroy(self):
        self.stop("immediate")
        shutil.rmtree(self.dir, ignore_errors=True)

    def connect(self, user="postgres", dbname="postgres", **kwargs):
        kwargs.setdefault("autocommit", True)
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, dbname=dbname, connect_timeout=10, **kwargs
        )

    def execute(self, sql, params=None, user="postgres", dbname="postgres"):
        """Runs one statement, or several without parameters, in a connection of its own; the last one's rows."""
        with self.connect(user, dbname) as conn:
            cursor = conn.execute(sql, params)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, params=None, user="postgres", dbname="postgres"):
        return self.execute(sql, params, user, dbname)[0][0]

    def run(self, program, *args, user="postgres", dbname="postgres", check=True, input=None, **env):
        """A client program of PostgreSQL."""
        text = {} if isinstance(input, bytes) else {"text": True}
        done = subprocess.run(
            [BIN / program, *map(str, args)],
            env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": user,
                 "PGDATABASE": dbname, **env},
            input=input, stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True, timeout=120, **text,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{program} {args} failed: {done.stderr}")
        return done

    def psql(self, sql, user="postgres", dbname="postgres", check=True, **env):
        return self.run("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose",
                        user=user, dbname=dbname, check=check, input=sql, **env)

    def create_roles(self):
        self.execute(ROLES)
        return self

    def set_up(self):
        """Roles, pgpci with its duties and grants, and a table of payments."""
        self.create_roles()
        self.execute("CREATE EXTENSION pgpci")
        self.execute("SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,fay}')")
        with self.connect("ann") as asks, self.connect("bob") as approves:
            for role, capabilities in GRANTS.items():
                for capability in capabilities:
                    self.grant(role, capability, asks=asks, approves=approves)
        self.execute(SCHEMA)
        with self.connect("full") as conn:
            for row in PAYMENTS:
                conn.execute("INSERT INTO payments VALUES (%s, %s, 100)", row[:2])
        return self

    def grant(self, role, capability, asks=None, approves=None, dbname="postgres", vault="default", **limits):
        """Officer ann grants, with SQL expressions as limits; what is a request officer bob approves."""
        named = "".join(f", {name} => {value}" for name, value in limits.items())
        quoted = psycopg.sql.Identifier(role).as_string()
        sql = f"SELECT pci.grant_access($${quoted}$$::regrole, '{vault}', '{capability}'{named})"
        with contextlib.ExitStack() as stack:
            asks = asks or stack.enter_context(self.connect("ann", dbname))
            request = asks.execute(sql).fetchone()[0]
            if request is not None:
                approves = approves or stack.enter_context(self.connect("bob", dbname))
                approves.execute("SELECT pci.approve(%s)", (request,))
        return request

    def reveals(self, table="payments", dbname="postgres", user="full"):
        return self.execute(f"SELECT id, pci.reveal(card) FROM {table} ORDER BY id", user=user, dbname=dbname)


CLEAR = [(i, card) for i, card, _ in PAYMENTS]
MASKED = [(i, mask) for i, _, mask in PAYMENTS]


@pytest.fixture(scope="session")
def cluster():
    one = Cluster()
    try:
        yield one.start().set_up()
    finally:
        one.destroy()


@pytest.fixture(scope="module")
def module_cluster():
    """Like `fresh_cluster`, for all tests of a file."""
    yield from _factory()


@pytest.fixture
def fresh_cluster():
    """Makes clusters: fresh_cluster('conf line', set_up=True, key=True). All are removed at the end."""
    yield from _factory()


def _factory():
    made = []

    def make(*conf, set_up=True, key=True, start=True):
        one = Cluster(conf, key)
        made.append(one)
        if start:
            one.start()
        return one.set_up() if set_up and start else one

    try:
        yield make
    finally:
        for one in made:
            one.destroy()
