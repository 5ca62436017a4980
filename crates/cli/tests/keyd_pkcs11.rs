//! `pgpci keyd` with provider `pkcs11`: a token of SoftHSM.

#[path = "../../kms/tests/conformance/mod.rs"]
mod conformance;
#[path = "support/remote.rs"]
mod remote;
mod support;
#[path = "support/token.rs"]
mod token;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use conformance::{Subject, conforms};
use pgpci_core::wire::{FailureKind, Op, Outcome};
use pgpci_kms::{Local, Provider, keyfile};
use remote::Remote;
use support::{Keyd, context};
use token::{PIN, SOFTHSM, Token};

const KEK: &str = "cards-2026";

fn generate(kek: &str) -> Op {
    Op::Generate { provider: "pkcs11".to_string(), kek: kek.to_string(), context: context() }
}

fn unwrap(kek: &str, wrapped: &[u8]) -> Op {
    let (provider, kek) = ("pkcs11".to_string(), kek.to_string());
    Op::Unwrap { provider, kek, context: context(), wrapped: wrapped.to_vec() }
}

fn describe(kek: &str) -> Op {
    Op::Describe { provider: "pkcs11".to_string(), kek: kek.to_string() }
}

fn generated(outcome: Outcome) -> ([u8; 32], Vec<u8>) {
    match outcome {
        Outcome::Generated { key, wrapped } => (*key.expose(), wrapped),
        other => panic!("{other:?}"),
    }
}

fn unwrapped(outcome: Outcome) -> [u8; 32] {
    match outcome {
        Outcome::Unwrapped { key } => *key.expose(),
        other => panic!("{other:?}"),
    }
}

fn refused(keyd: &mut Keyd, op: Op, kind: FailureKind, message: &str) {
    let failure = keyd.refusal(op);
    assert_eq!(failure.kind, kind, "{}", failure.message);
    assert!(failure.message.starts_with(message), "{}", failure.message);
    assert!(!failure.message.contains(PIN));
}

#[tokio::test]
async fn conforms_to_the_trait() {
    let token = Token::new();
    let key_file = token.at("local.key");
    keyfile::create(&key_file).expect("a key file");
    let remote = Remote::new("pkcs11", token.start(), key_file.clone());
    let local = Local::new(key_file);
    let strangers: &[(&dyn Provider, &str)] =
        &[(&remote, "cards-2027"), (&remote, "none"), (&remote, ""), (&local, "local")];
    conforms(&Subject { provider: &remote, kek: KEK, other_kek: "cards-2027", strangers }).await;
}

#[test]
fn a_wrapped_key_has_the_published_form_and_a_new_iv() {
    let token = Token::new();
    let mut keyd = token.start();
    let (_, first) = generated(keyd.get(generate(KEK)));
    let (_, second) = generated(keyd.get(generate(KEK)));
    assert_eq!((first.len(), first[0]), (61, 1));
    assert_ne!(first[1..13], second[1..13]);
}

#[test]
fn many_requests_share_few_sessions_and_one_login() {
    let token = Token::new();
    let mut keyd = token.start_spied();
    let (key, wrapped) = generated(keyd.get(generate(KEK)));
    for id in 0..200 {
        keyd.send(id, unwrap(KEK, &wrapped));
    }
    for _ in 0..200 {
        assert_eq!(unwrapped(keyd.receive().result.expect("the key")), key);
    }
    assert_eq!((token.calls("C_Initialize"), token.calls("C_Login")), (1, 1));
    let sessions = token.calls("C_OpenSession");
    assert!((1..=pgpci_kms::Pkcs11::THREADS).contains(&sessions), "{sessions}");
    assert_eq!(token.calls("C_DecryptInit"), 200);
}

#[test]
fn nothing_is_loaded_before_the_first_request() {
    let token = Token::new();
    let mut keyd = token.start_spied();
    assert!(matches!(keyd.get(Op::Ping), Outcome::Pong));
    assert!(!token.at("spy").exists());
}

