//! A value that is wiped when dropped and never printed.

use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Holds key material or clear digits: wiped on drop, printed as `***`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over; a copy the caller keeps is the caller's to wipe.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// The value itself. The name makes every use easy to find in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for Secret<T> {}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_printed() {
        let mut secret = Secret::new([7u8; 32]);
        secret.expose_mut()[0] = 8;
        assert_eq!(secret.expose()[0], 8);
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }
}
