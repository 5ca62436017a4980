//! The vendor's module in this process: loaded and initialised once, and initialised anew when
//! its token has gone.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use pgpci_core::wire::{Failure, FailureKind};

use super::Pkcs11Config;
use super::failure::{Trouble, trouble};
use super::pin::Pin;

/// How long initialising anew waits for calls of other threads to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The module, shared by all threads. Readers call into it; the writer initialises it.
pub(super) struct Library {
    config: Pkcs11Config,
    loaded: RwLock<Option<Loaded>>,
    /// Held while logging in: two threads must not try one PIN twice.
    pub pin: Mutex<Pin>,
}

/// An initialised module.
pub(super) struct Loaded {
    /// The module's functions.
    pub context: Pkcs11,
    /// Counts initialisations: sessions of an earlier one are void, and their numbers may belong
    /// to others now.
    pub generation: u64,
}

impl Library {
    pub(super) fn new(config: Pkcs11Config) -> Library {
        let pin = Mutex::new(Pin::new(config.pin_file.clone()));
        Library { config, loaded: RwLock::new(None), pin }
    }

    /// The label of the token.
    pub(super) fn token(&self) -> &str {
        self.config.token.as_deref().unwrap_or_default()
    }

    /// Loads the module if it is not. It stays loaded for good: many do not survive unloading.
    pub(super) fn load(&self) -> Result<(), Trouble> {
        if self.read().is_some() {
            return Ok(());
        }
        let Pkcs11Config { module: Some(module), token: Some(_), pin_file: Some(_) } = &self.config else {
            return Err(Trouble::Final(Failure::new(
                FailureKind::NotConfigured,
                "provider pkcs11 needs a module, a token's label and a PIN file",
            )));
        };
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if loaded.is_none() {
            let context = Pkcs11::new(module).map_err(|error| trouble(&error))?;
            initialize(&context).map_err(|error| trouble(&error))?;
            *loaded = Some(Loaded { context, generation: 0 });
        }
        Ok(())
    }

    /// The module, while the guard is held.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Option<Loaded>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finalises and initialises the module, which looks for tokens anew, unless somebody did
    /// since `generation`. False if calls of other threads do not end.
    pub(super) fn initialize_anew(&self, generation: u64) -> bool {
        let start = Instant::now();
        let mut loaded = loop {
            match self.loaded.try_write() {
                Ok(loaded) => break loaded,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return false,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if let Some(loaded) = loaded.as_mut().filter(|loaded| loaded.generation == generation) {
            loaded.generation += 1;
            // What cannot be finalised may still be initialised; if not, calls will say so.
            let _ = loaded.context.clone().finalize();
            let _ = initialize(&loaded.context);
        }
        true
    }
}

fn initialize(context: &Pkcs11) -> Result<(), Error> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        result => result,
    }
}
