//! Passwords that are tried first.

/// One a line, in lower case, without the digits and signs that people put around them.
const WORDS: &str = include_str!("common.txt");
/// Fewer different characters are no password.
const MIN_DIFFERENT: usize = 5;

/// Whether a password, in lower case, is one of the most common ones: as it is, repeated, with digits and signs around
/// it, or with the usual signs for letters; or a run of neighbouring characters.
pub fn is_common(folded: &str) -> bool {
    let characters: Vec<char> = folded.chars().collect();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT || is_run(&characters) {
        return true;
    }
    let once = &characters[..period(&characters)];
    [as_letters(once, 'i'), as_letters(once, 'l'), once.to_vec()].iter().any(|form| is_word(form))
}

/// Whether a listed word, once or repeated, is all there is between leading and trailing characters that are no letters.
fn is_word(form: &[char]) -> bool {
    let form: String = form.iter().collect();
    let core: Vec<char> = form.trim_matches(|c: char| !c.is_alphabetic()).chars().collect();
    let once: String = core[..period(&core)].iter().collect();
    WORDS.lines().any(|word| word == form || word == once)
}

/// `p4$$w0rd` read as letters; a 1 is an i or an l.
fn as_letters(characters: &[char], one: char) -> Vec<char> {
    let letter = |c: &char| match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => *other,
    };
    // Only between letters: what stands around a word is padding.
    let first = characters.iter().position(|c| c.is_alphabetic()).unwrap_or(0);
    let last = characters.iter().rposition(|c| c.is_alphabetic()).unwrap_or(0);
    characters
        .iter()
        .enumerate()
        .map(|(i, c)| if (first..=last).contains(&i) { letter(c) } else { *c })
        .collect()
}

/// The length of what is repeated; the whole length if nothing is.
fn period(characters: &[char]) -> usize {
    let len = characters.len();
    (1..len)
        .find(|p| len.is_multiple_of(*p) && characters.chunks(*p).all(|c| *c == characters[..*p]))
        .unwrap_or(len)
}

/// Whether nearly every character is a neighbour of the one before: 123456789012, abcdefgh1234, 9876…
fn is_run(characters: &[char]) -> bool {
    let step = |pair: &[char]| (pair[1] as i64 - pair[0] as i64).abs() <= 1 || pair == ['9', '0'];
    let steps = characters.windows(2).filter(|pair| step(pair)).count();
    characters.len() > 3 && steps * 5 >= (characters.len() - 1) * 4
}
