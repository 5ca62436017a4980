//! The memory that `pgpci keyd` locks, under the limits that servers have, as an ordinary user.

#[path = "../../kms/tests/support/mod.rs"]
mod services;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use pgpci_core::wire::{Op, Outcome};
use pgpci_kms::keyfile;
use services::moto::{self, REGION, new_key};
use support::{Keyd, context};

/// The user "nobody", for tests that run as root.
const NOBODY: u32 = 65534;

/// A keyd with a key file and KMS, under a limit in KiB of locked memory.
struct Limited {
    keyd: Keyd,
    _directory: tempfile::TempDir,
}

impl Limited {
    /// As this user, or as an ordinary one.
    fn start(limit: &str, is_ordinary: bool) -> Limited {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let is_root = fs::metadata("/proc/self").expect("metadata").uid() == 0;
        // Where it was built, others may not go.
        let built = env!("CARGO_BIN_EXE_pgpci");
        if fs::hard_link(built, at("pgpci")).is_err() {
            fs::copy(built, at("pgpci")).expect("a copy");
        }
        keyfile::create(&at("local.key")).expect("a key file");
        let mut script = format!("ulimit -l {limit} && exec ");
        if is_root && is_ordinary {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
            chown(at("local.key"), Some(NOBODY), Some(NOBODY)).expect("chown");
            script += &format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups ");
        }
        script += r#""$0" "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(at("pgpci")).args(["keyd", "--local-key-file"]);
        command.arg(at("local.key")).args(["--aws-region", REGION, "--aws-endpoint-url", moto::url()]);
        command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "secret");
        Limited { keyd: Keyd::spawn(command), _directory: directory }
    }

    /// Bytes that are locked.
    fn locked(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.keyd.child.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("VmLck");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Enough requests for more memory than it begins with.
    fn work(&mut self) {
        let kek = new_key(REGION);
        let generate = Op::Generate { provider: "aws".to_string(), kek, context: context() };
        for id in 0..200 {
            let op = if id % 4 == 0 { generate.clone() } else { support::generate() };
            self.keyd.send(id, op);
        }
        for _ in 0..200 {
            let outcome = self.keyd.receive().result;
            assert!(matches!(outcome, Ok(Outcome::Generated { .. })), "{outcome:?}");
        }
    }
}

/// The limit of 8 MiB that Linux and systemd give everybody.
#[test]
fn under_the_usual_limit_heap_and_stack_are_locked() {
    let mut limited = Limited::start("8192", true);
    limited.work();
    let locked = limited.locked();
    assert!((4 << 20..=8 << 20).contains(&locked), "{locked}");
    assert_eq!(limited.keyd.close(), (Some(0), String::new()));
}

#[test]
fn under_a_small_limit_it_works_all_the_same() {
    for limit in ["0", "64", "1024"] {
        let mut limited = Limited::start(limit, true);
        limited.work();
        assert!(limited.locked() <= limit.parse::<usize>().expect("a number") << 10);
        assert_eq!(limited.keyd.close(), (Some(0), String::new()));
    }
}

/// Root is exempt from the limit where it has CAP_IPC_LOCK, which containers often take away.
#[test]
fn where_no_limit_applies_everything_is_locked() {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
    let capabilities = u64::from_str_radix(capabilities, 16).expect("a number");
    let is_exempt = capabilities & 1 << 14 != 0;
    let mut limited = Limited::start("8192", false);
    limited.work();
    let locked = limited.locked();
    assert!(locked > if is_exempt { 16 << 20 } else { 4 << 20 }, "{locked}");
    assert_eq!(limited.keyd.close(), (Some(0), String::new()));
}