/// A token locks itself after a few wrong PINs.
#[test]
fn a_wrong_pin_is_tried_once() {
    let token = Token::new();
    token.write_pin("wrong-pin");
    let mut keyd = token.start_spied();
    refused(
        &mut keyd,
        generate(KEK),
        FailureKind::Refused,
        "correct the PIN file: the token refused the PIN",
    );
    for id in 0..20 {
        keyd.send(id, generate(KEK));
    }
    for _ in 0..20 {
        let failure = keyd.receive().result.expect_err("no key");
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.message.ends_with("it is not tried again"), "{}", failure.message);
    }
    assert_eq!(token.calls("C_Login"), 1);
    // Written anew, but the same.
    token.write_pin("wrong-pin");
    refused(&mut keyd, generate(KEK), FailureKind::Refused, "correct the PIN file");
    assert_eq!(token.calls("C_Login"), 1);
    token.write_pin("wrong-again");
    refused(&mut keyd, generate(KEK), FailureKind::Refused, "correct the PIN file");
    assert_eq!(token.calls("C_Login"), 2);
    token.write_pin(PIN);
    generated(keyd.get(generate(KEK)));
    assert_eq!(token.calls("C_Login"), 3);
}

#[test]
fn a_pin_file_that_others_may_read_is_not_used() {
    let token = Token::new();
    let mut keyd = token.start_spied();
    let chmod = |mode| fs::set_permissions(token.at("pin"), fs::Permissions::from_mode(mode)).expect("chmod");
    chmod(0o640);
    refused(&mut keyd, generate(KEK), FailureKind::Refused, "PIN file has mode 0640");
    chmod(0o600);
    fs::rename(token.at("pin"), token.at("away")).expect("rename");
    refused(&mut keyd, generate(KEK), FailureKind::NotConfigured, "PIN file does not exist");
    for content in ["", "\n", "1\n2\n", &"1".repeat(256)] {
        token.write_pin("x");
        fs::write(token.at("pin"), content).expect("written");
        refused(&mut keyd, generate(KEK), FailureKind::Invalid, "PIN file is not one line");
    }
    assert_eq!(token.calls("C_Login"), 0);
    fs::rename(token.at("away"), token.at("pin")).expect("rename");
    generated(keyd.get(generate(KEK)));
}

#[test]
fn a_token_that_was_away_heals() {
    let token = Token::new();
    let (tokens, away) = (token.at("tokens"), token.at("away"));
    let mut keyd = token.start();
    let (key, wrapped) = generated(keyd.get(generate(KEK)));
    for _ in 0..2 {
        fs::rename(&tokens, &away).expect("rename");
        fs::create_dir(&tokens).expect("an empty directory");
        refused(&mut keyd, unwrap(KEK, &wrapped), FailureKind::Unavailable, "");
        fs::remove_dir_all(&tokens).expect("removed");
        fs::rename(&away, &tokens).expect("rename");
        assert_eq!(unwrapped(keyd.get(unwrap(KEK, &wrapped))), key);
    }
}

/// Several threads find the token gone at once, and initialise the module under each other.
#[test]
fn a_token_that_comes_and_goes_under_load_heals() {
    let token = Token::new();
    let (tokens, away) = (token.at("tokens"), token.at("away"));
    let mut keyd = token.start();
    let (key, wrapped) = generated(keyd.get(generate(KEK)));
    for _ in 0..5 {
        for id in 0..50 {
            keyd.send(id, unwrap(KEK, &wrapped));
        }
        fs::rename(&tokens, &away).expect("rename");
        for _ in 0..50 {
            match keyd.receive().result {
                Ok(outcome) => assert_eq!(unwrapped(outcome), key),
                Err(failure) => assert_eq!(failure.kind, FailureKind::Unavailable, "{}", failure.message),
            }
        }
        fs::rename(&away, &tokens).expect("rename");
        for id in 0..50 {
            keyd.send(id, unwrap(KEK, &wrapped));
        }
        for _ in 0..50 {
            assert_eq!(unwrapped(keyd.receive().result.expect("healed")), key);
        }
    }
    assert_eq!(keyd.close(), (Some(0), String::new()));
}

