//! Filters log events by comma-separated directives as in `RUST_LOG`: `level` or `target=level`.

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

/// The parsed directives.
#[derive(Debug, PartialEq)]
pub struct LogFilter {
    /// Applies to targets without a directive.
    default: LevelFilter,
    /// Target prefixes, longest first.
    targets: Vec<(String, LevelFilter)>,
}

impl LogFilter {
    /// Parses directives. Ignores invalid ones; the default level is `info`.
    pub fn parse(directives: &str) -> LogFilter {
        let mut filter = LogFilter { default: LevelFilter::INFO, targets: Vec::new() };
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

    /// Returns whether an event with this metadata is logged.
    pub fn allows(&self, metadata: &Metadata<'_>) -> bool {
        self.level_for(metadata.target()) >= *metadata.level()
    }

    /// Returns the most verbose level of all directives.
    pub fn max_level(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.default, Ord::max)
    }

    fn level_for(&self, target: &str) -> LevelFilter {
        let named =
            |prefix: &str| target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        self.targets.iter().find(|(prefix, _)| named(prefix)).map_or(self.default, |(_, level)| *level)
    }
}

/// Returns the host's number for a level: the enum `level` in `wit/wasmop.wit`.
pub fn host_level(level: Level) -> u32 {
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
    fn the_directive_with_the_longest_matching_target_applies() {
        let filter = LogFilter::parse("warn, kube=info,kube::client=trace,mine, broken=loud");
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
    fn the_default_level_is_info() {
        assert_eq!(LogFilter::parse("").level_for("any"), LevelFilter::INFO);
        assert_eq!(LogFilter::parse("off").level_for("any"), LevelFilter::OFF);
    }
}
