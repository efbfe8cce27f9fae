//! P6 for bodies as large as they are taken: an answer or an error in words, no longer than anybody would read, after work that
//! grows with the body and not with its square. `cargo bench -p webhook --bench load` shows the milliseconds.

mod bodies;

use std::{sync::mpsc, thread, time::Duration};

use webhook::admission::{self, Error, Outcome};

/// More than what is read of an answer by anybody.
const LONGEST_ANSWER: usize = 512 * 1024;
/// How long one body may take a machine that is busy and a program that is not optimized; it bounds a failure, which would
/// take hours.
const PATIENCE: Duration = Duration::from_mins(2);

/// `SLUICE_LARGE=7340032` for bodies as large as they may be.
fn size() -> usize {
    std::env::var("SLUICE_LARGE").ok().and_then(|size| size.parse().ok()).unwrap_or(1024 * 1024)
}

#[test]
fn the_largest_bodies_get_an_answer_of_reasonable_length() {
    for (hook, what, body) in bodies::all(size()) {
        assert!((size() - 1000..=size()).contains(&body.len()), "{what}: {}", body.len());
        let (told, answered) = mpsc::channel();
        thread::spawn(move || {
            let answer = admission::answer(hook, body.as_bytes(), &bodies::cluster(), 7);
            let _ = told.send(answer);
        });
        match answered.recv_timeout(PATIENCE) {
            Ok(Ok(answer)) => {
                assert!(answer.body.len() < LONGEST_ANSWER, "{hook:?}, {what}: {} bytes", answer.body.len());
                let of_pod = hook.path().contains("pod");
                assert!(!of_pod || answer.outcome != Outcome::Denied, "{hook:?}, {what}");
            }
            Ok(Err(error)) => {
                assert!(matches!(error, Error::Malformed(_)), "{hook:?}, {what}: {error}");
                assert!(error.to_string().len() < 1000, "{hook:?}, {what}: {error:.2000}");
            }
            Err(error) => panic!("{hook:?}, {what}: {error}"),
        }
    }
}

#[test]
fn what_is_cut_off_or_too_deep_is_malformed() {
    let deep = format!("{}{}", r#"{"request":{"object":{"spec":"#, "[".repeat(bodies::LARGEST - 100));
    let whole = bodies::all(100_000);
    let cut = whole.iter().map(|(hook, _, body)| (*hook, &body[..body.len() - 1]));
    let hooks = admission::Hook::ALL.into_iter();
    for (hook, body) in hooks.map(|hook| (hook, deep.as_str())).chain(cut) {
        let error = admission::answer(hook, body.as_bytes(), &bodies::cluster(), 7).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{hook:?}: {error}");
    }
}
