//! What came of one operator: a row of a table.

use std::fmt::Write;

use wasmop_package::manifest::Mode;

/// How far a step came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Step {
    Passed,
    /// Why not.
    Failed(String),
    /// An earlier step failed, or there is nothing to do it with: why.
    #[default]
    NotTried,
}

impl Step {
    /// Of a check, whose error is the reason.
    pub fn of(result: anyhow::Result<()>) -> Step {
        match result {
            Ok(()) => Step::Passed,
            Err(error) => Step::Failed(format!("{error:#}")),
        }
    }

    fn mark(&self) -> char {
        match self {
            Step::Passed => '✓',
            Step::Failed(_) => '✗',
            Step::NotTried => '–',
        }
    }
}

/// What came of one operator.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub name: String,
    pub mode: Option<Mode>,
    pub builds: Step,
    pub starts: Step,
    pub reconciles: Step,
    pub equals_native: Step,
    pub suspends: Step,
    pub resumes: Step,
    pub package_bytes: u64,
    pub suspended: usize,
    pub resumed: usize,
    /// Resumes in a time without changes, for an hour.
    pub idle_resumes_per_hour: Option<f64>,
}

impl Outcome {
    fn steps(&self) -> [(&'static str, &Step); 6] {
        [
            ("builds", &self.builds),
            ("starts", &self.starts),
            ("reconciles", &self.reconciles),
            ("equals native", &self.equals_native),
            ("suspends", &self.suspends),
            ("resumes", &self.resumes),
        ]
    }

    /// Whether every step passed.
    pub fn is_good(&self) -> bool {
        self.steps().iter().all(|(_, step)| **step == Step::Passed)
    }
}

/// A line for each operator, then the reasons of what failed.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0).max("operator".len());
    let _ = writeln!(
        text,
        "{:<width$}  mode          builds  starts  reconciles  equal  suspends  resumes  MiB  idle resumes/h",
        "operator"
    );
    for outcome in outcomes {
        let [builds, starts, reconciles, equals, suspends, resumes] = outcome.steps().map(|(_, step)| step.mark());
        let mode = outcome.mode.map_or("–", Mode::name);
        let idle = outcome.idle_resumes_per_hour.map_or("–".into(), |per_hour| format!("{per_hour:.0}"));
        let mib = outcome.package_bytes as f64 / f64::from(1 << 20);
        let (suspended, resumed) = (outcome.suspended, outcome.resumed);
        let _ = writeln!(
            text,
            "{:<width$}  {mode:<12}  {builds:<6}  {starts:<6}  {reconciles:<10}  {equals:<5}  {suspends} {suspended:<6}  {resumes} {resumed:<5}  {mib:>3.0}  {idle}",
            outcome.name
        );
    }
    for outcome in outcomes {
        for (what, step) in outcome.steps() {
            if let Step::Failed(why) = step {
                let _ = writeln!(text, "\n{}: {what}: {}", outcome.name, why.replace('\n', "\n    "));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_operator_and_the_reasons() {
        let good = Outcome {
            name: "a".into(),
            mode: Some(Mode::GuestDriven),
            builds: Step::Passed,
            starts: Step::Passed,
            reconciles: Step::Passed,
            equals_native: Step::Passed,
            suspends: Step::Passed,
            resumes: Step::Passed,
            package_bytes: 3 << 20,
            suspended: 4,
            resumed: 3,
            idle_resumes_per_hour: Some(0.0),
        };
        let bad = Outcome { name: "b".into(), builds: Step::Failed("no\ncompiler".into()), ..Outcome::default() };
        assert!(good.is_good() && !bad.is_good());
        let text = table(&[good, bad]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "a         guest-driven  ✓       ✓       ✓           ✓      ✓ 4       ✓ 3        3  0");
        assert!(lines[2].starts_with("b         –             ✗       –"), "{}", lines[2]);
        assert_eq!(lines[4..], ["b: builds: no", "    compiler"]);
    }
}
