//! The core holds its promises in a simulated world. The long runs are stages of `make test` (see `make simulate`); these
//! are short ones of the same kinds.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::{fs, path::Path};

use simulation::{Choices, Trace, enumerate, references, run, shrink};

const SEEDS: u64 = 100;

#[test]
fn seeds_break_no_rule() {
    let seeds: Vec<u64> = (0..SEEDS).collect();
    let outcomes = enumerate::on_all(&seeds, |seed| run::random(Choices::seeded(*seed), Trace::default()));
    for (seed, outcome) in seeds.iter().zip(outcomes.expect("all seeds run")) {
        assert_eq!(outcome.complaint, None, "seed {seed}");
    }
}

#[test]
fn a_seed_and_its_list_of_choices_are_one_run() {
    for seed in [3, 4] {
        let drawn = run::random(Choices::seeded(seed), Trace::new(false)).expect("a run");
        let again = run::random(Choices::seeded(seed), Trace::new(false)).expect("a run");
        let replayed = run::random(Choices::replayed(drawn.choices.clone()), Trace::new(false)).expect("a run");
        assert!(drawn.hash.is_some() && drawn.happened > 500, "seed {seed} is a run");
        assert_eq!(drawn.hash, again.hash, "seed {seed}");
        assert_eq!(drawn.hash, replayed.hash, "seed {seed}");
    }
}

/// S16: creation times are said, and nothing is decided by them.
#[test]
fn nothing_depends_on_when_objects_were_created() {
    for seed in 5..9 {
        let today = run::random(Choices::seeded(seed), Trace::default()).expect("a run");
        let long_ago =
            run::changed(Choices::seeded(seed), Trace::default(), |scene| scene.created_from(0)).expect("a run");
        assert_eq!((today.happened, today.choices, today.tally), (long_ago.happened, long_ago.choices, long_ago.tally));
    }
}

#[test]
fn crashes_converge_to_what_comes_about_without() {
    for reference in references() {
        for crash in enumerate::crashes(&reference, 7).expect("the scene without a crash breaks no rule") {
            assert_eq!(crash.wrong, None, "{} {:?}", crash.scene, crash.point);
        }
    }
}

#[test]
fn lists_of_choices_that_broke_a_rule_once_break_none() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut count = 0;
    for file in fs::read_dir(kept).expect("the directory").map(|file| file.expect("a file").path()) {
        let list = shrink::read(&fs::read_to_string(&file).expect("a file")).expect("a list");
        let outcome = run::random(Choices::replayed(list), Trace::default()).expect("a run");
        assert_eq!(outcome.complaint, None, "{}", file.display());
        count += 1;
    }
    assert!(count > 0, "there are no regressions to replay");
}

/// A simulation that misses a defect is broken itself.
#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_defect_is_found() {
    for bug in registrar_core::planted::Bug::ALL {
        let found = enumerate::found_at(bug, 1000).expect("the runs end");
        assert!(found.is_some(), "{bug:?}");
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn kept_lists_still_show_the_defects_that_they_are_kept_for() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for bug in registrar_core::planted::Bug::ALL {
        let file = kept.join(format!("{bug:?}.txt"));
        let list = shrink::read(&fs::read_to_string(&file).expect("a list for each defect")).expect("a list");
        let plant = |scene: &mut simulation::Scene| scene.planted = Some(bug);
        let outcome = run::changed(Choices::replayed(list), Trace::default(), plant).expect("a run");
        assert!(outcome.complaint.is_some(), "{bug:?} is no longer seen by its list; shrink it anew");
    }
}
