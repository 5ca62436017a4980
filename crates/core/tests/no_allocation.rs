//! What runs where an allocation could fail or dead-lock makes none. One test, as the count is the
//! whole process's.

use pgpci_core::record::{Body, Class, Event, Limits, Record, Time, encode};
use pgpci_core::redact::{End, in_place, redact};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[track_caller]
fn makes_none<T>(operation: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let result = black_box(operation());
    assert_eq!(region.change().allocations + region.change().reallocations, 0);
    result
}

#[test]
fn no_allocation() {
    let mut text = b"SELECT '4111 1111 1111 1111', '\xef\xbc\x94'; ALTER ROLE b PASSWORD $a$x$a$; \
        crypt('a', 'b'); postgres://u:p@h; SCRAM-SHA-256$4096:a$b:c md50123456789abcdef0123456789abcdef; \
        password='x'; 411111"
        .repeat(100);
    let found = makes_none(|| in_place(black_box(&mut text), End::Cut));
    assert_eq!((found.cards, found.secrets), (100, 700));
    makes_none(|| assert!(redact(black_box(b"SELECT 1 FROM t WHERE id = 4111111111111112")).len() > 40));

    let event = Event { statement: Some("SELECT 1".into()), ..Event::new(Class::Read, "SELECT") };
    let record =
        Record { seq: 1, prev: [0; 32], time: Time::from_micros(0), body: Body::Event(Box::new(event)) };
    let mut out = Vec::with_capacity(1000);
    makes_none(|| encode(black_box(&record), &Limits::default(), &mut out));

    // And one that does is noticed.
    let region = Region::new(ALLOCATOR);
    black_box(vec![1u8; black_box(10)]);
    assert_eq!(region.change().allocations, 1);
}
