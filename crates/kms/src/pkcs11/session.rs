//! One thread's session with the token: opened when needed, given up at the first trouble, and
//! opened anew.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use pgpci_core::wire::{Description, Failure, FailureKind};

use super::failure::{Trouble, trouble};
use super::library::{Library, Loaded};

/// What a thread of the pool works with.
pub(super) struct Worker {
    library: Arc<Library>,
    open: Option<Open>,
    /// The initialisation of the module that was last worked with.
    generation: u64,
}

struct Open {
    session: Session,
    generation: u64,
    slot: Slot,
    /// The token's serial number.
    serial: String,
    /// Keys found in this session, by their labels.
    keys: HashMap<String, ObjectHandle>,
}

impl Worker {
    pub(super) fn new(library: Arc<Library>) -> Worker {
        Worker { library, open: None, generation: 0 }
    }

    /// Calls `f` with a session and the key labelled `kek`. When that fails for want of a session
    /// or token, it is done again with a new session, and then with the module initialised anew.
    pub(super) fn with_key<T>(
        &mut self,
        kek: &str,
        f: impl Fn(&Session, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        self.with_open(kek, |open, key| f(&open.session, key))
    }

    /// What the key labelled `kek` is.
    pub(super) fn describe(&mut self, kek: &str) -> Result<Description, Failure> {
        self.with_open(kek, |open, key| {
            let wanted = [
                AttributeType::ValueLen,
                AttributeType::Sensitive,
                AttributeType::Extractable,
                AttributeType::Encrypt,
                AttributeType::Decrypt,
            ];
            Ok(description(&open.serial, kek, &open.session.get_attributes(key, &wanted)?))
        })
    }

    fn with_open<T>(
        &mut self,
        kek: &str,
        f: impl Fn(&Open, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut attempts = 0;
        loop {
            let failure = match self.attempt(kek, &f) {
                Ok(value) => return Ok(value),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Lost(failure)) => failure,
            };
            attempts += 1;
            // The second attempt had a new session already.
            if attempts > 2 || attempts == 2 && !self.library.initialize_anew(self.generation) {
                return Err(failure);
            }
        }
    }

    fn attempt<T>(
        &mut self,
        kek: &str,
        f: impl Fn(&Open, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, Trouble> {
        let library = self.library.clone();
        library.load()?;
        let guard = library.read();
        let Some(loaded) = guard.as_ref() else { return Err(trouble(&Error::NotSupported)) };
        self.generation = loaded.generation;
        // Whatever went wrong, the session may be amid an operation: it is not used again.
        let mut open = match self.open.take() {
            Some(open) if open.generation == loaded.generation => open,
            _ => open(&library, loaded)?,
        };
        let result = find(&mut open, &loaded.context, kek)
            .and_then(|key| f(&open, key).map_err(|error| trouble(&error)));
        match result {
            Ok(value) => {
                self.open = Some(open);
                Ok(value)
            }
            Err(trouble) => {
                let _ = open.session.close();
                Err(trouble)
            }
        }
    }
}

fn open(library: &Library, loaded: &Loaded) -> Result<Open, Trouble> {
    let Loaded { context, generation } = loaded;
    let (slot, serial) = slot(context, library.token())?;
    // Dropping it must not close it: after another initialisation its number may be another's.
    let session = context.open_ro_session_no_drop(slot).map_err(|error| trouble(&error))?;
    let mut pin = library.pin.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(trouble) = pin.login(context, slot, &session) {
        let _ = session.close();
        return Err(trouble);
    }
    Ok(Open { session, generation: *generation, slot, serial, keys: HashMap::new() })
}

/// The slot whose token has the label, and the token's serial number.
fn slot(context: &Pkcs11, label: &str) -> Result<(Slot, String), Trouble> {
    let slots = context.get_slots_with_token().map_err(|error| trouble(&error))?;
    let mut found = None;
    for slot in slots {
        // One of other tokens being ill is no matter.
        let Ok(token) = context.get_token_info(slot) else { continue };
        if !token.token_initialized() || token.label() != label {
            continue;
        }
        if found.replace((slot, token.serial_number().to_string())).is_some() {
            return Err(Trouble::Final(Failure::new(
                FailureKind::Invalid,
                format!("rename one token: two have the label {label:?}"),
            )));
        }
    }
    found.ok_or_else(|| {
        Trouble::Lost(Failure::new(
            FailureKind::Unavailable,
            format!("insert or initialise the PKCS#11 token: none has the label {label:?}"),
        ))
    })
}

fn find(open: &mut Open, context: &Pkcs11, kek: &str) -> Result<ObjectHandle, Trouble> {
    if let Some(key) = open.keys.get(kek) {
        return Ok(*key);
    }
    let told = |kind, what: &str| Err(Trouble::Final(Failure::new(kind, format!("{what}: {kek:?}"))));
    if kek.is_empty() {
        return told(FailureKind::NotConfigured, "name a wrapping key: provider pkcs11 needs a label");
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Label(kek.as_bytes().to_vec()),
    ];
    match open.session.find_objects(&template).map_err(|error| trouble(&error))?.as_slice() {
        [key] => {
            open.keys.insert(kek.to_string(), *key);
            Ok(*key)
        }
        [] => {
            // A module may find nothing on a token that went away just now.
            context.get_token_info(open.slot).map_err(|error| trouble(&error))?;
            told(FailureKind::NotConfigured, "make an AES key on the token: none has the label")
        }
        _ => told(FailureKind::Invalid, "rename one key on the token: two have the label"),
    }
}

fn description(serial: &str, kek: &str, attributes: &[Attribute]) -> Description {
    let has = |wanted: &Attribute| attributes.contains(wanted);
    let bytes = attributes.iter().find_map(|attribute| match attribute {
        Attribute::ValueLen(len) => u16::try_from(u64::from(*len)).ok(),
        _ => None,
    });
    let strength_bits = bytes.map_or(0, |bytes| bytes.saturating_mul(8));
    let stays_inside = has(&Attribute::Sensitive(true)) && has(&Attribute::Extractable(false));
    let is_enabled = has(&Attribute::Encrypt(true)) && has(&Attribute::Decrypt(true));
    let note = match (stays_inside, strength_bits, is_enabled) {
        (false, ..) => "the key can leave the token: it must be sensitive and not extractable",
        (_, 0..256, _) => "the key is weaker than the data keys: it must have 256 bits",
        (.., false) => "the key may not both encrypt and decrypt",
        _ => "an AES key that never leaves its token",
    };
    Description {
        provider: super::Pkcs11::NAME.to_string(),
        kek: format!("{serial}/{kek}"),
        strength_bits,
        is_compliant: stays_inside && strength_bits >= 256,
        is_enabled,
        note: note.to_string(),
    }
}
