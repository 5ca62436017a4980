//! Who guesses passwords is locked out (PCI DSS 8.3.4). Knows no clock: every call says what time it is, in
//! microseconds. All of it is plain integers in fixed memory, any content of which means something, so that it can lie
//! in a mapped file that a crash cut off.

mod places;

use places::Places;

/// Roles that failures are counted of. Only roles that exist get here: names that somebody makes up take no place.
pub const ROLES: usize = 2048;
/// Pairs of a role and a source, and sources: the one that failed longest ago gives way.
pub const SOURCES: usize = 1024;
/// PCI DSS 8.3.4. A client that tries with TLS and then without counts once, as long as guesses stay within this.
const MAX_GUESSES: u32 = 10;
/// In so much time, in microseconds.
const PAIR_TIME: i64 = 2_000_000;
const HOUR: i64 = 3_600_000_000;

/// What the settings say.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The failure that locks.
    pub max_failures: u32,
    /// How long a lock lasts; None: until somebody unlocks.
    pub lock_for: Option<i64>,
    /// The time after which one failure is forgiven; 0: never.
    pub forgive_after: i64,
    /// Failures of one source in an hour, whatever the roles; 0: any number.
    pub max_of_source: u32,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The role's number.
    pub role: u32,
    /// Where it came from, hashed.
    pub source: u64,
    /// Whether only the source is locked out of the role: nobody else can lock out a service.
    pub by_source: bool,
    /// Whether the connection was encrypted.
    pub tls: bool,
    /// Now.
    pub now: i64,
}

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was counted.
    Counted(u32),
    /// It locked the role, or the source out of the role.
    Locked,
    /// Nothing: it is locked already, or the second half of a client's one attempt.
    Ignored,
    /// There is no place to count: every place is of a locked role.
    Full,
}

/// Failures of a role, a pair or a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// A role, or a source; 0: a free place.
    key: u64,
    /// The last failure.
    last: i64,
    /// 0: not locked; `i64::MAX`: until unlocked.
    until: i64,
    /// The source of the last failure.
    source: u64,
    failures: u32,
    /// Failures that were second halves.
    pairs: u32,
    /// Whether the last failure came with TLS, and whether its second half may still come.
    tls: u32,
    /// Whether the lock, or its end, is written in the role.
    written: u32,
    /// Of a pair with a source, the role.
    of: u32,
    unused: u32,
}

/// All that is counted.
#[derive(Default)]
#[repr(C)]
pub struct Table {
    roles: Places<ROLES>,
    pairs: Places<SOURCES>,
    sources: Places<SOURCES>,
}

/// A role that is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    /// Its number.
    pub role: u32,
    /// Until when; None: until somebody unlocks.
    pub until: Option<i64>,
}

impl Table {
    /// A wrong password for a role.
    pub fn fail(&mut self, attempt: &Attempt, rules: &Rules) -> Outcome {
        let now = attempt.now;
        self.fail_of_source(attempt, rules);
        let (key, of) = key(attempt);
        let entry = match attempt.by_source {
            true => self.pairs.place(key, of, now),
            false => self.roles.place(key, of, now),
        };
        let Some(entry) = entry else { return Outcome::Full };
        entry.rebase(now);
        if entry.is_locked(now) {
            return Outcome::Ignored;
        }
        if entry.until != 0 {
            // A lock that is over leaves nothing behind.
            *entry = Entry { key, of, ..Entry::default() };
        }
        entry.forgive(now, rules.forgive_after);
        if entry.is_second_half(attempt, rules) {
            entry.tls = 0;
            entry.pairs += 1;
            return Outcome::Ignored;
        }
        entry.count(attempt);
        if entry.failures < rules.max_failures {
            return Outcome::Counted(entry.failures);
        }
        entry.until = rules.lock_for.map_or(i64::MAX, |time| now.saturating_add(time));
        Outcome::Locked
    }

    /// A wrong password for a name that is nobody's, or not to be guessed at: only the source is counted.
    pub fn fail_unknown(&mut self, source: u64, now: i64, rules: &Rules) {
        self.fail_of_source(&Attempt { role: 0, source, by_source: true, tls: false, now }, rules);
    }

    fn fail_of_source(&mut self, attempt: &Attempt, rules: &Rules) {
        if rules.max_of_source == 0 {
            return;
        }
        let (now, step) = (attempt.now, HOUR / i64::from(rules.max_of_source));
        // Sources are many, and nobody else ever takes one away.
        self.sources.free(|it| it.forgiven(now, step).failures == 0);
        if let Some(entry) = self.sources.place(attempt.source | 1, 0, now) {
            entry.forgive(now, step);
            entry.count(attempt);
        }
    }

    /// Whether the role is locked, or its source is locked out of it.
    pub fn is_locked(&self, role: u32, source: u64, now: i64) -> bool {
        let is_locked = |it: &Entry| it.is_locked(now);
        self.roles.find(u64::from(role), 0).is_some_and(is_locked)
            || self.pairs.find(source | 1, role).is_some_and(is_locked)
    }

