//! The ring, as producers and the worker see it; each test has one of its own.

#[pgrx::pg_schema]
mod tests {
    use std::time::{Duration, Instant};

    use pgrx::prelude::*;

    use crate::pg::ring::{Head, Next, Share};
    use crate::pg::ring_memory;

    const SLOTS: u64 = 64;

    fn new_ring() -> &'static Head {
        ring_of(SLOTS)
    }

    fn ring_of(slots: u64) -> &'static Head {
        let head = ring_memory::map(slots).expect("memory for a few slots");
        // SAFETY: mapped for the rest of the process.
        #[allow(unsafe_code)]
        unsafe {
            &*head
        }
    }

    fn take(ring: &Head, place: &mut u64) -> Option<Vec<u8>> {
        let mut event = Vec::new();
        match ring.next(*place, &mut event) {
            Next::Event(slots) => {
                *place += slots;
                Some(event)
            }
            Next::Nothing => None,
            Next::Torn { slots, .. } => panic!("torn: {slots}"),
        }
    }

    #[pg_test]
    fn events_of_every_length_come_out_as_they_went_in() {
        let ring = new_ring();
        let mut place = 0;
        // Round and round, over the ring's end too.
        for len in [0, 1, 463, 464, 465, 928, 929, 5000, 20_000].into_iter().cycle().take(500) {
            let event: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            let end = ring.push(&event, Share::Common).expect("room");
            assert_eq!(take(ring, &mut place).as_deref(), Some(&event[..]), "{len} bytes");
            assert_eq!((place, take(ring, &mut place)), (end, None));
            ring.durable(place);
        }
    }

    /// A large ring costs no more of the processor's caches than a small one while the worker keeps up.
    #[pg_test]
    fn what_was_left_last_is_taken_first() {
        let ring = ring_of(64 * 32);
        let (mut place, mut highest) = (0, 0);
        for number in 0..64 * 32 * 5 {
            let end = ring.push(b"ordinary", Share::Common).expect("room");
            highest = highest.max(ring.index(end - 1));
            if number % 20 == 19 {
                while take(ring, &mut place).is_some() {}
                ring.durable(place);
            }
        }
        assert!(highest < 3 * 32, "slot {highest}");
        // Unless it falls behind: then there is room for all.
        let mut indexes = std::collections::HashSet::new();
        while let Some(end) = ring.push(b"repair", Share::Repair) {
            assert!(indexes.insert(ring.index(end - 1)), "one slot for two places");
        }
        assert!(indexes.len() > 62 * 32, "{} slots", indexes.len());
        while take(ring, &mut place).is_some() {}
        ring.durable(place);
        assert!(ring.push(&[b'x'; 464 * 1000], Share::Common).is_some());
        assert_eq!(take(ring, &mut place).map(|event| event.len()), Some(464_000));
    }

    /// Many threads that claim at once, and a worker that follows: each event comes out once, as it went in.
    #[pg_test]
    fn producers_at_once_have_slots_of_their_own() {
        let ring = ring_of(64);
        let (threads, each) = (4_u64, 20_000_u64);
        let mut seen = vec![0_u64; threads as usize];
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for number in 0..each {
                        let event = [thread, number]
                            .map(u64::to_le_bytes)
                            .concat()
                            .repeat(1 + (number % 3) as usize * 20);
                        while ring.push(&event, Share::Common).is_none() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let (mut place, mut taken, began) = (0, 0, Instant::now());
            while taken < threads * each {
                assert!(began.elapsed() < Duration::from_secs(60), "{taken} events came");
                let Some(event) = take(ring, &mut place) else {
                    ring.durable(place);
                    std::thread::yield_now();
                    continue;
                };
                taken += 1;
                let word = |at: usize| u64::from_le_bytes(event[at..at + 8].try_into().expect("8 bytes"));
                let (thread, number) = (word(0) as usize, word(8));
                assert_eq!(number, seen[thread], "thread {thread}");
                assert_eq!(event.len(), 16 * (1 + (number % 3) as usize * 20));
                seen[thread] += 1;
            }
        });
        assert_eq!(seen, vec![each; threads as usize]);
    }

    #[pg_test]
    fn a_part_is_left_to_those_that_never_wait() {
        let ring = new_ring();
        let mut count = 0;
        while ring.push(b"ordinary", Share::Common).is_some() {
            count += 1;
        }
        assert_eq!(count, SLOTS - SLOTS / 8);
        while ring.push(b"urgent", Share::Unwaiting).is_some() {
            count += 1;
        }
        assert_eq!(count, SLOTS - SLOTS / 16);
        while ring.push(b"repair", Share::Repair).is_some() {
            count += 1;
        }
        assert_eq!(count, SLOTS);
        let mut place = 0;
        assert_eq!(take(ring, &mut place).as_deref(), Some(&b"ordinary"[..]));
        ring.durable(place);
        assert!(
            ring.push(b"urgent", Share::Unwaiting).is_none() && ring.push(b"repair", Share::Repair).is_some()
        );
    }

    #[pg_test]
    fn the_worker_does_not_fall_asleep_over_what_it_waits_for() {
        let ring = new_ring();
        assert!(ring.set_alarm(0));
        ring.push(b"first", Share::Common).expect("room");
        assert!(!ring.set_alarm(0), "there is something already");
        assert!(ring.set_alarm(1), "it waits for the second");
        ring.push(b"second", Share::Common).expect("room");
        assert!(!ring.set_alarm(1));
    }

    #[pg_test]
    fn what_a_dead_process_left_is_torn() {
        let ring = new_ring();
        ring.push(b"first", Share::Common).expect("room");
        ring.claim(2, Share::Common).expect("room");
        ring.push(&[b'x'; 1000], Share::Common).expect("room");
        let (mut place, mut event) = (0, Vec::new());
        assert_eq!(take(ring, &mut place).as_deref(), Some(&b"first"[..]));
        // Whoever it is may still be at it.
        assert_eq!(ring.next(place, &mut event), Next::Nothing);
        ring.producers_are_gone();
        for _ in 0..2 {
            assert_eq!(ring.next(place, &mut event), Next::Torn { slots: 1, pid: 0 });
            place += 1;
        }
        assert_eq!(take(ring, &mut place).as_deref(), Some(&[b'x'; 1000][..]));
        assert_eq!(ring.next(place, &mut event), Next::Nothing);
    }
}
