//! The suspend policies that a user can choose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration::{parse_duration, write_duration};
use crate::{Decision, Predictor, Prices, Situation};

/// When an idle controller is suspended.
///
/// The text form, also used by serde, is `adaptive`, `immediate`, `after=1s` or `never`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Policy {
    /// Weighs the expected gap against the costs of memory and of a resume; see `docs/policy.md`.
    #[default]
    Adaptive,
    /// As soon as the controller is idle.
    Immediate,
    /// After the controller has been idle for this long.
    After(Duration),
    /// Only when the host shuts down or runs out of memory.
    Never,
}

/// Why a text is not a suspend policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant explains its fields")]
pub enum PolicyError {
    /// There is no policy of this name.
    #[error(
        "`{0}` is not a suspend policy\nhelp: use `adaptive`, `immediate`, `after=DURATION` (such as `after=1s`) or `never`"
    )]
    Unknown(String),
    /// The duration of `after=` is invalid.
    #[error("suspend policy `{input}`: {problem}\nhelp: write it like `after=1s` or `after=500ms`")]
    Duration { input: String, problem: String },
}

impl Policy {
    /// Decides what to do with an idle resident instance.
    ///
    /// The predictor records the instance's history under every policy, because the memory budget needs it as well.
    pub fn decide(self, predictor: &mut Predictor, situation: &Situation, prices: &Prices) -> Decision {
        let idle_since = predictor.observe(situation, prices);
        // A suspend and a resume would take longer than the instance is idle.
        if predictor.is_due_during_a_cycle(situation) {
            return Decision::Stay { until: situation.known_next };
        }
        match self {
            Policy::Adaptive => predictor.adapt(situation, prices),
            Policy::Immediate => Decision::Suspend,
            Policy::After(idle) => match idle_since.saturating_add(idle) {
                at if at <= situation.now => Decision::Suspend,
                at => Decision::Stay { until: Some(at) },
            },
            Policy::Never => Decision::Stay { until: None },
        }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Policy, PolicyError> {
        match (text, text.strip_prefix("after=")) {
            ("adaptive", _) => Ok(Policy::Adaptive),
            ("immediate", _) => Ok(Policy::Immediate),
            ("never", _) => Ok(Policy::Never),
            (_, Some(duration)) => parse_duration(duration)
                .map(Policy::After)
                .map_err(|problem| PolicyError::Duration { input: text.into(), problem }),
            _ => Err(PolicyError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Adaptive => f.pad("adaptive"),
            Policy::Immediate => f.pad("immediate"),
            Policy::After(duration) => f.pad(&format!("after={}", write_duration(*duration))),
            Policy::Never => f.pad("never"),
        }
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> String {
        policy.to_string()
    }
}

impl TryFrom<String> for Policy {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Policy, PolicyError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_round_trips() {
        for text in ["adaptive", "immediate", "never", "after=1s", "after=500ms", "after=60s", "after=0s"] {
            assert_eq!(text.parse::<Policy>().expect(text).to_string(), text);
        }
        assert_eq!("after=2m".parse(), Ok(Policy::After(Duration::from_secs(120))));
    }

    #[test]
    fn errors_name_the_input_and_list_the_policies() {
        for (text, needles) in [
            ("sometimes", ["`sometimes`", "`adaptive`"]),
            ("", ["``", "`after=DURATION`"]),
            ("after", ["`after`", "`after=DURATION`"]),
            ("after=soon", ["`soon` is not a duration", "`after=1s`"]),
            ("after=", ["`` is not a duration", "`after=1s`"]),
        ] {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            assert!(error.contains("\nhelp: ") && needles.iter().all(|n| error.contains(n)), "{error}");
        }
    }
}
