//! The secret memory: what is wiped is gone, from slots and from what sessions derived.

#[pgrx::pg_schema]
mod tests {
    use pgpci_core::key::{DataKey, EqualityKey, HashKey, KeyId, PolicyKey};
    use pgrx::prelude::*;

    use crate::pg::slice::{self, Ready};
    use crate::pg::{region, session};
    use crate::pg_test::set_up::{grant, run, set_up};

    const MINUTE: i64 = 60_000_000;

    fn ready(id: u64) -> Ready {
        let key = [id as u8; 32];
        match id % 4 {
            0 => Ready::Data(DataKey::new(KeyId(id), &key)),
            1 => Ready::Equality(EqualityKey::new(&key)),
            2 => Ready::Hash(HashKey::new(&key)),
            _ => Ready::Policy(PolicyKey::new(&key)),
        }
    }

    fn is_ready(id: u64) -> bool {
        slice::with(id, |_| ()).is_some()
    }

    /// Slots that hold a key, and slots with a byte of one.
    fn slots() -> (usize, usize) {
        let counted = region::locked(|region| {
            let full = region.slots.iter().filter(|s| s.full).count();
            (full, region.slots.iter().filter(|s| s.key != [0; 32]).count())
        });
        match counted {
            Some(counted) => counted,
            None => panic!("no region"),
        }
    }

    #[pg_test]
    fn slices_lose_what_has_expired() {
        let now = session::now();
        for id in 100..104 {
            assert!(slice::keep(id, now + MINUTE * id as i64, ready(id)));
        }
        assert!((100..104).all(is_ready));
        slice::wipe_expired(now + MINUTE * 101);
        assert_eq!((100..104).map(is_ready).collect::<Vec<_>>(), [false, false, true, true]);
        slice::wipe_all();
        assert!(!(100..104).any(is_ready));
    }

    #[pg_test]
    fn slices_keep_the_most_recently_used() {
        slice::wipe_all();
        for id in 1..=8 {
            assert!(slice::keep(id, i64::MAX, ready(id)));
        }
        assert!(is_ready(1));
        assert!(slice::keep(9, i64::MAX, ready(9)));
        assert_eq!((1..=9).filter(|id| !is_ready(*id)).collect::<Vec<_>>(), [2]);
        slice::wipe_all();
    }

    #[pg_test]
    fn wiping_leaves_nothing_and_keys_come_back() {
        set_up();
        grant("store");
        grant("reveal");
        let use_keys = || run("SELECT pci.reveal('4111111111111111'::text::pci.pan)");
        use_keys();
        let (full, with_bytes) = slots();
        assert!(full >= 4 && with_bytes == full, "{full} {with_bytes}");
        region::wipe();
        assert_eq!(slots(), (0, 0));
        use_keys();
        // The policy was verified before: its key is not needed again.
        assert!(slots().0 >= 2);
    }

    /// The broker does it by itself, for sessions that do nothing.
    #[pg_test]
    fn the_broker_wipes_what_has_expired() {
        set_up();
        let now = session::now();
        assert!(slice::keep(7, now, ready(7)));
        region::locked(|region| region.slots.iter_mut().for_each(|slot| slot.expires = now));
        for _ in 0..200 {
            if slots() == (0, 0) && !is_ready(7) {
                return;
            }
            session::wait(50);
        }
        panic!("the broker wiped nothing");
    }
}
