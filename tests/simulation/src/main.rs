//! `simulate`: runs seeds, and shows what a seed does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;
use simulation::{Choices, Trace, enumerate, references, run, shrink};

/// Runs the registrar's core against a simulated cluster and a simulated AWS, with faults.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds may fail before the run ends.
    #[arg(long, default_value_t = 10)]
    failures: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the list of choices in this file.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Print everything that happens (with --seed or --replay).
    #[arg(long)]
    trace: bool,
    /// Make the failing list of choices simpler, and keep it in this file (with --seed), or this directory (with --planted).
    #[arg(long)]
    shrink: Option<PathBuf>,
    /// Instead of seeds: a crash at every boundary of the reference scenes, in four ways.
    #[arg(long)]
    crashes: bool,
    /// Instead of seeds: every defect that can be planted, or the one of this name, must be found within --seeds seeds.
    #[cfg(feature = "planted-bugs")]
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    planted: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let name = format!("seed {seed}");
        if let Some(file) = &args.shrink {
            return keep(seed, file);
        }
        return one(&name, Choices::seeded(seed), args.trace);
    }
    if let Some(file) = &args.replay {
        let list = shrink::read(&fs::read_to_string(file)?)?;
        return one(&file.display().to_string(), Choices::replayed(list), args.trace);
    }
    if args.crashes {
        return crashes();
    }
    #[cfg(feature = "planted-bugs")]
    if let Some(name) = &args.planted {
        return planted(name, args.seeds, args.shrink.as_deref());
    }
    many(&args)
}

fn result(fine: bool) -> ExitCode {
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn keep(seed: u64, file: &Path) -> anyhow::Result<ExitCode> {
    let outcome = run::random(Choices::seeded(seed), Trace::default())?;
    let Some(complaint) = outcome.complaint else {
        println!("seed {seed} breaks no rule");
        return Ok(ExitCode::SUCCESS);
    };
    let list = shrink::shrink_random(outcome.choices, complaint.rule)?;
    let shrunk = run::random(Choices::replayed(list.clone()), Trace::default())?;
    let what = shrunk.complaint.map(|c| format!("{}: {}", c.rule, c.what)).unwrap_or_default();
    fs::write(file, format!("# seed {seed}\n# {what}\n{}", shrink::write(&list)))?;
    println!("{} choices: {what}", list.len());
    Ok(ExitCode::FAILURE)
}

fn one(name: &str, choices: Choices, words: bool) -> anyhow::Result<ExitCode> {
    let outcome = run::random(choices, Trace::new(words))?;
    for line in &outcome.lines {
        println!("{line}");
    }
    let hash = outcome.hash.unwrap_or_default();
    println!("{name}: {} happenings in {:?}, hash {hash:016x}", outcome.happened, outcome.ended_at);
    if let Some(complaint) = &outcome.complaint {
        println!("{:.3} s: {}: {}", complaint.at.as_secs_f64(), complaint.rule, complaint.what);
    }
    Ok(result(outcome.complaint.is_none()))
}

fn many(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (failed, happened) = (AtomicU64::new(0), AtomicU64::new(0));
    let seeds: Vec<u64> = (args.from..args.from + args.seeds).collect();
    let run = enumerate::on_all(&seeds, |seed| {
        if failed.load(Ordering::Relaxed) >= args.failures {
            return Ok(false);
        }
        let outcome = run::random(Choices::seeded(*seed), Trace::default())?;
        happened.fetch_add(outcome.happened, Ordering::Relaxed);
        if let Some(complaint) = outcome.complaint {
            failed.fetch_add(1, Ordering::Relaxed);
            let what: String = complaint.what.chars().take(200).collect();
            println!("seed {seed} at {:.3} s: {}: {what}", complaint.at.as_secs_f64(), complaint.rule);
        }
        Ok(true)
    })?;
    let (ran, failed) = (run.into_iter().filter(|ran| *ran).count(), failed.into_inner());
    let (happened, took) = (happened.into_inner(), began.elapsed().as_secs_f64());
    println!("{ran} seeds, {happened} happenings, {failed} failed, {took:.1} s");
    Ok(result(failed == 0))
}

fn crashes() -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (mut tried, mut wrong) = (0, 0);
    for reference in references() {
        let crashes = enumerate::crashes(&reference, 1)?;
        let bad: Vec<_> = crashes.iter().filter(|crash| crash.wrong.is_some()).collect();
        println!("{}: {} crashes, {} wrong", reference.name, crashes.len(), bad.len());
        for crash in bad.iter().take(5) {
            println!("  {:?}: {}", crash.point, crash.wrong.as_deref().unwrap_or_default());
        }
        tried += crashes.len();
        wrong += bad.len();
    }
    println!("{tried} crashes, {wrong} wrong, {:.1} s", began.elapsed().as_secs_f64());
    Ok(result(wrong == 0))
}

#[cfg(feature = "planted-bugs")]
fn planted(name: &str, most: u64, keep: Option<&Path>) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut missed = 0;
    let meant = |bug: &registrar_core::planted::Bug| name.is_empty() || format!("{bug:?}") == name;
    for bug in registrar_core::planted::Bug::ALL.into_iter().filter(meant) {
        let Some((seed, rule)) = enumerate::found_at(bug, most)? else {
            missed += 1;
            println!("{bug:?}: not found in {most} seeds");
            continue;
        };
        println!("{bug:?}: seed {seed}, {rule}");
        if let Some(directory) = keep {
            let plant = |scene: &mut simulation::Scene| scene.planted = Some(bug);
            let list = run::changed(Choices::seeded(seed), Trace::default(), plant)?.choices;
            let list = shrink::shrink(list, rule, |list| {
                Ok(run::changed(Choices::replayed(list), Trace::default(), plant)?.complaint)
            })?;
            let text =
                format!("# With the defect {bug:?}, this breaks {rule} (seed {seed}).\n{}", shrink::write(&list));
            fs::write(directory.join(format!("{bug:?}.txt")), text)?;
        }
    }
    println!("{missed} missed, {:.1} s", began.elapsed().as_secs_f64());
    Ok(result(missed == 0))
}
