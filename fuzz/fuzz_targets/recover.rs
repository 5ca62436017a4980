//! Any end of a segment is recovered from, or refused: the real beginning of one comes first, so
//! that the fuzzer need not find hashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgpci_core::chain::Signer;
use pgpci_core::record::{Limits, Time};
use pgpci_core::secret::Secret;
use pgpci_core::trail::{Node, Policy, Start, State, Writer, recover};

const NODE: Node = Node([7; 16]);

fn start(state: State, out: &mut Vec<u8>) -> Writer {
    let signer = Signer::new(&NODE.origin(), &Secret::new([1; 32])).expect("a node's name");
    let start = Start { server_version: "18.6", pgpci_version: "0.1.0", predecessor: None };
    let settings = (Limits::default(), Policy::default());
    Writer::start(NODE, signer, settings, state, &start, Time::from_micros(0), out).expect("the node's key")
}

fuzz_target!(|input: (u16, &[u8])| {
    let (keep, end) = input;
    let mut bytes = Vec::new();
    let mut writer = start(State::default(), &mut bytes);
    writer.checkpoint(Time::from_micros(1), &mut bytes);
    bytes.truncate(usize::from(keep));
    bytes.extend_from_slice(end);
    let key = Signer::new(&NODE.origin(), &Secret::new([1; 32])).expect("a node's name").verifying_key();
    if let Ok(recovered) = recover(NODE, &[key], vec![], 1, &bytes) {
        assert!(recovered.valid <= bytes.len() && bytes[recovered.valid - 1] == b'\n');
        let torn = recovered.state.crash.as_ref().map_or(0, |it| it.torn);
        assert_eq!(recovered.valid as u64 + torn, bytes.len() as u64);
        start(recovered.state, &mut Vec::new());
    }
});
