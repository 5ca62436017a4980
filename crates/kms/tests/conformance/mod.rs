//! What every provider must do, as a function: each provider's own test runs it.

use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::Failure;
use pgpci_core::wire::FailureKind::{self, Invalid, NotConfigured, Refused, WrongKey};
use pgpci_kms::{DataKeyBytes, Provider};

/// A provider, the name of a wrapping key in it, the name of another one to move to (it may be the
/// same), and other wrapping keys (in it or elsewhere) that must not unwrap what the first one
/// wrapped.
pub struct Subject<'a> {
    pub provider: &'a dyn Provider,
    pub kek: &'a str,
    pub other_kek: &'a str,
    pub strangers: &'a [(&'a dyn Provider, &'a str)],
}

pub fn context() -> Context {
    Context { installation: [7; 16], vault: 3, key_id: KeyId(0x0123_4567_89ab_cdef), purpose: Purpose::Data }
}

/// Panics where the provider does not conform.
pub async fn conforms(subject: &Subject<'_>) {
    round_trip(subject).await;
    other_contexts_are_refused(subject).await;
    mangled_blobs_are_refused(subject).await;
    strangers_are_refused(subject).await;
    a_given_key_is_wrapped(subject).await;
    a_wrapped_key_moves(subject).await;
    describes_itself(subject).await;
}

async fn round_trip(subject: &Subject<'_>) {
    let Subject { provider, kek, .. } = subject;
    let (first, first_wrapped) = generate(subject).await;
    let (second, second_wrapped) = generate(subject).await;
    assert_ne!(first, second, "data keys are random");
    assert_ne!(first_wrapped, second_wrapped);
    assert!(!first_wrapped.windows(32).any(|bytes| bytes == first));
    for (key, wrapped) in [(first, first_wrapped), (second, second_wrapped)] {
        // More than once: unwrapping uses nothing up.
        for _ in 0..2 {
            let opened = provider.unwrap(kek, &context(), &wrapped).await;
            assert_eq!(opened.map(|key| *key.expose()).ok(), Some(key));
        }
    }
}

async fn other_contexts_are_refused(subject: &Subject<'_>) {
    let (_, wrapped) = generate(subject).await;
    let others = [
        Context { installation: [8; 16], ..context() },
        Context { vault: 4, ..context() },
        Context { vault: -3, ..context() },
        Context { key_id: KeyId(0), ..context() },
        Context { purpose: Purpose::Equality, ..context() },
        Context { purpose: Purpose::Hash, ..context() },
        Context { purpose: Purpose::Policy, ..context() },
    ];
    for other in others {
        let kind = refusal(subject.provider, subject.kek, &other, &wrapped).await;
        assert_eq!(kind, WrongKey);
    }
}

async fn mangled_blobs_are_refused(subject: &Subject<'_>) {
    let (_, wrapped) = generate(subject).await;
    let flipped = (0..wrapped.len()).map(|at| {
        let mut blob = wrapped.clone();
        blob[at] ^= 1 << (at % 8);
        blob
    });
    let cut = (0..wrapped.len()).map(|len| wrapped[..len].to_vec());
    let mut longer = wrapped.clone();
    longer.push(0);
    for blob in flipped.chain(cut).chain([longer, vec![0; 60_000]]) {
        let kind = refusal(subject.provider, subject.kek, &context(), &blob).await;
        // A blob that now names another key is refused for that by some.
        assert!(matches!(kind, WrongKey | Invalid | Refused | NotConfigured), "{kind:?}");
    }
}

async fn strangers_are_refused(subject: &Subject<'_>) {
    let (_, wrapped) = generate(subject).await;
    assert!(!subject.strangers.is_empty(), "nothing tested");
    for (provider, kek) in subject.strangers {
        let kind = refusal(*provider, kek, &context(), &wrapped).await;
        assert!(matches!(kind, WrongKey | Refused | NotConfigured), "{kind:?}");
    }
}

async fn a_given_key_is_wrapped(subject: &Subject<'_>) {
    let Subject { provider, kek, .. } = subject;
    let key = DataKeyBytes::new([0xA5; 32]);
    let first = provider.wrap(kek, &context(), &key).await.expect("wrapped");
    let second = provider.wrap(kek, &context(), &key).await.expect("wrapped");
    assert_ne!(first, second, "nonces are random");
    assert!(!first.windows(32).any(|bytes| bytes == key.expose()));
    let opened = provider.unwrap(kek, &context(), &first).await.expect("unwrapped");
    assert_eq!(opened.expose(), key.expose());
    let other = Context { vault: 9, ..context() };
    assert_eq!(refusal(*provider, kek, &other, &first).await, WrongKey);
}

async fn a_wrapped_key_moves(subject: &Subject<'_>) {
    let Subject { provider, kek, other_kek, .. } = subject;
    let (key, wrapped) = generate(subject).await;
    let moved = provider.rewrap(kek, &context(), &wrapped, other_kek).await.expect("moved");
    let opened = provider.unwrap(other_kek, &context(), &moved).await.expect("unwrapped");
    assert_eq!(*opened.expose(), key);
    // It moves from what it was wrapped with, and stays bound to its context.
    let other = Context { vault: 9, ..context() };
    assert_eq!(refusal(*provider, other_kek, &other, &moved).await, WrongKey);
    let refused = provider.rewrap(kek, &other, &wrapped, other_kek).await.err();
    assert_eq!(refused.map(|failure| failure.kind), Some(WrongKey));
}

async fn describes_itself(subject: &Subject<'_>) {
    let Subject { provider, kek, .. } = subject;
    let described = provider.describe(kek).await.expect("a description");
    assert_eq!(described.provider, provider.name());
    assert_eq!(described.strength_bits, 256);
    assert!(described.is_enabled, "{described:?}");
    assert_ne!(described.kek, "");
    assert_eq!(described.is_compliant, provider.name() != "local", "{described:?}");
    assert!(described.note.len() <= Failure::MAX_MESSAGE);
    // The lasting name is the same next time.
    assert_eq!(provider.describe(kek).await, Ok(described));
}

async fn generate(subject: &Subject<'_>) -> ([u8; 32], Vec<u8>) {
    let made = subject.provider.generate(subject.kek, &context()).await;
    let (key, wrapped) = made.expect("a data key");
    (*key.expose(), wrapped)
}

async fn refusal(provider: &dyn Provider, kek: &str, context: &Context, wrapped: &[u8]) -> FailureKind {
    match provider.unwrap(kek, context, wrapped).await {
        Ok(_) => panic!("unwrapped what it must refuse"),
        Err(failure) => {
            assert!(failure.message.len() <= Failure::MAX_MESSAGE);
            failure.kind
        }
    }
}