    /// Whether a source has failed so often that it is heard no more for now.
    pub fn is_throttled(&self, source: u64, now: i64, rules: &Rules) -> bool {
        rules.max_of_source > 0
            && self.sources.find(source | 1, 0).is_some_and(|it| {
                it.forgiven(now, HOUR / i64::from(rules.max_of_source)).failures >= rules.max_of_source
            })
    }

    /// A login of the role succeeded.
    pub fn succeed(&mut self, role: u32, source: u64) {
        if self.roles.find(u64::from(role), 0).is_some_and(|it| it.until == 0) {
            self.roles.free(|it| it.is(u64::from(role), 0));
        }
        if self.pairs.find(source | 1, role).is_some_and(|it| it.until == 0) {
            self.pairs.free(|it| it.is(source | 1, role));
        }
    }

    /// Locks a role; false if there is no place left.
    pub fn lock(&mut self, role: u32, until: Option<i64>, now: i64) -> bool {
        let entry = self.roles.place(u64::from(role), 0, now);
        entry.is_some_and(|entry| {
            entry.last = now;
            entry.until = until.unwrap_or(i64::MAX);
            true
        })
    }

    /// Forgets a role: it was unlocked, or is gone.
    pub fn forget(&mut self, role: u32) {
        self.roles.free(|it| it.is(u64::from(role), 0));
        self.pairs.free(|it| it.of == role);
    }

    /// Looks how many entries there are: what is said of that may be older than they are, after a crash.
    pub fn count(&mut self) {
        self.roles.count();
        self.pairs.count();
        self.sources.count();
    }

    /// The roles that are locked.
    pub fn locked(&self, now: i64) -> impl Iterator<Item = Locked> {
        self.roles
            .taken()
            .iter()
            .filter(move |it| it.key != 0 && it.is_locked(now))
            .map(|it| Locked { role: it.key as u32, until: (it.until != i64::MAX).then_some(it.until) })
    }

    /// Whether there are locks, or ends of locks, that the roles do not have yet.
    pub fn has_unwritten(&self, now: i64) -> bool {
        self.roles.taken().iter().any(|it| it.is_unwritten(now))
    }

    /// Them: each role, and its lock if that is not over.
    pub fn unwritten(&self, now: i64) -> Vec<(u32, Option<Option<i64>>)> {
        let lock = |it: &Entry| it.is_locked(now).then(|| (it.until != i64::MAX).then_some(it.until));
        self.roles
            .taken()
            .iter()
            .filter(|it| it.is_unwritten(now))
            .map(|it| (it.key as u32, lock(it)))
            .collect()
    }

    /// The role has its lock; true.
    pub fn set_written(&mut self, role: u32) -> bool {
        if let Some(entry) =
            self.roles.taken_mut().iter_mut().find(|it| it.key == u64::from(role) && it.until != 0)
        {
            entry.written = 1;
        }
        true
    }

    /// Failures that are counted of a role now.
    pub fn failures(&self, role: u32, now: i64, rules: &Rules) -> u32 {
        self.roles.find(u64::from(role), 0).map_or(0, |it| it.forgiven(now, rules.forgive_after).failures)
    }
}

impl Entry {
    fn is(&self, key: u64, of: u32) -> bool {
        self.key == key && self.of == of
    }

    /// A lock that is over is unwritten, whatever was written of it.
    fn is_unwritten(&self, now: i64) -> bool {
        self.key != 0 && self.until != 0 && (self.written == 0 || !self.is_locked(now))
    }

    fn is_locked(&self, now: i64) -> bool {
        self.until > now
    }

    /// The clock was set back: what was counted is as old as if it had just happened, and no lock lasts longer than it
    /// would have.
    fn rebase(&mut self, now: i64) {
        let ahead = self.last.saturating_sub(now);
        if ahead > 0 {
            self.last = now;
            if self.until != 0 && self.until != i64::MAX {
                self.until = self.until.saturating_sub(ahead);
            }
        }
    }

    fn forgive(&mut self, now: i64, after: i64) {
        self.rebase(now);
        if after > 0 && self.until == 0 {
            let steps = now.saturating_sub(self.last) / after;
            if steps > 0 {
                self.failures = self.failures.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
                self.last = self.last.saturating_add(steps.saturating_mul(after));
            }
            if self.failures == 0 {
                self.pairs = 0;
            }
        }
    }

    /// As it will be then.
    fn forgiven(mut self, now: i64, after: i64) -> Entry {
        self.forgive(now, after);
        self
    }

    fn is_second_half(&self, attempt: &Attempt, rules: &Rules) -> bool {
        self.tls == 1
            && !attempt.tls
            && self.failures > 0
            && self.source == attempt.source
            && attempt.now - self.last < PAIR_TIME
            && self.pairs < MAX_GUESSES.saturating_sub(rules.max_failures)
    }

    fn count(&mut self, attempt: &Attempt) {
        self.failures = self.failures.saturating_add(1);
        self.last = attempt.now;
        self.source = attempt.source;
        self.tls = u32::from(attempt.tls);
    }
}

fn key(attempt: &Attempt) -> (u64, u32) {
    if attempt.by_source { (attempt.source | 1, attempt.role) } else { (u64::from(attempt.role), 0) }
}

#[cfg(test)]
mod tests;
