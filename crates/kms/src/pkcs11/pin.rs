//! The PIN file. A PIN that the token refused is not tried again: tokens lock themselves after a
//! few wrong ones, and then nobody gets in.

use std::path::PathBuf;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use pgpci_core::wire::{Failure, FailureKind};
use zeroize::Zeroizing;

use super::failure::{Trouble, trouble};
use crate::private;

/// The longest PIN in bytes.
const MAX_LEN: usize = 255;

/// The PIN file, and the PIN that was refused.
pub(super) struct Pin {
    file: Option<PathBuf>,
    /// Kept, and not a hash of it: PINs are short, so that a hash hides nothing.
    refused: Option<Zeroizing<Vec<u8>>>,
}

impl Pin {
    pub(super) fn new(file: Option<PathBuf>) -> Pin {
        Pin { file, refused: None }
    }

    /// Logs the session in, if it is not: one login is for all sessions of this process.
    pub(super) fn login(&mut self, context: &Pkcs11, slot: Slot, session: &Session) -> Result<(), Trouble> {
        let token = context.get_token_info(slot).map_err(|error| trouble(&error))?;
        let state = session.get_session_info().map_err(|error| trouble(&error))?.session_state();
        if !token.login_required() || matches!(state, SessionState::RoUser | SessionState::RwUser) {
            return Ok(());
        }
        let pin = self.read()?;
        if self.refused.as_ref() == Some(&pin) {
            return refused("correct the PIN file: the token refused this PIN, and it is not tried again");
        }
        if token.user_pin_locked() {
            return refused("unlock the PIN as the token's security officer: it is locked");
        }
        if token.user_pin_final_try() {
            return refused("log in to the token by hand: one wrong PIN more would lock it");
        }
        let attempt = RawAuthPin::new(Box::new(pin.to_vec()));
        match session.login_with_raw(UserType::User, &attempt) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused = None;
                Ok(())
            }
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
                self.refused = Some(pin);
                refused("correct the PIN file: the token refused the PIN")
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    /// The file's content without the line's end.
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let path = self.file.as_deref().unwrap_or_else(|| "".as_ref());
        let failure = |kind, what: &dyn std::fmt::Display| {
            Trouble::Final(Failure::new(kind, format!("PIN file {what}: {}", path.display())))
        };
        let mut content = Zeroizing::new([0; MAX_LEN + 2]);
        let len = private::read(path, content.as_mut_slice()).map_err(|error| {
            let kind = match error {
                private::Error::Missing => FailureKind::NotConfigured,
                private::Error::Os(..) => FailureKind::Unavailable,
                _ => FailureKind::Refused,
            };
            failure(kind, &error)
        })?;
        let content = content.get(..len).unwrap_or_default();
        let pin = content.strip_suffix(b"\n").unwrap_or(content);
        if pin.is_empty() || pin.len() > MAX_LEN || pin.contains(&b'\n') {
            return Err(failure(FailureKind::Invalid, &"is not one line with a PIN"));
        }
        Ok(Zeroizing::new(pin.to_vec()))
    }
}

fn refused(message: &str) -> Result<(), Trouble> {
    Err(Trouble::Final(Failure::new(FailureKind::Refused, message)))
}
