#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const MINUTE: i64 = 60_000_000;
const RULES: Rules =
    Rules { max_failures: 6, lock_for: Some(30 * MINUTE), forgive_after: 24 * HOUR, max_of_source: 100 };
const NOW: i64 = 1_000 * HOUR;

fn at(now: i64) -> Attempt {
    Attempt { role: 16_400, source: 7 << 32, by_source: false, tls: false, now }
}

/// What six failures lead to, from the same place at once.
fn fail_times(table: &mut Table, attempt: &Attempt, times: u32) -> Vec<Outcome> {
    (0..times).map(|_| table.fail(attempt, &RULES)).collect()
}

#[test]
fn the_sixth_failure_locks_for_half_an_hour() {
    let mut table = Box::<Table>::default();
    let outcomes = fail_times(&mut table, &at(NOW), 7);
    assert_eq!(outcomes[..5], (1..=5).map(Outcome::Counted).collect::<Vec<_>>());
    assert_eq!(outcomes[5..], [Outcome::Locked, Outcome::Ignored]);
    assert_eq!(
        table.locked(NOW).collect::<Vec<_>>(),
        [Locked { role: 16_400, until: Some(NOW + 30 * MINUTE) }]
    );
    assert!(table.is_locked(16_400, 1, NOW + 30 * MINUTE - 1));
    assert!(!table.is_locked(16_400, 1, NOW + 30 * MINUTE));
    // Then all of it begins anew.
    assert_eq!(table.fail(&at(NOW + 31 * MINUTE), &RULES), Outcome::Counted(1));
}

#[test]
fn what_is_to_be_written_in_the_role() {
    let mut table = Box::<Table>::default();
    fail_times(&mut table, &at(NOW), 5);
    assert!(!table.has_unwritten(NOW));
    fail_times(&mut table, &at(NOW), 1);
    let until = NOW + 30 * MINUTE;
    assert_eq!(table.unwritten(NOW), [(16_400, Some(Some(until)))]);
    table.set_written(16_400);
    assert!(!table.has_unwritten(NOW));
    assert_eq!(table.unwritten(until), [(16_400, None)]);
    table.forget(16_400);
    assert!(!table.has_unwritten(until));
    table.lock(7, None, NOW);
    assert_eq!(table.unwritten(NOW), [(7, Some(None))]);
}

#[test]
fn until_an_officer_unlocks() {
    let mut table = Box::<Table>::default();
    let rules = Rules { lock_for: None, ..RULES };
    (0..6).for_each(|_| {
        table.fail(&at(NOW), &rules);
    });
    assert!(table.is_locked(16_400, 1, i64::MAX - 1));
    table.succeed(16_400, 1);
    assert!(table.is_locked(16_400, 1, NOW));
    table.forget(16_400);
    assert!(!table.is_locked(16_400, 1, NOW));
}

#[test]
fn failures_are_forgiven_one_by_one_and_by_a_login() {
    let mut table = Box::<Table>::default();
    fail_times(&mut table, &at(NOW), 5);
    assert_eq!(table.failures(16_400, NOW + 24 * HOUR, &RULES), 4);
    assert_eq!(table.fail(&at(NOW + 48 * HOUR), &RULES), Outcome::Counted(4));
    table.succeed(16_400, 0);
    assert_eq!(table.fail(&at(NOW + 48 * HOUR), &RULES), Outcome::Counted(1));
    let never = Rules { forgive_after: 0, ..RULES };
    assert_eq!(table.fail(&at(NOW + 9999 * HOUR), &never), Outcome::Counted(2));
}

