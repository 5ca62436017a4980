//! What the errors of KMS and its SDK mean here. Messages begin with what to do.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use pgpci_core::wire::{Failure, FailureKind};

/// The calls made, by the names that AWS uses in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    GenerateDataKey,
    Encrypt,
    Decrypt,
    ReEncrypt,
    DescribeKey,
}

/// A failure, and whether reading the credentials anew may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub failure: Failure,
    pub is_about_credentials: bool,
}

impl From<Failure> for Told {
    fn from(failure: Failure) -> Told {
        Told { failure, is_about_credentials: false }
    }
}

pub(super) fn told<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Told
where
    E: ProvideErrorMetadata + Error + 'static,
{
    use FailureKind::{NotConfigured, Unavailable};
    if let SdkError::ServiceError(context) = error {
        let (meta, status) = (context.err(), context.raw().status());
        return match meta.code() {
            Some(code) if !code.is_empty() && !status.is_server_error() => {
                of_code(call, code, meta.message().unwrap_or_default())
            }
            None if status.is_success() => super::answer::not_understood().into(),
            code => Failure::new(
                Unavailable,
                format!(
                    "wait, or check AWS KMS and its endpoint: HTTP status {} of {call:?} {}",
                    status.as_u16(),
                    code.unwrap_or_default()
                )
                .trim_end(),
            )
            .into(),
        };
    }
    if is_caused_by::<CredentialsError>(error) {
        let message = "give the server AWS credentials (an instance role, or environment or profile of its \
            user): none could be loaded";
        return Told { failure: Failure::new(NotConfigured, message), is_about_credentials: true };
    }
    let what = match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_io() => {
            "it cannot be reached, or its TLS certificate is not trusted"
        }
        SdkError::DispatchFailure(_) => "no connection (name, TLS or network)",
        SdkError::ResponseError(_) => "its answer is not one of AWS KMS",
        _ => "the request could not be made",
    };
    Failure::new(Unavailable, format!("check network and endpoint of AWS KMS: {what} ({call:?})")).into()
}

fn of_code(call: Call, code: &str, message: &str) -> Told {
    use FailureKind::{Invalid, NotConfigured, Refused, Unavailable, WrongKey};
    let about_credentials = |remedy: &str| Told {
        // KMS's own message can quote a whole request with its session token.
        failure: Failure::new(Refused, format!("{remedy}: {code}")),
        is_about_credentials: true,
    };
    // The request of Encrypt holds a clear key, which no message may quote.
    let detail = if call == Call::Encrypt { "" } else { message };
    let (kind, text) = match code {
        "ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded" => {
            (Unavailable, format!("raise the request quota of AWS KMS, or wait: {code}"))
        }
        "DependencyTimeoutException" | "KeyUnavailableException" => {
            (Unavailable, format!("wait: AWS KMS has a failure: {code}"))
        }
        "DisabledException" => (Refused, format!("enable the wrapping key in AWS KMS: {code}")),
        "KMSInvalidStateException" => {
            (Refused, format!("see the wrapping key's state in AWS KMS: {code}: {detail}"))
        }
        "AccessDeniedException" | "AccessDenied" => {
            let permission = match call {
                Call::ReEncrypt => "kms:ReEncryptFrom and kms:ReEncryptTo".to_string(),
                _ => format!("kms:{call:?}"),
            };
            (Refused, format!("allow {permission} to the server's role: {code}: {detail}"))
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => {
            (WrongKey, format!("this wrapping key and context do not unwrap this data key: {code}"))
        }
        "NotFoundException" => {
            (NotConfigured, format!("check name and region of the wrapping key: {code}: {detail}"))
        }
        "InvalidArnException" | "ValidationException" | "InvalidKeyUsageException" => {
            (Invalid, format!("name a symmetric encryption key of AWS KMS by key id, ARN or alias/…: {code}"))
        }
        "RequestExpired" | "RequestTimeTooSkewed" | "InvalidSignatureException" => {
            return about_credentials("check the server's clock and AWS credentials");
        }
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidGrantTokenException" => {
            return about_credentials("renew the server's AWS credentials");
        }
        _ => (Refused, format!("see what AWS KMS says of {call:?}: {code}")),
    };
    Failure::new(kind, text.trim_end_matches([':', ' '])).into()
}

fn is_caused_by<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error.is::<T>() || error.source().is_some_and(is_caused_by::<T>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_request_held_is_told() {
        let quoted = "x-amz-security-token:SECRET plaintext AAAA";
        let codes = ["InvalidSignatureException", "ValidationException", "ThrottlingException", "Strange"];
        for code in codes {
            let Told { failure, .. } = of_code(Call::Decrypt, code, quoted);
            assert!(!failure.message.contains("SECRET"), "{}", failure.message);
            assert!(failure.message.ends_with(code), "{}", failure.message);
        }
        let Told { failure, .. } = of_code(Call::Encrypt, "AccessDeniedException", quoted);
        assert_eq!(failure.message, "allow kms:Encrypt to the server's role: AccessDeniedException");
    }

    #[test]
    fn only_trouble_with_credentials_asks_for_new_ones() {
        assert!(of_code(Call::Decrypt, "ExpiredTokenException", "").is_about_credentials);
        assert!(!of_code(Call::Decrypt, "AccessDeniedException", "").is_about_credentials);
    }
}
