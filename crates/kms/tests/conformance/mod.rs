//! What every provider must do, as a function: each provider's own test runs it.

use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::Failure;
use pgpci_core::wire::FailureKind::{self, Invalid, NotConfigured, Refused, WrongKey};
use pgpci_kms::Provider;

/// A provider, the name of a wrapping key in it, and other wrapping keys (in it or elsewhere)
/// that must not unwrap what the first one wrapped.
pub struct Subject<'a> {
    pub provider: &'a dyn Provider,
    pub kek: &'a str,
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
        assert!(matches!(kind, WrongKey | Invalid), "{kind:?}");
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
