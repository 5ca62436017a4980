//! What KMS answers, checked before anything relies on it.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeySpec, KeyUsageType};
use pgpci_core::wire::{Description, Failure, FailureKind};
use zeroize::Zeroize;

use crate::{DATA_KEY_LEN, DataKeyBytes};

/// The longest `CiphertextBlob` that KMS takes, in bytes.
const MAX_WRAPPED_LEN: usize = 6144;

/// Spares a call that KMS would refuse as malformed.
pub(super) fn can_be_wrapped(wrapped: &[u8]) -> Result<(), Failure> {
    if (1..=MAX_WRAPPED_LEN).contains(&wrapped.len()) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::WrongKey, "this was not wrapped by AWS KMS: its length is wrong"))
}

pub(super) fn data_key(plaintext: Option<Blob>) -> Result<DataKeyBytes, Failure> {
    let mut bytes = plaintext.map(Blob::into_inner).unwrap_or_default();
    let mut key = DataKeyBytes::new([0; DATA_KEY_LEN]);
    let is_key = bytes.len() == DATA_KEY_LEN;
    if is_key {
        key.expose_mut().copy_from_slice(&bytes);
    }
    bytes.zeroize();
    if is_key { Ok(key) } else { Err(not_understood()) }
}

pub(super) fn wrapped(blob: Option<Blob>) -> Result<Vec<u8>, Failure> {
    blob.map(Blob::into_inner).filter(|bytes| !bytes.is_empty()).ok_or_else(not_understood)
}

pub(super) fn not_understood() -> Failure {
    Failure::new(FailureKind::Unavailable, "check the endpoint URL: its answer is not one of AWS KMS")
}

pub(super) fn description(key: &KeyMetadata) -> Description {
    let is_symmetric = key.key_spec == Some(KeySpec::SymmetricDefault);
    let is_for_wrapping = is_symmetric && key.key_usage == Some(KeyUsageType::EncryptDecrypt);
    let state = key.key_state.as_ref().map_or("unknown", |state| state.as_str());
    let note = match (is_for_wrapping, key.enabled) {
        (false, _) => "not a symmetric key for encryption".to_string(),
        (true, false) => format!("the key's state is {state}"),
        (true, true) => match &key.origin {
            Some(origin) => format!("key material of origin {}", origin.as_str()),
            None => String::new(),
        },
    };
    Description {
        provider: super::Aws::NAME.to_string(),
        kek: key.arn.clone().unwrap_or_else(|| key.key_id.clone()),
        strength_bits: if is_symmetric { 256 } else { 0 },
        is_compliant: is_for_wrapping,
        is_enabled: key.enabled && is_for_wrapping,
        note: Failure::new(FailureKind::Invalid, note).message,
    }
}
