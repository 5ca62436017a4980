//! In-backend tests.

/// What pgrx asks for before each test.
pub fn setup(_options: Vec<&str>) {}

/// The server's settings for the tests.
#[must_use]
pub fn postgresql_conf_options() -> Vec<&'static str> {
    vec!["shared_preload_libraries = 'pgpci'"]
}
