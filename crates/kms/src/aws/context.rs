//! What is sent to KMS beside the key: the encryption context, and the region an ARN names.

use std::collections::HashMap;

use pgpci_core::key::Context;

/// The encryption context of a data key, as KMS wants it: strings, matched exactly. They appear
/// in clear in CloudTrail, and key policies can ask for them
/// (`kms:EncryptionContext:pgpci:installation`).
///
/// | name                 | value                                                            |
/// |----------------------|------------------------------------------------------------------|
/// | `pgpci:installation` | UUID of the installation, in its usual form                      |
/// | `pgpci:vault`        | number of the vault                                              |
/// | `pgpci:key`          | id of the data key, as in `pci.keys`                             |
/// | `pgpci:purpose`      | `data`, `equality`, `hash`, `policy`, `account`, `trail`         |
///
/// Never names or OIDs of databases, so that a dump restores elsewhere. Wrapped keys depend on
/// these names and forms for ever.
pub(super) fn encryption_context(context: &Context) -> HashMap<String, String> {
    [
        ("pgpci:installation", uuid(&context.installation)),
        ("pgpci:vault", context.vault.to_string()),
        ("pgpci:key", context.key_id.0.cast_signed().to_string()), // bigint in SQL
        ("pgpci:purpose", context.purpose.as_str().to_string()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

/// The region in `arn:aws:kms:REGION:…`; `None` for other names of keys.
pub(super) fn region_of(kek: &str) -> Option<&str> {
    let mut parts = kek.split(':');
    let is_arn = parts.next() == Some("arn") && parts.next().is_some() && parts.next() == Some("kms");
    // It becomes part of a host name.
    let is_region = |region: &&str| {
        !region.is_empty()
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    parts.next().filter(|_| is_arn).filter(is_region)
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgpci_core::key::{KeyId, Purpose};

    /// Pinned: wrapped keys in existing installations depend on these strings.
    #[test]
    fn the_encryption_context_is_pinned() {
        let installation =
            [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
        let context =
            Context { installation, vault: -3, key_id: KeyId(u64::MAX), purpose: Purpose::Equality };
        let mut pairs: Vec<_> = encryption_context(&context).into_iter().collect();
        pairs.sort();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("pgpci:installation", "01234567-89ab-cdef-fedc-ba9876543210"),
                ("pgpci:key", "-1"),
                ("pgpci:purpose", "equality"),
                ("pgpci:vault", "-3"),
            ]
        );
    }

    #[test]
    fn only_arns_of_kms_name_a_region() {
        let arn = "arn:aws-cn:kms:cn-north-1:111122223333:alias/cards";
        assert_eq!(region_of(arn), Some("cn-north-1"));
        for other in [
            "",
            "alias/cards",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms",
            "arn:aws:kms::111122223333:key/x",
            "arn:aws:s3:eu-west-1:x",
            "arn:aws:kms:evil.example/:x:key/y",
        ] {
            assert_eq!(region_of(other), None, "{other}");
        }
    }
}
