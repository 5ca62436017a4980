//! The ring, as producers and the worker see it; each test has one of its own.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::ring::{Head, Next, Share};
    use crate::pg::ring_memory;

    const SLOTS: u64 = 64;

    fn new_ring() -> &'static Head {
        let head = ring_memory::map(SLOTS).expect("memory for a few slots");
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
