//! Runs seeds on all cores, shrinks those that fail, and shows that blinded checks are noticed.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, Once};
use std::{env, thread};

use crate::faults::{Blind, Fault, Faults};
use crate::run::{Case, Outcome, STEPS};

/// How many seeds run if nobody says: some four minutes on two idle cores.
const SEEDS: u64 = 10_000;
/// How many of them with drains.
const DRAIN_SEEDS: u64 = 100;
/// In how many seeds a blinded check must be noticed.
const BLIND_SEEDS: u64 = 400;
/// Reruns that a failing seed may cost while it is shrunk.
const SHRINKS: usize = 200;

/// The name of a thread on which a panic is a verdict, and is not printed.
const QUIET: &str = "seed";

/// A seed that failed, as small as it could be made.
#[derive(Debug)]
struct Failure {
    case: Case,
    faults: Faults,
    why: String,
}

/// With `TELL=1` everything is printed.
pub(crate) fn tell(what: impl FnOnce() -> String) {
    static TOLD: LazyLock<bool> = LazyLock::new(|| env::var_os("TELL").is_some());
    if *TOLD {
        println!("{}", what());
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn run_case(case: Case) -> Result<Outcome, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(QUIET) {
                print(info);
            }
        }));
    });
    let run = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(crate::run::run(case))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(QUIET.to_owned());
        let outcome = thread.spawn_scoped(scope, run).unwrap().join();
        outcome.unwrap_or_else(|panic| Err(format!("panic: {}", words(&*panic))))
    })
}

fn whole(seed: u64) -> Case {
    Case { seed, steps: STEPS, allowed: Faults::of(Fault::DRAWN), forced: None, blind: None }
}

/// Fewer faults and fewer steps, as long as it fails.
fn shrink(mut case: Case, mut why: String) -> Failure {
    let mut left = SHRINKS;
    let mut fails = |case: Case, why: &mut String| {
        left = left.saturating_sub(1);
        match if left > 0 {
            run_case(case)
        } else {
            Ok(Outcome { faults: Faults::NONE, trace: 0, frames: 0 })
        } {
            Err(new) => {
                *why = new;
                true
            }
            Ok(_) => false,
        }
    };
    for kind in Fault::ALL {
        let fewer = Case { allowed: case.allowed.without(kind), ..case };
        if fails(fewer, &mut why) {
            case = fewer;
        }
    }
    let mut cut = case.steps / 2;
    while cut > 0 {
        let fewer = Case { steps: case.steps - cut.min(case.steps), ..case };
        if fails(fewer, &mut why) {
            case = fewer;
        } else {
            cut /= 2;
        }
    }
    Failure { case, faults: case.allowed, why }
}

impl Failure {
    fn tell(&self) -> String {
        let only: Vec<String> = self.faults.list().iter().map(|kind| format!("{kind:?}")).collect();
        format!(
            "{}\n  SEED={} STEPS={} ONLY={} cargo test --test simulation seeds::seeds",
            self.why,
            self.case.seed,
            self.case.steps,
            only.join(",")
        )
    }
}