#[test]
fn an_attempt_with_and_without_tls_counts_once_but_not_for_ever() {
    let mut table = Box::<Table>::default();
    let (with, without) = (Attempt { tls: true, ..at(NOW) }, at(NOW));
    assert_eq!(table.fail(&with, &RULES), Outcome::Counted(1));
    assert_eq!(table.fail(&without, &RULES), Outcome::Ignored);
    // Only the half right after it, from the same place.
    assert_eq!(table.fail(&without, &RULES), Outcome::Counted(2));
    assert_eq!(table.fail(&with, &RULES), Outcome::Counted(3));
    assert_eq!(table.fail(&Attempt { source: 8 << 32, ..without }, &RULES), Outcome::Counted(4));
    let mut table = Box::<Table>::default();
    let mut guesses = 0;
    while !table.is_locked(16_400, 0, NOW) {
        table.fail(if guesses % 2 == 0 { &with } else { &without }, &RULES);
        guesses += 1;
    }
    assert_eq!(guesses, 10);
    // Nor more where ten are allowed.
    let (rules, mut table) = (Rules { max_failures: 10, ..RULES }, Box::<Table>::default());
    for guess in 0..10 {
        table.fail(if guess % 2 == 0 { &with } else { &without }, &rules);
    }
    assert!(table.is_locked(16_400, 0, NOW));
}

#[test]
fn a_stranger_does_not_lock_out_a_service() {
    let mut table = Box::<Table>::default();
    let attempt = Attempt { by_source: true, ..at(NOW) };
    assert_eq!(fail_times(&mut table, &attempt, 6)[5], Outcome::Locked);
    assert!(table.is_locked(16_400, attempt.source, NOW));
    assert!(!table.is_locked(16_400, 9 << 32, NOW));
    assert_eq!(table.locked(NOW).count(), 0);
}

#[test]
fn whose_number_resembles_a_services_locks_out_himself() {
    let mut table = Box::<Table>::default();
    let (own, likeness) = ((7 << 32) | 5, (7 << 32) | 9);
    fail_times(&mut table, &Attempt { by_source: true, source: likeness, ..at(NOW) }, 6);
    assert!(table.is_locked(16_400, likeness, NOW));
    assert!(!table.is_locked(16_400, own, NOW));
}

#[test]
fn whoever_has_many_sources_is_still_counted() {
    let mut table = Box::<Table>::default();
    let by =
        |source: usize| Attempt { by_source: true, source: (source as u64) << 32, ..at(NOW + source as i64) };
    for source in 1..=2 * SOURCES {
        assert_eq!(fail_times(&mut table, &by(source), 6)[5], Outcome::Locked, "{source}");
    }
    assert!(table.is_locked(16_400, by(2 * SOURCES).source, NOW + HOUR / 4));
}

#[test]
fn a_source_that_tries_many_roles_is_heard_no_more_for_a_while() {
    let mut table = Box::<Table>::default();
    for role in 1..=100 {
        assert!(!table.is_throttled(7 << 32, NOW, &RULES));
        table.fail(&Attempt { role, ..at(NOW) }, &RULES);
    }
    assert!(table.is_throttled(7 << 32, NOW, &RULES));
    assert!(!table.is_throttled(8 << 32, NOW, &RULES));
    assert!(!table.is_throttled(7 << 32, NOW + MINUTE, &RULES));
    assert!(!table.is_throttled(7 << 32, NOW, &Rules { max_of_source: 0, ..RULES }));
}

#[test]
fn made_up_names_push_nobody_out() {
    let mut table = Box::<Table>::default();
    fail_times(&mut table, &at(NOW), 5);
    for source in 0..100_000_u64 {
        table.fail_unknown(source << 32, NOW + 1, &RULES);
    }
    assert_eq!(table.fail(&at(NOW + 2), &RULES), Outcome::Locked);
}

#[test]
fn a_full_table_keeps_its_locks() {
    let mut table = Box::<Table>::default();
    let by = |role| Attempt { role, ..at(NOW) };
    for role in 1..=ROLES as u32 {
        fail_times(&mut table, &by(role), 6);
    }
    assert_eq!(table.fail(&by(5_000), &RULES), Outcome::Full);
    assert_eq!(table.locked(NOW).count(), ROLES);
    // One whose lock is in the role itself gives way, and one that is not locked.
    table.set_written(7);
    assert_eq!(table.fail(&by(5_002), &RULES), Outcome::Counted(1));
    assert!(!table.is_locked(7, 0, NOW));
    fail_times(&mut table, &by(5_002), 5);
    table.forget(3);
    fail_times(&mut table, &by(5_000), 3);
    assert_eq!(table.fail(&by(5_001), &RULES), Outcome::Counted(1));
    assert_eq!(table.failures(5_000, NOW, &RULES), 0);
}

