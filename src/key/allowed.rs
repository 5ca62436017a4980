//! `pgpci.kek_allow`: which wrapping keys this database may use. Databases that share one are one trust domain.

use crate::error::{Error, Result};
use crate::guc;
use crate::pg::session;

/// 42501 unless the setting is empty or has an entry for this database and the wrapping key.
pub fn check(provider: &str, kek: &str) -> Result<()> {
    let Some(setting) = guc::KEK_ALLOW.get().filter(|setting| !setting.is_empty()) else {
        return Ok(());
    };
    let database = session::database_name();
    let entry = format!("{database}={provider}:{kek}");
    if setting.to_string_lossy().split(',').any(|allowed| allowed.trim() == entry) {
        return Ok(());
    }
    let what = if kek.is_empty() { provider.to_owned() } else { format!("\"{kek}\" of {provider}") };
    Err(Error::denied(format!("database \"{database}\" is not allowed the wrapping key {what}"))
        .hint(format!("pgpci.kek_allow in the configuration file has no entry {entry}.")))
}
