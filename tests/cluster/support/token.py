"""An HSM: a SoftHSM token in a directory of its own, made by the tools that an administrator uses."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

LABEL = "cards"
PIN = "12341234"
SO_PIN = "56785678"
KEK = "cards-2026"
HINT = "is missing: make test installs it (scripts/setup.sh test)"


def _find(name, *directories):
    for directory in directories:
        for path in sorted(Path("/usr/lib").glob(f"{directory}/{name}")):
            return path
    raise RuntimeError(f"{name} {HINT}")


class Token:
    def __init__(self):
        for program in ("softhsm2-util", "pkcs11-tool"):
            if not shutil.which(program):
                raise RuntimeError(f"{program} {HINT}")
        self.module = _find("libsofthsm2.so", "softhsm", "*/softhsm")
        # Logs every call to the module behind it.
        self.spy = _find("pkcs11-spy.so", "*/pkcs11", "pkcs11", "*", ".")
        self.dir = Path(tempfile.mkdtemp(prefix="pgpci-token-", dir="/tmp"))
        (self.dir / "tokens").mkdir()
        (self.dir / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.dir}/tokens\nobjectstore.backend = file\n")
        self._tool("softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", SO_PIN, "--pin", PIN)
        self._tool("pkcs11-tool", "--module", self.module, "--token-label", LABEL, "--login", "--pin", PIN,
                   "--keygen", "--key-type", "AES:32", "--sensitive", "--label", KEK)
        self.write_pin(PIN)
        self.give_to_server()

    @property
    def environment(self):
        return {
            "SOFTHSM2_CONF": str(self.dir / "softhsm2.conf"),
            "PKCS11SPY": str(self.module),
            "PKCS11SPY_OUTPUT": str(self.dir / "spy"),
        }

    @property
    def pin_file(self):
        return self.dir / "pin"

    @property
    def settings(self):
        return [f"pgpci.pkcs11_module = '{self.spy}'", f"pgpci.pkcs11_token = '{LABEL}'",
                f"pgpci.pkcs11_pin_file = '{self.pin_file}'"]

    def calls(self, function):
        """How often the module was called by this name."""
        spy = self.dir / "spy"
        lines = spy.read_text(errors="replace").splitlines() if spy.exists() else []
        return sum(line.endswith(f": {function}") for line in lines)

    def write_pin(self, pin):
        self.pin_file.write_text(f"{pin}\n")
        self.pin_file.chmod(0o600)
        self.give_to_server()

    def remove(self):
        """The token is taken out."""
        (self.dir / "tokens").rename(self.dir / "aside")
        (self.dir / "tokens").mkdir()
        self.give_to_server()

    def put_back(self):
        shutil.rmtree(self.dir / "tokens")
        (self.dir / "aside").rename(self.dir / "tokens")

    def give_to_server(self):
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres:postgres", self.dir], check=True)

    def destroy(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def _tool(self, *command):
        subprocess.run([str(c) for c in command], check=True, capture_output=True,
                       env={**os.environ, "SOFTHSM2_CONF": str(self.dir / "softhsm2.conf")})