#[test]
fn the_clock_is_set_back() {
    let mut table = Box::<Table>::default();
    let before = NOW - 500 * HOUR;
    fail_times(&mut table, &at(NOW), 5);
    assert_eq!(table.failures(16_400, before, &RULES), 5);
    assert_eq!(table.fail(&at(before), &RULES), Outcome::Locked);
    assert!(!table.is_locked(16_400, 0, before + 30 * MINUTE));
    // Set back after the lock: it ends when it would have, counted from the next attempt on.
    let mut table = Box::<Table>::default();
    fail_times(&mut table, &at(NOW), 6);
    assert_eq!(table.fail(&at(before), &RULES), Outcome::Ignored);
    assert!(table.is_locked(16_400, 0, before + 30 * MINUTE - 1));
    assert!(!table.is_locked(16_400, 0, before + 30 * MINUTE));
}

#[test]
fn a_lock_is_there_whatever_a_crash_left_of_how_many_there_are() {
    let mut table = Box::<Table>::default();
    fail_times(&mut table, &at(NOW), 6);
    table.roles.used = 0;
    table.count();
    assert!(table.is_locked(16_400, 0, NOW));
    assert_eq!(table.roles.used, 1);
}

#[test]
fn sources_that_are_forgiven_take_no_place() {
    let mut table = Box::<Table>::default();
    (0..500).for_each(|source| table.fail_unknown(source << 8, NOW, &RULES));
    assert_eq!(table.sources.used, 500);
    table.fail_unknown(1 << 40, NOW + HOUR, &RULES);
    assert_eq!(table.sources.used, 1);
}

proptest! {
    /// However attempts are spread over time, sources and kinds of connection: between two locks, or a lock and a
    /// success, there are at most ten guesses, and while it is locked none is counted.
    #[test]
    fn never_more_than_ten_guesses(
        steps in proptest::collection::vec((0..3_i64, 1..4_u64, any::<bool>()), 1..200)
    ) {
        let mut table = Box::<Table>::default();
        let (mut now, mut guesses) = (NOW, 0);
        let never = Rules { forgive_after: 0, ..RULES };
        for (seconds, source, tls) in steps {
            now += seconds * 1_000_000;
            let was_locked = table.is_locked(16_400, source << 32, now);
            let attempt = Attempt { source: source << 32, tls, ..at(now) };
            match table.fail(&attempt, &never) {
                Outcome::Locked => guesses = 0,
                outcome if was_locked => prop_assert_eq!(outcome, Outcome::Ignored),
                _ => guesses += 1,
            }
            prop_assert!(guesses < 10);
        }
    }

    /// Whatever lies in the file, nothing panics.
    #[test]
    fn any_content_means_something(words in proptest::collection::vec(any::<i64>(), 6), now in any::<i64>()) {
        let mut table = Box::<Table>::default();
        let entry = Entry {
            key: 16_400, last: words[0], until: words[1], source: words[2] as u64,
            failures: words[3] as u32, pairs: words[4] as u32, tls: words[5] as u32, written: 0,
            of: 0, unused: 0,
        };
        *table.roles.place(16_400, 0, now).unwrap() = entry;
        *table.sources.place((7 << 32) | 1, 0, now).unwrap() = Entry { key: (7 << 32) | 1, ..entry };
        // How many are taken may be anything, too.
        (table.roles.used, table.sources.used) = (words[0] as u32, words[1] as u32);
        table.fail(&at(now), &RULES);
        table.is_throttled(7 << 32, now, &RULES);
        table.is_locked(16_400, 7 << 32, now);
    }
}
