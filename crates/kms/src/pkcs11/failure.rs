//! What the errors of a PKCS#11 module mean here. Messages begin with what to do, and carry
//! nothing but the names of a function and an error.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use pgpci_core::wire::{Failure, FailureKind};

/// A failure, and whether a new session or module may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Session, token or module were lost.
    Lost(Failure),
    /// It would be the same again.
    Final(Failure),
}

/// Whether this is what some module says of a blob that it cannot decrypt.
pub(super) fn may_be_the_blob(error: &Error) -> bool {
    use RvError::{
        ArgumentsBad, DataInvalid, DataLenRange, EncryptedDataInvalid, EncryptedDataLenRange, FunctionFailed,
        GeneralError, SignatureInvalid, UnknownErrorCode, VendorDefined,
    };
    matches!(
        error,
        Error::Pkcs11(
            ArgumentsBad
                | DataInvalid
                | DataLenRange
                | EncryptedDataInvalid
                | EncryptedDataLenRange
                | FunctionFailed
                | GeneralError
                | SignatureInvalid
                | UnknownErrorCode(_)
                | VendorDefined(_),
            Function::Decrypt | Function::DecryptFinal
        )
    )
}

pub(super) fn trouble(error: &Error) -> Trouble {
    use FailureKind::{NotConfigured, Refused, Unavailable};
    let (kind, remedy) = match error {
        Error::LibraryLoading(error) => {
            let message = format!("install the PKCS#11 module: it cannot be loaded: {error}");
            return Trouble::Final(Failure::new(NotConfigured, message));
        }
        Error::MissingSymbol(_) | Error::NullFunctionPointer => {
            let message = "correct the path of the PKCS#11 module: this is none";
            return Trouble::Final(Failure::new(NotConfigured, message));
        }
        Error::Pkcs11(error, _) => match error {
            RvError::MechanismInvalid | RvError::MechanismParamInvalid => {
                (Refused, "use a token with CKM_AES_GCM for encryption")
            }
            RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::KeySizeRange
            | RvError::ActionProhibited => (Refused, "use an AES key that may encrypt and decrypt"),
            RvError::PinLocked => (Refused, "unlock the PIN as the token's security officer"),
            RvError::PinExpired | RvError::UserPinNotInitialized => {
                (Refused, "set the PIN of the token's user")
            }
            _ => (Unavailable, "see to the PKCS#11 token and its module"),
        },
        _ => (Unavailable, "see to the PKCS#11 token and its module"),
    };
    let failure = Failure::new(kind, format!("{remedy}: {}", named(error)));
    if kind == Unavailable { Trouble::Lost(failure) } else { Trouble::Final(failure) }
}

/// `C_Login: PinLocked`
fn named(error: &Error) -> String {
    match error {
        Error::Pkcs11(error, function) => format!("C_{function:?}: {error:?}"),
        other => other.to_string(),
    }
}