/// Runs these cases on all cores, up to the first few that fail. How many Frames clients saw.
fn run_all(cases: impl Fn(u64) -> Option<Case> + Sync, failures_max: usize) -> (u64, Vec<Failure>) {
    let (next, frames) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures: Mutex<Vec<Failure>> = Mutex::default();
    let cores = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let work = || {
        while failures.lock().unwrap().len() < failures_max
            && let Some(case) = cases(next.fetch_add(1, Ordering::Relaxed))
        {
            match run_case(case) {
                Ok(outcome) => {
                    frames.fetch_add(outcome.frames, Ordering::Relaxed);
                }
                Err(why) => {
                    let shrinks = number("SHRINK") != Some(0);
                    let failure = if shrinks {
                        shrink(case, why)
                    } else {
                        Failure { case, faults: case.allowed, why }
                    };
                    failures.lock().unwrap().push(failure);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure| failure.case.seed);
    (frames.into_inner(), failures)
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Every seed holds what is promised.
#[test]
fn seeds() {
    let only = env::var("ONLY").ok();
    let allowed = match &only {
        None => whole(0).allowed,
        Some(only) => Fault::ALL.iter().fold(Faults::of(&Fault::ALL), |all, kind| {
            let name = format!("{kind:?}");
            if only.split(',').any(|one| *one == name) { all } else { all.without(*kind) }
        }),
    };
    let steps = number("STEPS").map_or(STEPS, |steps| u32::try_from(steps).unwrap());
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("FIRST").unwrap_or(1), number("SEEDS").unwrap_or(SEEDS)),
    };
    let case = |n| (n < count).then(|| Case { steps, allowed, ..whole(first + n) });
    let (frames, failures) =
        run_all(case, usize::try_from(number("FAILURES").unwrap_or(3)).unwrap());
    println!("{count} seeds, {frames} frames");
    let told: Vec<String> = failures.iter().map(Failure::tell).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// Seeds that failed once never do again.
#[test]
fn kept_seeds() {
    let kept = include_str!("seeds.txt")
        .lines()
        .filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let kept: Vec<u64> = kept.collect();
    let case = |n| kept.get(usize::try_from(n).unwrap()).map(|seed| whole(*seed));
    let (_, failures) = run_all(case, 3);
    let told: Vec<String> = failures.iter().map(Failure::tell).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// The same while nodes send their clients elsewhere, over and over.
#[test]
fn drains() {
    let case = |n| {
        let case = whole(n + 1);
        (n < DRAIN_SEEDS).then(|| Case { allowed: case.allowed.with(Fault::Drain), ..case })
    };
    let (_, failures) = run_all(case, 3);
    let told: Vec<String> = failures.iter().map(Failure::tell).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// A seed is the same every time.
#[test]
fn a_seed_decides_everything() {
    for seed in 1..=20 {
        assert_eq!(run_case(whole(seed)), run_case(whole(seed)), "seed {seed}");
    }
}

/// With a check blinded some seed fails, for the reason that the check is there for; without, the same
/// seeds hold.
fn is_noticed(blind: Blind, faults: &[Fault], why: &[&str]) {
    let forced = Some(Faults::of(faults));
    for seed in 1..=BLIND_SEEDS {
        let case = Case { forced, allowed: Faults::of(&Fault::ALL), ..whole(seed) };
        assert_eq!(run_case(case).err(), None, "seed {seed}");
        if let Err(told) = run_case(Case { blind: Some(blind), ..case })
            && why.iter().any(|words| told.contains(words))
        {
            println!("{blind:?}: seed {seed}: {told}");
            return;
        }
    }
    panic!("{blind:?}: nobody noticed");
}

/// A client that forgets what it has had gets it twice when it moves.
#[test]
fn duplicates_are_noticed() {
    is_noticed(Blind::Duplicates, &[Fault::Move], &["I2", "I3"]);
}

/// A new history that looks like the old one is a hole of which nobody is told.
#[test]
fn a_blind_epoch_check_is_noticed() {
    is_noticed(Blind::Epoch, &[Fault::Wipe], &["I1"]);
}

/// So is what was stored and has no Offset that would be missed.
#[test]
fn blind_contiguity_is_noticed() {
    is_noticed(Blind::Contiguity, &[], &["I1"]);
}

/// What an opening missed comes late if the checks behind it see nothing.
#[test]
fn blind_checks_after_an_opening_are_noticed() {
    is_noticed(Blind::Opening, &[Fault::OpeningDrop], &["waited too long"]);
}

/// A Subscription that has ended and is answered brings what nobody wants.
#[test]
fn answers_to_ended_subscriptions_are_noticed() {
    let faults = [Fault::Unsubscribe, Fault::Renew, Fault::Slow, Fault::Tight];
    is_noticed(Blind::EndedAnswers, &faults, &["I5", "nobody wants it", "came within"]);
}

/// An Outbox that takes everything grows over its bound.
#[test]
fn an_unbounded_outbox_is_noticed() {
    is_noticed(Blind::OutboxBound, &[Fault::Stall, Fault::Tight], &["an outbox holds"]);
}

/// Clients that are all sent away at once hit the next node together.
#[test]
fn an_uneven_drain_is_noticed() {
    is_noticed(Blind::EvenDrain, &[Fault::Drain], &["leave in the same part"]);
}