#[test]
fn a_token_that_is_not_there_yet_is_found_later() {
    let token = Token::new();
    let (tokens, away) = (token.at("tokens"), token.at("away"));
    fs::rename(&tokens, &away).expect("rename");
    fs::create_dir(&tokens).expect("an empty directory");
    let mut keyd = token.start();
    refused(&mut keyd, generate(KEK), FailureKind::Unavailable, "insert or initialise the PKCS#11 token");
    fs::remove_dir_all(&tokens).expect("removed");
    fs::rename(&away, &tokens).expect("rename");
    generated(keyd.get(generate(KEK)));
}

#[test]
fn keys_are_found_by_label_or_told_to_be_made() {
    let token = Token::new();
    let mut keyd = token.start();
    refused(&mut keyd, generate("cards-2028"), FailureKind::NotConfigured, "make an AES key on the token");
    refused(&mut keyd, generate(""), FailureKind::NotConfigured, "name a wrapping key");
    token.make_key("cards-2028", &["--key-type", "AES:32", "--sensitive"]);
    generated(token.start().get(generate("cards-2028")));
    token.make_key("cards-2028", &["--key-type", "AES:32", "--sensitive"]);
    refused(&mut token.start(), generate("cards-2028"), FailureKind::Invalid, "rename one key");
}

#[test]
fn two_tokens_of_one_label_are_refused() {
    let token = Token::new();
    token.initialize(token::LABEL);
    refused(&mut token.start(), generate(KEK), FailureKind::Invalid, "rename one token");
}

#[test]
fn weak_and_extractable_keys_are_not_compliant() {
    let token = Token::new();
    token.make_key("weak", &["--key-type", "AES:16", "--sensitive"]);
    token.make_key("loose", &["--key-type", "AES:32", "--extractable"]);
    let mut keyd = token.start();
    for (kek, bits, note) in [
        (KEK, 256, "an AES key that never leaves its token"),
        ("weak", 128, "the key is weaker than the data keys"),
        ("loose", 256, "the key can leave the token"),
    ] {
        let Outcome::Described(described) = keyd.get(describe(kek)) else { panic!("no description") };
        assert_eq!((described.strength_bits, described.is_compliant), (bits, kek == KEK), "{kek}");
        assert!(described.note.starts_with(note), "{}", described.note);
        assert!(described.kek.ends_with(&format!("/{kek}")) && described.kek.len() > kek.len() + 1);
    }
}

#[test]
fn a_missing_module_heals_when_it_is_installed() {
    let token = Token::new();
    let module = token.at("module.so");
    let mut keyd = Keyd::spawn(token.keyd(&module));
    refused(&mut keyd, generate(KEK), FailureKind::NotConfigured, "install the PKCS#11 module");
    fs::write(&module, "not a library").expect("written");
    refused(&mut keyd, generate(KEK), FailureKind::NotConfigured, "install the PKCS#11 module");
    fs::remove_file(&module).expect("removed");
    symlink(SOFTHSM, &module).expect("a symlink");
    generated(keyd.get(generate(KEK)));
}

#[test]
fn key_check_says_what_worked() {
    let token = Token::new();
    let check = |kek: &str| {
        let mut command = support::pgpci();
        command.env("SOFTHSM2_CONF", token.at("softhsm2.conf"));
        command.args(["key", "check", "--provider", "pkcs11", "--kek", kek]);
        command.args(["--pkcs11-module", SOFTHSM, "--pkcs11-token", token::LABEL]);
        command.arg("--pkcs11-pin-file").arg(token.at("pin")).output().expect("pgpci key check")
    };
    let checked = check(KEK);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(said.contains("compliant:    yes") && said.contains("compare:      the same key"), "{said}");
    let checked = check("none");
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(said.starts_with("pgpci: generate: make an AES key on the token"), "{said}");
}

#[test]
fn without_its_options_it_says_so() {
    let mut keyd = Keyd::start(None);
    refused(&mut keyd, generate(KEK), FailureKind::NotConfigured, "provider pkcs11 needs a module");
}
