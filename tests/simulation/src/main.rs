//! `simulate`: runs seeds, and shows what a seed does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;
use simulation::{Choices, Trace, run, shrink};

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
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the list of choices in this file.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Print everything that happens (with --seed or --replay).
    #[arg(long)]
    trace: bool,
    /// Make the failing list of choices simpler, and keep it in this file (with --seed).
    #[arg(long)]
    shrink: Option<PathBuf>,
    /// How many seeds may fail before the run ends.
    #[arg(long, default_value_t = 10)]
    failures: u64,
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
    many(&args)
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
    println!(
        "{name}: {} happenings in {:?}, hash {:016x}",
        outcome.happened,
        outcome.ended_at,
        outcome.hash.unwrap_or_default()
    );
    match outcome.complaint {
        None => Ok(ExitCode::SUCCESS),
        Some(complaint) => {
            println!("{:.3} s: {}: {}", complaint.at.as_secs_f64(), complaint.rule, complaint.what);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn many(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let next = AtomicU64::new(args.from);
    let (failed, happened) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = args.from + args.seeds;
    let work = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || failed.load(Ordering::Relaxed) >= args.failures {
                return Ok(());
            }
            let outcome = run::random(Choices::seeded(seed), Trace::default())?;
            happened.fetch_add(outcome.happened, Ordering::Relaxed);
            if let Some(complaint) = outcome.complaint {
                failed.fetch_add(1, Ordering::Relaxed);
                let what: String = complaint.what.chars().take(200).collect();
                println!("seed {seed} at {:.3} s: {}: {what}", complaint.at.as_secs_f64(), complaint.rule);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a run has panicked"))))
    })?;
    let failed = failed.into_inner();
    println!(
        "{} seeds, {} happenings, {failed} failed, {:.1} s",
        next.into_inner().min(end) - args.from,
        happened.into_inner(),
        began.elapsed().as_secs_f64()
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
