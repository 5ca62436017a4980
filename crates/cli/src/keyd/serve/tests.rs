//! The connection with a provider that takes its time.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::{Description, Op};
use pgpci_kms::{Answer, DataKeyBytes, Provider};
use tokio::sync::Semaphore;

use super::*;

/// Answers when it is let; its wrapped keys are `kek` bytes long.
#[derive(Clone, Default)]
struct Slow(Arc<Gate>);

struct Gate {
    open: Semaphore,
    inside: AtomicUsize,
    prepared: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Gate {
        let open = Semaphore::new(0);
        let (inside, prepared) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Gate { open, inside, prepared }
    }
}

impl Provider for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn prepare(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.0.prepared.fetch_add(1, SeqCst);
        })
    }

    fn generate<'a>(&'a self, kek: &'a str, _: &'a Context) -> Answer<'a, (DataKeyBytes, Vec<u8>)> {
        Box::pin(async move {
            self.0.inside.fetch_add(1, SeqCst);
            self.0.open.acquire().await.expect("never closed").forget();
            let wrapped = vec![0; kek.parse().expect("a number")];
            Ok((DataKeyBytes::new([1; 32]), wrapped))
        })
    }

    fn wrap<'a>(&'a self, _: &'a str, _: &'a Context, _: &'a DataKeyBytes) -> Answer<'a, Vec<u8>> {
        Box::pin(async { panic!("a defect in a provider") })
    }

    fn unwrap<'a>(&'a self, _: &'a str, _: &'a Context, _: &'a [u8]) -> Answer<'a, DataKeyBytes> {
        Box::pin(async { panic!("a defect in a provider") })
    }

    fn describe<'a>(&'a self, _: &'a str) -> Answer<'a, Description> {
        Box::pin(async { panic!("a defect in a provider") })
    }
}

struct Broker {
    socket: UnixStream,
    decoder: Decoder,
}

impl Broker {
    async fn send(&mut self, id: u64, op: Op) {
        let mut frame = Vec::new();
        encode(&Request { id, op }, &mut frame).expect("a frame");
        self.socket.write_all(&frame).await.expect("sent");
    }

    async fn receive(&mut self) -> Response {
        loop {
            if let Some(response) = self.decoder.next::<Response>().expect("a frame") {
                return response;
            }
            let mut bytes = [0; 1000];
            let len = self.socket.read(&mut bytes).await.expect("an answer");
            assert_ne!(len, 0);
            self.decoder.push(&bytes[..len]);
        }
    }
}

fn context() -> Context {
    Context { installation: [0; 16], vault: 0, key_id: KeyId(0), purpose: Purpose::Data }
}

fn generate(wrapped_len: usize) -> Op {
    Op::Generate { provider: "slow".to_string(), kek: wrapped_len.to_string(), context: context() }
}

fn start() -> (Broker, Slow, tokio::task::JoinHandle<Result<(), Fatal>>) {
    let (socket, theirs) = UnixStream::pair().expect("a socket pair");
    let slow = Slow::default();
    let mut providers = Providers::default();
    providers.register(Box::new(slow.clone()));
    let serving = tokio::spawn(serve(theirs, providers));
    let decoder = Decoder::default();
    (Broker { socket, decoder }, slow, serving)
}

#[tokio::test]
async fn providers_get_ready_before_anything_is_asked() {
    let (_broker, slow, _serving) = start();
    while slow.0.prepared.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_request_holds_up_no_other() {
    let (mut broker, slow, _serving) = start();
    broker.send(1, generate(100)).await;
    broker.send(2, Op::Ping).await;
    assert_eq!(broker.receive().await.id, 2);
    slow.0.open.add_permits(1);
    assert_eq!(broker.receive().await.id, 1);
}

#[tokio::test]
async fn no_more_than_the_bound_is_worked_on_and_none_is_lost() {
    let (mut broker, slow, _serving) = start();
    for id in 0..200 {
        broker.send(id, generate(100)).await;
    }
    // Requests are begun in their order.
    broker.send(200, Op::Ping).await;
    assert_eq!(broker.receive().await.id, 200);
    assert_eq!(slow.0.inside.load(SeqCst), Providers::PLACES);
    slow.0.open.add_permits(200);
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(broker.receive().await.id);
    }
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..200));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_answered_for_and_blocks_no_other() {
    let (socket, theirs) = UnixStream::pair().expect("a socket pair");
    let (directory, hanging) = (tempfile::tempdir().expect("a temporary directory"), Slow::default());
    let path = directory.path().join("local.key");
    pgpci_kms::keyfile::create(&path).expect("a key file");
    let mut providers = Providers::default();
    providers.register(Box::new(hanging.clone()));
    providers.register(Box::new(pgpci_kms::Local::new(path)));
    let _serving = tokio::spawn(serve(theirs, providers));
    let mut broker = Broker { socket, decoder: Decoder::default() };

    let start = tokio::time::Instant::now();
    for id in 0..100 {
        broker.send(id, generate(100)).await;
    }
    let provider = "local".to_string();
    let op = Op::Generate { provider, kek: String::new(), context: context() };
    broker.send(100, op).await;
    let first = broker.receive().await;
    assert!(first.id == 100 && first.result.is_ok(), "{first:?}");
    assert_eq!(hanging.0.inside.load(SeqCst), Providers::PLACES);
    for _ in 0..100 {
        let Err(failure) = broker.receive().await.result else {
            panic!("an answer of a provider that hangs")
        };
        assert_eq!(failure.kind, FailureKind::Unavailable);
    }
    let took = start.elapsed();
    assert!((Providers::LIMIT..Providers::LIMIT + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_closed_socket_ends_it_though_requests_are_open() {
    let (mut broker, _slow, serving) = start();
    broker.send(1, generate(100)).await;
    drop(broker);
    assert!(matches!(serving.await, Ok(Ok(()))));
}

#[tokio::test]
async fn an_answer_too_long_for_a_frame_is_a_failure() {
    let (mut broker, slow, _serving) = start();
    slow.0.open.add_permits(1);
    broker.send(7, generate(70_000)).await;
    let response = broker.receive().await;
    assert_eq!(response.id, 7);
    assert!(matches!(response.result, Err(Failure { kind: FailureKind::Invalid, .. })));
}

#[tokio::test]
async fn a_defect_in_a_provider_ends_it() {
    let (mut broker, _slow, serving) = start();
    let op = Op::Unwrap {
        provider: "slow".to_string(),
        kek: String::new(),
        context: context(),
        wrapped: Vec::new(),
    };
    broker.send(1, op).await;
    assert!(matches!(serving.await, Ok(Err(Fatal::Internal))));
}
