//! When and from where roles last logged in. As in `lockout`, plain integers in fixed memory, any content of which means
//! something, and no clock.

/// Roles that are remembered; of more, the one that came longest ago gives way.
pub const ROLES: usize = 4096;
/// Places that a role may be in.
const PROBES: usize = 32;
/// Logins of a role that are remembered.
const RECENT: usize = 4;

/// A login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Login {
    /// When, in microseconds; 0: there was none.
    pub time: i64,
    /// From where, hashed.
    pub source: u64,
    /// The session's process.
    pub process: i32,
    unused: u32,
}

/// What is known of the logins of a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Seen {
    /// Whose; 0: a free place.
    role: u32,
    /// How often it was used from several sources.
    pub shared: u32,
    /// When it was, last; 0: never.
    pub shared_at: i64,
    /// The last login.
    pub last: i64,
    /// The last login that the role's label has.
    written: i64,
    recent: [Login; RECENT],
}

/// All of them.
#[repr(C)]
pub struct Logins {
    /// When all roles were last looked over.
    pub swept: i64,
    places: [Seen; ROLES],
}

impl Default for Logins {
    fn default() -> Self {
        Logins { swept: 0, places: [Seen::default(); ROLES] }
    }
}

impl Login {
    /// A login.
    pub fn new(time: i64, source: u64, process: i32) -> Self {
        Login { time, source, process, unused: 0 }
    }
}

impl Logins {
    /// A login of a role. True if another session of it, from elsewhere, is open, as `is_open` says of its process, or
    /// began less than `window` ago.
    pub fn log_in(&mut self, role: u32, login: Login, window: i64, is_open: impl Fn(i32) -> bool) -> bool {
        let seen = self.place(role);
        let is_near = |other: &Login| (0..window).contains(&login.time.saturating_sub(other.time));
        let is_shared = seen.recent.iter().any(|other| {
            other.time != 0 && other.source != login.source && (is_near(other) || is_open(other.process))
        });
        // Of each source, the last login is remembered.
        let at = seen.recent.iter().position(|it| it.source == login.source && it.time != 0);
        let oldest = || (0..RECENT).min_by_key(|at| seen.recent[*at].time).unwrap_or(0);
        let at = at.unwrap_or_else(oldest);
        seen.recent[at] = login;
        seen.last = login.time;
        if is_shared {
            seen.shared = seen.shared.saturating_add(1);
            seen.shared_at = login.time;
        }
        is_shared
    }

    /// What is known of a role.
    pub fn seen(&self, role: u32) -> Seen {
        probes(role).map(|at| self.places[at]).find(|it| it.role == role && role != 0).unwrap_or_default()
    }

    /// The roles whose labels are so far behind, or ahead, of their last logins; and those.
    pub fn unwritten(&self, grain: i64) -> impl Iterator<Item = (u32, i64)> {
        let is_behind =
            move |it: &&Seen| it.role != 0 && it.last.abs_diff(it.written) >= grain.unsigned_abs();
        self.places.iter().filter(is_behind).map(|it| (it.role, it.last))
    }

    /// The role's label has a login.
    pub fn set_written(&mut self, role: u32, last: i64) {
        if let Some(seen) = self.places.iter_mut().find(|it| it.role == role) {
            seen.written = last;
        }
    }

    /// Forgets a role that is gone.
    pub fn forget(&mut self, role: u32) {
        if let Some(seen) = self.places.iter_mut().find(|it| it.role == role) {
            *seen = Seen::default();
        }
    }

    fn place(&mut self, role: u32) -> &mut Seen {
        let own = probes(role).find(|at| self.places[*at].role == role);
        let free = || probes(role).find(|at| self.places[*at].role == 0);
        let oldest = || probes(role).min_by_key(|at| self.places[*at].last);
        let at = own.or_else(free).or_else(oldest).unwrap_or(0);
        let seen = &mut self.places[at];
        if seen.role != role {
            *seen = Seen { role, ..Seen::default() };
        }
        seen
    }
}

fn probes(role: u32) -> impl Iterator<Item = usize> {
    let first = (role.wrapping_mul(0x9E37_79B1) >> 20) as usize;
    (0..PROBES).map(move |step| (first + step) % ROLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn is_shared(logins: &mut Logins, source: u64, time: i64, open: &[i32]) -> bool {
        let login = Login::new(time, source, source as i32);
        logins.log_in(7, login, 5 * MINUTE, |process| open.contains(&process))
    }

    #[test]
    fn one_account_from_several_sources() {
        let mut logins = Logins::default();
        let first = 1000 * MINUTE;
        assert!(!is_shared(&mut logins, 1, first, &[]));
        assert!(!is_shared(&mut logins, 1, first + 1, &[1]), "the same one again");
        assert!(!is_shared(&mut logins, 2, first + 60 * MINUTE, &[]), "an hour later from elsewhere");
        assert!(is_shared(&mut logins, 1, first + 61 * MINUTE, &[]), "a minute later");
        assert!(!is_shared(&mut logins, 3, first + 90 * MINUTE, &[7, 8]), "others are open");
        assert!(is_shared(&mut logins, 4, first + 120 * MINUTE, &[1]), "one of its own is open still");
        assert_eq!((logins.seen(7).shared, logins.seen(7).shared_at), (2, first + 120 * MINUTE));
        assert_eq!(logins.seen(8), Seen::default());
        // A clock that was set back.
        assert!(!is_shared(&mut logins, 5, first, &[]));
        assert_eq!(logins.seen(7).last, first);
    }

    #[test]
    fn what_the_label_does_not_have() {
        let mut logins = Logins::default();
        is_shared(&mut logins, 1, 100, &[]);
        assert_eq!(logins.unwritten(90).collect::<Vec<_>>(), [(7, 100)]);
        logins.set_written(7, 100);
        assert_eq!(logins.unwritten(90).count(), 0);
        is_shared(&mut logins, 1, 189, &[]);
        assert_eq!(logins.unwritten(90).count(), 0);
        is_shared(&mut logins, 1, 190, &[]);
        assert_eq!(logins.unwritten(90).collect::<Vec<_>>(), [(7, 190)]);
        // A time that was wrong is mended.
        logins.set_written(7, 1_000_000);
        assert_eq!(logins.unwritten(90).count(), 1);
        logins.forget(7);
        assert_eq!((logins.unwritten(90).count(), logins.seen(7).last), (0, 0));
    }

    #[test]
    fn more_roles_than_there_is_room_for() {
        let mut logins = Logins::default();
        for role in 1..=20_000u32 {
            logins.log_in(role, Login::new(i64::from(role), 1, 1), 0, |_| false);
            assert_eq!(logins.seen(role).last, i64::from(role));
        }
        let known = (1..=20_000u32).filter(|role| logins.seen(*role).last != 0).count();
        assert!(known > ROLES / 2, "{known}");
    }
}
