//! The conditions of a controller: its recent problems.

use std::time::Duration;

use crate::limits::problem::Problem;

/// A condition ends this long after the last occurrence. A failed installation does not end.
const HOLDS: Duration = Duration::from_secs(300);

/// The conditions of one controller, at most one of each type.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Standing>);

/// A condition.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The last problem of its type.
    pub problem: Problem,
    /// One line for people.
    pub message: Box<str>,
    /// On the host's clock: the first and the last occurrence, without a gap between them.
    pub since: Duration,
    last: Duration,
}

impl Standing {
    fn holds(&self, now: Duration) -> bool {
        self.problem == Problem::Install || now.saturating_sub(self.last) < HOLDS
    }
}

impl Problems {
    /// Records an occurrence.
    pub fn happened(&mut self, problem: Problem, message: &str, now: Duration) {
        self.0.retain(|standing| standing.holds(now));
        let message = message.into();
        match self.0.iter_mut().find(|standing| standing.problem.condition() == problem.condition()) {
            Some(standing) => (standing.problem, standing.message, standing.last) = (problem, message, now),
            None => self.0.push(Standing { problem, message, since: now, last: now }),
        }
    }

    /// Current conditions, in the order in which they began.
    pub fn standing(&self, now: Duration) -> impl Iterator<Item = &Standing> {
        self.0.iter().filter(move |standing| standing.holds(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::problem::Limit;
    use crate::step::StepFault;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_condition_holds_while_its_problem_recurs_and_has_the_last_reason() {
        let mut problems = Problems::default();
        problems.happened(Problem::Step(StepFault::Panic), "panicked", at(0));
        problems.happened(Problem::Step(StepFault::Trap), "trapped", at(299));
        problems.happened(Problem::Limit(Limit::LogRate), "logs", at(300));
        let shown = |problems: &Problems, now| {
            let standing = problems.standing(at(now));
            standing.map(|s| s.problem.reason()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&problems, 300), ["StepTrapped", "LogLinesDropped"]);
        assert_eq!(problems.standing(at(300)).next().unwrap().since, at(0));
        assert_eq!(shown(&problems, 599), ["LogLinesDropped"]);
        assert!(shown(&problems, 600).is_empty());
        // After a gap the condition begins again.
        problems.happened(Problem::Step(StepFault::Panic), "panicked", at(700));
        assert_eq!(problems.standing(at(700)).next().unwrap().since, at(700));
    }

    #[test]
    fn a_failed_installation_stays_a_condition() {
        let mut problems = Problems::default();
        problems.happened(Problem::Install, "no", at(0));
        assert_eq!(problems.standing(at(1_000_000)).count(), 1);
    }
}
