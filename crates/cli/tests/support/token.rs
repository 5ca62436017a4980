//! A SoftHSM token in a directory of its own, made by the tools that an administrator uses.
#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Keyd, pgpci};

pub const LABEL: &str = "cards";
pub const PIN: &str = "12341234";
const SO_PIN: &str = "56785678";

/// Debian's softhsm2.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Logs every call to the module behind it; of Debian's opensc-pkcs11.
pub const SPY: &str = "pkcs11-spy.so";

pub struct Token {
    directory: tempfile::TempDir,
}

impl Token {
    /// A token with the keys `cards-2026` and `cards-2027`, and a PIN file.
    pub fn new() -> Token {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let token = Token { directory };
        fs::create_dir(token.at("tokens")).expect("a directory");
        let tokens = token.at("tokens");
        let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        fs::write(token.at("softhsm2.conf"), conf).expect("written");
        token.initialize(LABEL);
        token.make_key("cards-2026", &["--key-type", "AES:32", "--sensitive"]);
        token.make_key("cards-2027", &["--key-type", "AES:32", "--sensitive"]);
        token.write_pin(PIN);
        token
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Another token in the same directory.
    pub fn initialize(&self, label: &str) {
        let arguments = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN];
        self.tool("softhsm2-util", &arguments);
    }

    pub fn make_key(&self, label: &str, options: &[&str]) {
        let token = ["--module", SOFTHSM, "--token-label", LABEL, "--login", "--pin", PIN];
        let key = ["--keygen", "--label", label];
        self.tool("pkcs11-tool", &[&token[..], &key, options].concat());
    }

    pub fn write_pin(&self, pin: &str) {
        let path = self.at("pin");
        fs::write(&path, format!("{pin}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// `pgpci keyd` with this token, by `module`.
    pub fn keyd(&self, module: &Path) -> Command {
        let mut command = pgpci();
        command.env("SOFTHSM2_CONF", self.at("softhsm2.conf"));
        command.arg("keyd").arg("--pkcs11-module").arg(module);
        command.args(["--pkcs11-token", LABEL]).arg("--pkcs11-pin-file").arg(self.at("pin"));
        command.arg("--local-key-file").arg(self.at("local.key"));
        command
    }

    pub fn start(&self) -> Keyd {
        Keyd::spawn(self.keyd(Path::new(SOFTHSM)))
    }

    /// The same, with every call to the module in the file `spy`.
    pub fn start_spied(&self) -> Keyd {
        let directories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
        let spy = directories.map(|directory| Path::new(directory).join("pkcs11").join(SPY));
        let spy = spy.iter().find(|path| path.exists()).expect("opensc: scripts/setup.sh test installs it");
        let mut command = self.keyd(spy);
        command.env("PKCS11SPY", SOFTHSM).env("PKCS11SPY_OUTPUT", self.at("spy"));
        Keyd::spawn(command)
    }

    /// How often the module was called by this name.
    pub fn calls(&self, function: &str) -> usize {
        let log = fs::read_to_string(self.at("spy")).unwrap_or_default();
        log.lines().filter(|line| line.ends_with(&format!(": {function}"))).count()
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.at("softhsm2.conf"))
            .output()
            .unwrap_or_else(|_| panic!("{program}: scripts/setup.sh test installs it"));
        assert!(output.status.success(), "{program}: {output:?}");
    }
}
