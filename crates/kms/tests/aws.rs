//! Provider `aws` over the wire: against moto, and through a proxy that makes things go wrong.

mod conformance;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_kms::config::Credentials;
use conformance::{Subject, conforms, context};
use pgpci_core::wire::{Failure, FailureKind};
use pgpci_kms::{Aws, AwsConfig, Local, Provider, keyfile};
use support::moto::{self, OTHER_REGION, REGION, new_key};
use support::proxy::{Fault, Proxy};

/// What AWS's chain gives, but from credentials of a test.
fn loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest()).credentials_provider(Credentials::for_tests())
}

/// A provider that talks to `url`.
fn aws(url: &str) -> Aws {
    let config = AwsConfig { region: Some(REGION.to_string()), endpoint_url: Some(url.to_string()) };
    Aws::with_loader(config, loader)
}

/// A proxy before moto, the provider behind it, and a key.
async fn through_proxy() -> (Proxy, Aws, String) {
    let proxy = Proxy::start(moto::url());
    let aws = aws(&proxy.url);
    (proxy, aws, new_key(REGION))
}

async fn failure(aws: &Aws, kek: &str) -> Failure {
    match aws.generate(kek, &context()).await {
        Ok(_) => panic!("generated what it must refuse"),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn what_the_first_request_needs_is_built_before_it() {
    static LOADED: AtomicUsize = AtomicUsize::new(0);
    let counting = || {
        LOADED.fetch_add(1, SeqCst);
        loader()
    };
    let proxy = Proxy::start(moto::url());
    let url = || Some(proxy.url.clone());
    // Where nothing says so, the server may have nothing to do with AWS.
    Aws::with_loader(AwsConfig { region: None, endpoint_url: url() }, counting).prepare().await;
    assert_eq!(LOADED.load(SeqCst), 0);
    let config = AwsConfig { region: Some(REGION.to_string()), endpoint_url: url() };
    let aws = Aws::with_loader(config, counting);
    aws.prepare().await;
    assert_eq!(LOADED.load(SeqCst), 1);
    assert_eq!(proxy.take_operations(), [""; 0], "KMS is not asked");
    aws.generate(&new_key(REGION), &context()).await.expect("a key");
    assert_eq!(LOADED.load(SeqCst), 1);
    assert_eq!(proxy.take_operations(), ["GenerateDataKey"]);
}

#[tokio::test]
async fn conforms_to_the_trait() {
    let aws = aws(moto::url());
    let (arn, other) = (new_key(REGION), new_key(REGION));
    let elsewhere = new_key(OTHER_REGION);
    let id = arn.rsplit('/').next().expect("an id");
    let alias = "alias/conformance";
    moto::call(REGION, "CreateAlias", &format!(r#"{{"AliasName":"{alias}","TargetKeyId":"{id}"}}"#));

    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("local.key");
    keyfile::create(&path).expect("a key file");
    let local = Local::new(path);
    let strangers: &[(&dyn Provider, &str)] =
        &[(&aws, &other), (&aws, &elsewhere), (&local, "local"), (&aws, "alias/none"), (&aws, "")];
    for kek in [&arn, id, alias] {
        conforms(&Subject { provider: &aws, kek, other_kek: &other, strangers }).await;
    }
}

#[tokio::test]
async fn requests_carry_the_key_and_the_context_and_nothing_more() {
    let (proxy, aws, kek) = through_proxy().await;
    let (_, wrapped) = aws.generate(&kek, &context()).await.expect("a data key");
    aws.unwrap(&kek, &context(), &wrapped).await.expect("the data key");
    let context = r#""EncryptionContext":{"#;
    let seen = proxy.take_seen();
    assert_eq!(seen.len(), 2);
    for (seen, operation) in seen.iter().zip(["GenerateDataKey", "Decrypt"]) {
        assert_eq!(seen.operation, operation);
        assert_eq!(seen.region, REGION);
        assert!(seen.body.contains(&format!(r#""KeyId":"{kek}""#)), "{}", seen.body);
        let (_, pairs) = seen.body.split_once(context).expect("a context");
        let mut pairs: Vec<_> = pairs.split('}').next().expect("pairs").split(',').collect();
        pairs.sort_unstable();
        assert_eq!(
            pairs,
            [
                r#""pgpci:installation":"07070707-0707-0707-0707-070707070707""#,
                r#""pgpci:key":"81985529216486895""#,
                r#""pgpci:purpose":"data""#,
                r#""pgpci:vault":"3""#,
            ]
        );
    }
}

#[tokio::test]
async fn storing_needs_no_more_than_generate_data_key() {
    let (proxy, aws, kek) = through_proxy().await;
    proxy.allow_only(&["GenerateDataKey"]);
    let (_, wrapped) = aws.generate(&kek, &context()).await.expect("a data key");
    assert_eq!(proxy.take_operations(), ["GenerateDataKey"]);
    let refused = aws.unwrap(&kek, &context(), &wrapped).await.expect_err("a refusal");
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.message.starts_with("allow kms:Decrypt to the server's role"), "{}", refused.message);
}

#[tokio::test]
async fn moving_within_a_region_shows_the_key_to_nobody() {
    let (proxy, aws, kek) = through_proxy().await;
    let to = new_key(REGION);
    let (key, wrapped) = aws.generate(&kek, &context()).await.expect("a data key");
    proxy.take_seen();
    let moved = aws.rewrap(&kek, &context(), &wrapped, &to).await.expect("moved");
    assert_eq!(proxy.take_operations(), ["ReEncrypt"]);
    let opened = aws.unwrap(&to, &context(), &moved).await.expect("the data key");
    assert_eq!(opened.expose(), key.expose());
}

#[tokio::test]
async fn moving_to_another_region_goes_through_the_helper() {
    let (proxy, aws, kek) = through_proxy().await;
    let to = new_key(OTHER_REGION);
    let (key, wrapped) = aws.generate(&kek, &context()).await.expect("a data key");
    proxy.take_seen();
    let moved = aws.rewrap(&kek, &context(), &wrapped, &to).await.expect("moved");
    let seen: Vec<_> = proxy.take_seen().into_iter().map(|seen| (seen.operation, seen.region)).collect();
    let expected = [("Decrypt", REGION), ("Encrypt", OTHER_REGION)];
    assert_eq!(seen, expected.map(|(operation, region)| (operation.to_string(), region.to_string())));
    let opened = aws.unwrap(&to, &context(), &moved).await.expect("the data key");
    assert_eq!(opened.expose(), key.expose());
}

#[tokio::test]
async fn describes_a_key_by_its_arn() {
    let aws = aws(moto::url());
    let arn = new_key(REGION);
    let id = arn.rsplit('/').next().expect("an id");
    let described = aws.describe(id).await.expect("a description");
    assert_eq!((described.provider.as_str(), described.kek.as_str()), ("aws", arn.as_str()));
    assert_eq!((described.strength_bits, described.is_compliant, described.is_enabled), (256, true, true));

    moto::call(REGION, "DisableKey", &format!(r#"{{"KeyId":"{id}"}}"#));
    let described = aws.describe(id).await.expect("a description");
    assert_eq!((described.is_compliant, described.is_enabled), (true, false));
    assert_eq!(described.note, "the key's state is Disabled");
}

/// Each fault for ever: the kind of failure, the calls made, and what the message begins with.
#[tokio::test]
async fn lasting_faults() {
    use FailureKind::{NotConfigured, Refused, Unavailable, WrongKey};
    use Fault::{Error, Garbage, Reset};
    let (proxy, aws, kek) = through_proxy().await;
    let faults = [
        (Error(400, "DisabledException", "x"), Refused, 1, "enable the wrapping key"),
        (
            Error(400, "KMSInvalidStateException", "pending deletion"),
            Refused,
            1,
            "see the wrapping key's state",
        ),
        (Error(400, "AccessDeniedException", "x"), Refused, 1, "allow kms:GenerateDataKey"),
        (Error(400, "NotFoundException", "x"), NotConfigured, 1, "check name and region"),
        (Error(400, "IncorrectKeyException", "x"), WrongKey, 1, "this wrapping key and context"),
        (Error(400, "UnrecognizedClientException", "x"), Refused, 1, "renew the server's AWS credentials"),
        (Error(400, "InvalidSignatureException", "x"), Refused, 1, "check the server's clock"),
        (Error(400, "ThrottlingException", "Rate exceeded"), Unavailable, 3, "raise the request quota"),
        (Error(500, "KMSInternalException", "x"), Unavailable, 3, "wait, or check AWS KMS"),
        (Error(503, "", ""), Unavailable, 3, "wait, or check AWS KMS and its endpoint: HTTP status 503"),
        (Garbage("<html>Log in to this network</html>"), Unavailable, 1, "check the endpoint URL"),
        (
            Garbage(r#"{"CiphertextBlob":"AAAA","Plaintext":"AAAA"}"#),
            Unavailable,
            1,
            "check the endpoint URL",
        ),
        (Garbage("{}"), Unavailable, 1, "check the endpoint URL"),
        (Reset, Unavailable, 3, "check network and endpoint"),
    ];
    for (fault, kind, calls, message) in faults {
        proxy.inject(fault, calls);
        let failure = failure(&aws, &kek).await;
        assert_eq!(failure.kind, kind, "{fault:?}: {}", failure.message);
        assert!(failure.message.starts_with(message), "{fault:?}: {}", failure.message);
        assert_eq!(proxy.take_operations().len(), calls, "{fault:?}");
        aws.generate(&kek, &context()).await.expect("well again");
        assert_eq!(proxy.take_operations().len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn passing_faults_are_not_felt() {
    let (proxy, aws, kek) = through_proxy().await;
    let faults = [
        Fault::Error(400, "ThrottlingException", "Rate exceeded"),
        Fault::Error(500, "KMSInternalException", "x"),
        Fault::Error(500, "DependencyTimeoutException", "x"),
        Fault::Error(500, "KeyUnavailableException", "x"),
        Fault::Reset,
    ];
    for fault in faults {
        for times in 1..=2 {
            proxy.inject(fault, times);
            aws.generate(&kek, &context()).await.expect("a data key after all");
            assert_eq!(proxy.take_operations().len(), times + 1, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_kms_is_given_up_in_time() {
    let (proxy, aws, kek) = through_proxy().await;
    proxy.inject(Fault::Slow(Duration::from_secs(10)), 3);
    let start = Instant::now();
    let failure = failure(&aws, &kek).await;
    let took = start.elapsed();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.message.contains("no answer in time"), "{}", failure.message);
    assert!(took < Aws::CALL_TIMEOUT + Duration::from_secs(1), "{took:?}");
    assert_eq!(proxy.take_operations().len(), 3);
}

#[tokio::test]
async fn nothing_there_is_unavailable() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", gone.local_addr().expect("an address"));
    drop(gone);
    let failure = failure(&aws(&url), "alias/x").await;
    assert_eq!(failure.kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn a_key_of_another_region_is_not_found() {
    let (proxy, aws, _) = through_proxy().await;
    let elsewhere = new_key(OTHER_REGION);
    let id = elsewhere.rsplit('/').next().expect("an id");
    let failure = failure(&aws, id).await;
    assert_eq!(failure.kind, FailureKind::NotConfigured);
    assert!(failure.message.starts_with("check name and region"), "{}", failure.message);
    assert_eq!(proxy.take_operations().len(), 1);
    // By its ARN it is found.
    aws.generate(&elsewhere, &context()).await.expect("a data key");
    assert_eq!(proxy.take_seen().first().map(|seen| seen.region.as_str()), Some(OTHER_REGION));
}

#[tokio::test]
async fn blobs_of_impossible_length_cost_no_call() {
    let (proxy, aws, kek) = through_proxy().await;
    for blob in [&[][..], &[0; 6145]] {
        let failure = aws.unwrap(&kek, &context(), blob).await.err();
        assert_eq!(failure.map(|failure| failure.kind), Some(FailureKind::WrongKey));
    }
    assert!(proxy.take_operations().is_empty());
}

#[tokio::test]
async fn rejected_credentials_are_read_anew() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let proxy = Proxy::start(moto::url());
    let kek = new_key(REGION);
    let loaded = Arc::new(AtomicUsize::new(0));
    let count = loaded.clone();
    let config = AwsConfig { region: Some(REGION.to_string()), endpoint_url: Some(proxy.url.clone()) };
    let aws = Aws::with_loader(config, move || {
        let number = count.fetch_add(1, SeqCst);
        let credentials = Credentials::new(format!("AKID{number}"), "secret", None, None, "test");
        aws_config::defaults(BehaviorVersion::latest()).credentials_provider(credentials)
    });
    for _ in 0..3 {
        aws.generate(&kek, &context()).await.expect("a data key");
    }
    assert_eq!(loaded.load(SeqCst), 1, "clients are built once");
    proxy.inject(Fault::Error(400, "ExpiredTokenException", "x"), 1);
    assert_eq!(failure(&aws, &kek).await.kind, FailureKind::Refused);
    aws.generate(&kek, &context()).await.expect("a data key");
    assert_eq!(loaded.load(SeqCst), 2);
}

#[tokio::test]
async fn without_a_usable_configuration_it_says_what_to_set() {
    let with = |region: Option<&str>, url: &str| {
        let config = AwsConfig { region: region.map(str::to_string), endpoint_url: Some(url.to_string()) };
        Aws::with_loader(config, loader)
    };
    for (aws, kek, message) in [
        (with(Some(REGION), moto::url()), "", "name a wrapping key"),
        (with(Some(REGION), "http://192.0.2.1"), "alias/x", "use an https endpoint"),
        (with(Some(REGION), "kms.example"), "alias/x", "correct the endpoint URL"),
    ] {
        let failure = failure(&aws, kek).await;
        assert_eq!(failure.kind, FailureKind::NotConfigured, "{}", failure.message);
        assert!(failure.message.starts_with(message), "{}", failure.message);
    }
}
