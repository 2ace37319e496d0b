//! Runs all fuzz targets on stable Rust: first on their corpus, then on random mutations of it.
//!
//! ```text
//! fuzz-smoke [--seconds N] [--seed N] [--target NAME] [FILE…]
//! ```
//!
//! `--seconds` is the time per target for mutations (default 1). The same seed gives the same sequence of inputs. With
//! files, it runs only these. A failure writes the input to `fuzz/artifacts/` and exits with code 1.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use wasmop_fuzz_targets::{TARGETS, Target};

/// An input that takes longer is a failure. Unoptimized code on a busy machine needs most of it.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Inputs have at most this many bytes.
const MAX_LEN: usize = 1 << 16;
const INTERESTING: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("error: {problem}\nhelp: fuzz-smoke [--seconds N] [--seed N] [--target NAME] [FILE...]");
            return ExitCode::from(2);
        }
    };
    let chosen = |target: &&Target| options.target.as_ref().is_none_or(|name| name == target.name);
    let (mut passed, mut failed) = (0, 0);
    for target in TARGETS.iter().filter(chosen) {
        match run(target, &options) {
            Ok(inputs) => {
                println!("{:<16} {inputs} inputs", target.name);
                passed += 1;
            }
            Err(problem) => {
                println!("failed: {}: {problem}", target.name);
                failed += 1;
            }
        }
    }
    println!("fuzz: {passed} passed, {failed} failed, 0 skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 1, seed: 1, target: None, files: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is not a number"));
        match argument.as_str() {
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--target" => {
                let name = value()?;
                if !TARGETS.iter().any(|target| target.name == name) {
                    return Err(format!("there is no target `{name}`"));
                }
                options.target = Some(name);
            }
            flag if flag.starts_with('-') => return Err(format!("unknown flag `{flag}`")),
            file => options.files.push(file.into()),
        }
    }
    Ok(options)
}

/// Runs one target. Returns the number of inputs.
fn run(target: &Target, options: &Options) -> Result<u64, String> {
    let corpus = if options.files.is_empty() { corpus(target.name)? } else { read(&options.files)? };
    if corpus.is_empty() {
        return Err("the corpus is empty".to_owned());
    }
    let mut inputs = 0;
    for input in &corpus {
        check(target, input)?;
        inputs += 1;
    }
    if !options.files.is_empty() {
        return Ok(inputs);
    }
    let mut random = Random(options.seed);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        check(target, &mutate(&corpus, &mut random))?;
        inputs += 1;
    }
    Ok(inputs)
}

fn corpus(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The order determines the mutations.
    files.sort();
    read(&files)
}

fn read(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()));
    files.iter().map(read).collect()
}

fn check(target: &Target, input: &[u8]) -> Result<(), String> {
    let begin = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begin.elapsed();
    if result.is_ok() && took < TIME_LIMIT {
        return Ok(());
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts").join(target.name);
    let file = dir.join(format!("smoke-{:016x}", hash(input)));
    let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&file, input));
    let problem = if result.is_err() { "it panicked".to_owned() } else { format!("it took {took:?}") };
    Err(match written {
        Ok(()) => format!("{problem}; the input is in {}", file.display()),
        Err(error) => format!("{problem}; cannot write the input: {error}: {:?}", input.escape_ascii().to_string()),
    })
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Returns an input of the corpus with one to eight random changes.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let len = random.below(16) + 1;
        let end = (at + len).min(input.len());
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            2 => input.insert(at, random.next() as u8),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            // Duplicate a part.
            5 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            // Overwrite with an interesting number.
            6 => {
                let number = INTERESTING[random.below(INTERESTING.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            // Insert a part of another input.
            7 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(64)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            // Continue with another input.
            _ => {
                let other = &corpus[random.below(corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    input.truncate(MAX_LEN);
    input
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number less than `bound`, which is above 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
