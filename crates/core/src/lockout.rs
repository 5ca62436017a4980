//! Who guesses passwords is locked out (PCI DSS 8.3.4). Knows no clock: every call says what time it is, in
//! microseconds. All of it is plain integers in fixed memory, any content of which means something, so that it can lie
//! in a mapped file that a crash cut off.

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
#[repr(C)]
pub struct Table {
    roles: [Entry; ROLES],
    pairs: [Entry; SOURCES],
    sources: [Entry; SOURCES],
}

/// A role that is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locked {
    /// Its number.
    pub role: u32,
    /// Until when; None: until somebody unlocks.
    pub until: Option<i64>,
}

impl Default for Table {
    fn default() -> Self {
        let (roles, sources) = ([Entry::default(); ROLES], [Entry::default(); SOURCES]);
        Table { roles, pairs: sources, sources }
    }
}

impl Table {
    /// A wrong password for a role.
    pub fn fail(&mut self, attempt: &Attempt, rules: &Rules) -> Outcome {
        let Attempt { source, now, .. } = *attempt;
        if rules.max_of_source > 0
            && let Some(entry) = place(&mut self.sources, source | 1, now)
        {
            entry.forgive(now, HOUR / i64::from(rules.max_of_source));
            entry.count(attempt);
        }
        let places = if attempt.by_source { &mut self.pairs[..] } else { &mut self.roles[..] };
        let (key, of) = key(attempt);
        let Some(entry) = place_of(places, key, of, now) else { return Outcome::Full };
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
        if rules.max_of_source > 0
            && let Some(entry) = place(&mut self.sources, source | 1, now)
        {
            entry.forgive(now, HOUR / i64::from(rules.max_of_source));
            entry.count(&Attempt { role: 0, source, by_source: true, tls: false, now });
        }
    }

    /// Whether the role is locked, or its source is locked out of it.
    pub fn is_locked(&self, role: u32, source: u64, now: i64) -> bool {
        find(&self.roles, u64::from(role)).is_some_and(|it| it.is_locked(now))
            || self.pairs.iter().any(|it| it.is(source | 1, role) && it.is_locked(now))
    }

    /// Whether a source has failed so often that it is heard no more for now.
    pub fn is_throttled(&self, source: u64, now: i64, rules: &Rules) -> bool {
        rules.max_of_source > 0
            && find(&self.sources, source | 1).is_some_and(|it| {
                let mut it = *it;
                it.forgive(now, HOUR / i64::from(rules.max_of_source));
                it.failures >= rules.max_of_source
            })
    }

    /// A login of the role succeeded.
    pub fn succeed(&mut self, role: u32, source: u64) {
        for (places, key, of) in
            [(&mut self.roles[..], u64::from(role), 0), (&mut self.pairs[..], source | 1, role)]
        {
            if let Some(entry) = places.iter_mut().find(|it| it.is(key, of) && it.until == 0) {
                *entry = Entry::default();
            }
        }
    }

    /// Locks a role; false if there is no place left.
    pub fn lock(&mut self, role: u32, until: Option<i64>, now: i64) -> bool {
        let entry = place(&mut self.roles, u64::from(role), now);
        entry.is_some_and(|entry| {
            entry.last = now;
            entry.until = until.unwrap_or(i64::MAX);
            true
        })
    }

    /// Forgets a role: it was unlocked, or is gone.
    pub fn forget(&mut self, role: u32) {
        let roles = self.roles.iter_mut().filter(|it| it.key == u64::from(role));
        let pairs = self.pairs.iter_mut().filter(|it| it.key != 0 && it.of == role);
        roles.chain(pairs).for_each(|it| *it = Entry::default());
    }

    /// The roles that are locked.
    pub fn locked(&self, now: i64) -> impl Iterator<Item = Locked> {
        self.roles
            .iter()
            .filter(move |it| it.key != 0 && it.is_locked(now))
            .map(|it| Locked { role: it.key as u32, until: (it.until != i64::MAX).then_some(it.until) })
    }

    /// Whether there are locks, or ends of locks, that the roles do not have yet.
    pub fn has_unwritten(&self, now: i64) -> bool {
        self.roles.iter().any(|it| it.is_unwritten(now))
    }

    /// Them: each role, and its lock if that is not over.
    pub fn unwritten(&self, now: i64) -> Vec<(u32, Option<Option<i64>>)> {
        let lock = |it: &Entry| it.is_locked(now).then(|| (it.until != i64::MAX).then_some(it.until));
        self.roles.iter().filter(|it| it.is_unwritten(now)).map(|it| (it.key as u32, lock(it))).collect()
    }

    /// The role has its lock; true.
    pub fn set_written(&mut self, role: u32) -> bool {
        if let Some(entry) = self.roles.iter_mut().find(|it| it.key == u64::from(role) && it.until != 0) {
            entry.written = 1;
        }
        true
    }

    /// Failures that are counted of a role now.
    pub fn failures(&self, role: u32, now: i64, rules: &Rules) -> u32 {
        find(&self.roles, u64::from(role)).map_or(0, |it| {
            let mut it = *it;
            it.forgive(now, rules.forgive_after);
            it.failures
        })
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

fn find(places: &[Entry], key: u64) -> Option<&Entry> {
    places.iter().find(|it| it.key == key)
}

fn place(places: &mut [Entry], key: u64, now: i64) -> Option<&mut Entry> {
    place_of(places, key, 0, now)
}

/// The entry of a key; a new one in a free place, else in that of whoever is not locked and failed longest ago, else in
/// that of whose lock was longest ago and is in the role itself, or of a source: who has many of those is still counted.
fn place_of(places: &mut [Entry], key: u64, of: u32, now: i64) -> Option<&mut Entry> {
    let found = places.iter().position(|it| it.is(key, of)).or_else(|| {
        let free = places.iter().position(|it| it.key == 0);
        let oldest = |gives_way: &dyn Fn(&Entry) -> bool| {
            let those = places.iter().enumerate().filter(|(_, it)| gives_way(it));
            those.min_by_key(|(_, it)| it.last).map(|(i, _)| i)
        };
        free.or_else(|| oldest(&|it| !it.is_locked(now)))
            .or_else(|| oldest(&|it| it.written != 0 || it.of != 0))
    })?;
    let entry = &mut places[found];
    if !entry.is(key, of) {
        *entry = Entry { key, of, ..Entry::default() };
    }
    Some(entry)
}

#[cfg(test)]
mod tests;
