//! Which events are logged: directives as in `RUST_LOG`, `level` or `target=level`, by commas.

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

#[derive(Debug, PartialEq)]
pub struct Filter {
    /// For targets that no directive names.
    default: LevelFilter,
    /// Longest prefix first.
    targets: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// What of `directives` can be understood; `info` if there is nothing.
    pub fn parse(directives: &str) -> Filter {
        let mut filter = Filter { default: LevelFilter::INFO, targets: Vec::new() };
        for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.split_once('=') {
                Some((target, level)) => {
                    if let Ok(level) = level.trim().parse() {
                        filter.targets.push((target.trim().to_owned(), level));
                    }
                }
                None => match directive.parse() {
                    Ok(level) => filter.default = level,
                    Err(_) => filter.targets.push((directive.to_owned(), LevelFilter::TRACE)),
                },
            }
        }
        filter.targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        filter
    }

    pub fn allows(&self, metadata: &Metadata<'_>) -> bool {
        self.level_for(metadata.target()) >= *metadata.level()
    }

    /// The most verbose level that anything is logged at.
    pub fn max_level(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.default, Ord::max)
    }

    fn level_for(&self, target: &str) -> LevelFilter {
        let named =
            |prefix: &str| target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        self.targets.iter().find(|(prefix, _)| named(prefix)).map_or(self.default, |(_, level)| *level)
    }
}

/// The host's number for a level.
pub fn number(level: Level) -> u32 {
    match level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        Level::WARN => 3,
        Level::ERROR => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_directive_that_names_a_target_decides() {
        let filter = Filter::parse("warn, kube=info,kube::client=trace,mine, broken=loud");
        for (target, level) in [
            ("other", LevelFilter::WARN),
            ("kube", LevelFilter::INFO),
            ("kube::runtime", LevelFilter::INFO),
            ("kube::client::auth", LevelFilter::TRACE),
            ("kubernetes", LevelFilter::WARN),
            ("mine::deep", LevelFilter::TRACE),
            ("broken", LevelFilter::WARN),
        ] {
            assert_eq!(filter.level_for(target), level, "{target}");
        }
        assert_eq!(filter.max_level(), LevelFilter::TRACE);
    }

    #[test]
    fn nothing_asked_for_means_info() {
        assert_eq!(Filter::parse("").level_for("any"), LevelFilter::INFO);
        assert_eq!(Filter::parse("off").level_for("any"), LevelFilter::OFF);
    }
}
