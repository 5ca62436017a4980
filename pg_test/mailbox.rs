//! Letters to the broker whose writer is gone.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg::mailbox::{Letter, State};
    use crate::pg::{region, session};

    /// A process number that nobody has: of a child that has ended.
    fn nobody() -> i32 {
        let child =
            std::process::Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id()));
        match child {
            Ok(pid) => pid as i32,
            Err(error) => panic!("{error}"),
        }
    }

    fn letter<T>(index: usize, f: impl FnOnce(&mut Letter) -> T) -> T {
        match region::locked(|region| f(&mut region.letters[index])) {
            Some(found) => found,
            None => panic!("no region"),
        }
    }

    /// Puts a letter of `pid` into the last place, which is the last to be used by anybody else.
    fn put(pid: i32, state: State) -> usize {
        let index = region::LETTERS - 1;
        letter(index, |letter| {
            assert!(letter.state == State::Free);
            letter.clear();
            (letter.pid, letter.state, letter.serial) = (pid, state, u64::MAX);
        });
        index
    }

    /// Waits until the broker has made its rounds.
    fn until(index: usize, state: State) {
        for _ in 0..200 {
            if letter(index, |letter| letter.state == state) {
                return;
            }
            session::wait(50);
        }
        panic!("the broker did not look after the letter");
    }

    #[pg_test]
    fn letters_of_the_dead_are_cleared() {
        for state in [State::Posted, State::Done] {
            let index = put(nobody(), state);
            until(index, State::Free);
            assert_eq!(letter(index, |letter| (letter.pid, letter.latch)), (0, 0));
        }
    }

    /// The helper may still answer: until then the place is not given away.
    #[pg_test]
    fn letters_of_the_dead_that_were_sent_are_abandoned() {
        let index = put(nobody(), State::Sent);
        until(index, State::Abandoned);
        letter(index, Letter::clear);
    }

    #[pg_test]
    fn letters_of_the_living_stay() {
        let (dead, living) = (region::LETTERS - 2, put(std::process::id() as i32, State::Done));
        letter(dead, |letter| (letter.pid, letter.state) = (nobody(), State::Done));
        // A whole round has passed when the other one is gone.
        until(dead, State::Free);
        assert!(letter(living, |letter| letter.state == State::Done));
        letter(living, Letter::clear);
    }
}
