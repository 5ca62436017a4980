//! Entries in fixed memory. Whoever looks for one looks at the places that are taken: few, most of the time.

use super::Entry;

/// So many places.
#[repr(C)]
pub struct Places<const N: usize> {
    /// Behind the last entry; whoever reads this looks no farther.
    pub(super) used: u32,
    unused: u32,
    entries: [Entry; N],
}

impl<const N: usize> Default for Places<N> {
    fn default() -> Self {
        Places { used: 0, unused: 0, entries: [Entry::default(); N] }
    }
}

impl<const N: usize> Places<N> {
    /// The entries, free places among them.
    pub fn taken(&self) -> &[Entry] {
        &self.entries[..N.min(self.used as usize)]
    }

    /// The same, to be changed.
    pub fn taken_mut(&mut self) -> &mut [Entry] {
        &mut self.entries[..N.min(self.used as usize)]
    }

    /// The entry of a key.
    pub fn find(&self, key: u64, of: u32) -> Option<&Entry> {
        self.taken().iter().find(|it| it.is(key, of))
    }

    /// The entry of a key; a new one in a free place, else in that of whoever is not locked and failed longest ago, else in
    /// that of whose lock was longest ago and is in the role itself, or of a source: who has many of those is still counted.
    pub fn place(&mut self, key: u64, of: u32, now: i64) -> Option<&mut Entry> {
        let taken = self.taken();
        let own_or_free = taken.iter().position(|it| it.is(key, of)).or_else(|| {
            let free = taken.iter().position(|it| it.key == 0);
            free.or((taken.len() < N).then_some(taken.len()))
        });
        let oldest = |gives_way: &dyn Fn(&Entry) -> bool| {
            let those = taken.iter().enumerate().filter(|(_, it)| gives_way(it));
            those.min_by_key(|(_, it)| it.last).map(|(i, _)| i)
        };
        let found = own_or_free
            .or_else(|| oldest(&|it| !it.is_locked(now)))
            .or_else(|| oldest(&|it| it.written != 0 || it.of != 0))?;
        // First: an entry behind it would not be there.
        self.used = self.used.max(found as u32 + 1);
        let entry = &mut self.entries[found];
        if !entry.is(key, of) {
            *entry = Entry { key, of, ..Entry::default() };
        }
        Some(entry)
    }

    /// Frees the places of entries that nobody needs.
    pub fn free(&mut self, is_needless: impl Fn(&Entry) -> bool) {
        for entry in self.taken_mut().iter_mut().filter(|it| it.key != 0 && is_needless(it)) {
            *entry = Entry::default();
        }
        let last = self.taken().iter().rposition(|it| it.key != 0);
        self.used = last.map_or(0, |last| last as u32 + 1);
    }

    /// Looks how many are taken: what says so may be older than the entries.
    pub fn count(&mut self) {
        self.used = N as u32;
        self.free(|_| false);
    }
}
