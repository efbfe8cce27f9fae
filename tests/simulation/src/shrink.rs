//! Makes a failing list of choices simpler, as long as it breaks the same rule: delta debugging, where leaving a choice out
//! means choosing zero, so that those after it keep their meaning.

use crate::{Choices, Complaint, Trace, run};

/// How many runs it may take.
const MOST_RUNS: usize = 1500;

/// The simplest list found that breaks `rule`, without the zeros at its end, and what it breaks.
pub fn shrink(
    list: Vec<u32>,
    rule: &str,
    run: impl Fn(Vec<u32>) -> anyhow::Result<Option<Complaint>>,
) -> anyhow::Result<Vec<u32>> {
    let mut best = list;
    let mut runs = 0;
    let mut fails = |list: &[u32]| -> anyhow::Result<bool> {
        runs += 1;
        if runs > MOST_RUNS {
            return Ok(false);
        }
        Ok(run(list.to_vec())?.is_some_and(|complaint| complaint.rule == rule))
    };
    // The end first: it is the longest part, and most of it is latencies.
    let mut cut = best.len() / 2;
    while cut > 0 {
        let kept = best.len().saturating_sub(cut);
        if fails(&best[..kept])? {
            best.truncate(kept);
            cut = cut.min(best.len() / 2);
        } else {
            cut /= 2;
        }
    }
    let mut size = best.len().next_power_of_two() / 2;
    while size > 0 {
        let mut from = 0;
        while from < best.len() {
            let to = (from + size).min(best.len());
            if best[from..to].iter().any(|choice| *choice != 0) {
                let mut flatter = best.clone();
                flatter[from..to].fill(0);
                if fails(&flatter)? {
                    best = flatter;
                }
            }
            from = to;
        }
        size /= 2;
    }
    while best.last() == Some(&0) {
        best.pop();
    }
    Ok(best)
}

/// As [`shrink`], for runs of random scenes.
pub fn shrink_random(list: Vec<u32>, rule: &str) -> anyhow::Result<Vec<u32>> {
    shrink(list, rule, |list| Ok(run::random(Choices::replayed(list), Trace::default())?.complaint))
}

/// Reads a list as it is kept in a file: numbers between white space, lines that begin with `#` left out. `0*17` stands for
/// seventeen zeros.
pub fn read(text: &str) -> anyhow::Result<Vec<u32>> {
    let mut list = Vec::new();
    for word in text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
        match word.split_once('*') {
            Some((value, times)) => list.extend(std::iter::repeat_n(value.parse::<u32>()?, times.parse()?)),
            None => list.push(word.parse()?),
        }
    }
    Ok(list)
}

/// Writes a list as [`read`] reads it.
pub fn write(list: &[u32]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = list;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|choice| *choice == first).count();
        words.push(if same > 1 { format!("{first}*{same}") } else { first.to_string() });
        rest = &rest[same..];
    }
    let lines: Vec<String> = words.chunks(24).map(|line| line.join(" ")).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_does_not_matter_becomes_zero_and_what_does_stays() {
        let breaks = |list: Vec<u32>| -> anyhow::Result<Option<Complaint>> {
            let fails = list.get(10) == Some(&7) && list.get(33).is_some_and(|choice| *choice > 2);
            Ok(fails.then(|| Complaint { at: Duration::ZERO, rule: "r", what: String::new() }))
        };
        let list: Vec<u32> = (0..200).map(|n| if n == 10 { 7 } else { n + 1 }).collect();
        let shrunk = shrink(list, "r", breaks).expect("it fails");
        let mut expected = vec![0; 34];
        (expected[10], expected[33]) = (7, 34);
        assert_eq!(shrunk, expected);
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let list = vec![1, 0, 0, 0, 5, 5, 9];
        assert_eq!(read(&format!("# why\n{}", write(&list))).expect("a list"), list);
        assert!(read("1 two").is_err());
    }
}
