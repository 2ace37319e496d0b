//! Detects reconciles that cause themselves: each writes something that the controller watches, so the object is
//! reconciled again, without end.
//!
//! ```text
//! reconcile n of `a` ─► a write is answered with version 7 ─► the watch brings version 7, which concerns `a`
//!                                                           ─► reconcile n + 1 of `a`: caused by itself alone
//! ```
//!
//! One such reconcile is normal: a controller checks its own write and writes nothing. Only a long streak is a loop. A
//! streak ends with any change that the previous reconcile did not make. It also ends with a reconcile whose writes
//! change nothing: the API server answers them with the existing version.

use std::time::Duration;

use wasmop_package::manifest::{ControllerSpec, Relation, WatchSpec};

use crate::registration_id::RegistrationId;
use crate::watch::ResourceVersion;
use crate::work_queue::Key;

/// Self-caused reconciles in a row that count as a loop.
pub const STREAK: u32 = 20;
/// Most objects tracked; those with the shortest streak are evicted first.
const MAX_OBJECTS: usize = 32;
/// Most objects tracked while the controller is suspended.
const MAX_SUSPENDED: usize = 2;
/// Most versions remembered of one reconcile. A reconcile with more ends the streak.
const MAX_VERSIONS: usize = 4;

/// An object that is being reconciled: registration and key.
pub type Object = (RegistrationId, Key);

/// The last writes of some objects, and the reconciles they caused.
#[derive(Debug, Default)]
pub struct SelfTriggers(Vec<Followed>);

#[derive(Debug)]
struct Followed {
    object: Object,
    /// Versions that its last reconcile wrote, and their targets. `None`: too many.
    written: Option<Vec<(ResourceVersion, Box<str>)>>,
    /// Versions that queued it since. `None`: too many.
    triggers: Option<Vec<ResourceVersion>>,
    streak: u32,
    /// When the streak began.
    since: Duration,
}

impl Followed {
    fn wrote(&mut self, version: ResourceVersion, target: &str) {
        match &mut self.written {
            Some(written) if written.iter().any(|(known, _)| *known == version) => {}
            Some(written) if written.len() < MAX_VERSIONS => written.push((version, target.into())),
            written => *written = None,
        }
    }

    fn triggered(&mut self, version: ResourceVersion) {
        match &mut self.triggers {
            Some(triggers) if triggers.contains(&version) => {}
            Some(triggers) if triggers.len() < MAX_VERSIONS => triggers.push(version),
            triggers => *triggers = None,
        }
    }

    /// The write that caused the reconcile, if nothing else did.
    fn cause(&self) -> Option<Box<str>> {
        let (written, triggers) = (self.written.as_ref()?, self.triggers.as_ref()?);
        let target = |version: &ResourceVersion| written.iter().find(|(made, _)| made == version).map(|(_, t)| t);
        let cause = target(triggers.first()?)?;
        triggers.iter().all(|version| target(version).is_some()).then(|| cause.clone())
    }
}

/// A detected loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The object.
    pub object: Object,
    /// Reconciles in a row that each caused the next.
    pub streak: u32,
    /// Time since the first of them.
    pub lasts: Duration,
    /// The target that each of them writes: `websites/status web/home`.
    pub target: Box<str>,
}

impl Loop {
    /// How the author of the controller can fix it. `spec`: the registration of the object.
    pub fn remedy(&self, spec: &ControllerSpec) -> &'static str {
        let resource = self.target.split(' ').next().unwrap_or_default();
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let is_written = |watch: &&WatchSpec| {
            watch.plural == plural || (watch.plural.is_empty() && plural.starts_with(&watch.kind.to_lowercase()))
        };
        let (mut generation_changed, mut ignores_own_writes) = (false, false);
        for watch in spec.all_watches().filter(is_written) {
            generation_changed |= watch.generation_changed;
            ignores_own_writes |= watch.ignore_own_writes || watch.relation == Relation::Map;
        }
        match (subresource, generation_changed, ignores_own_writes) {
            ("status", false, _) => {
                "ignore changes of the status in the watch: generation_changed in Rust, \
                 GenerationChangedPredicate in Go; or compare the status with what is there before writing"
            }
            (_, _, true) => "compare with what is there before writing",
            (_, _, false) => {
                "compare with what is there before writing; ignore_own_writes in Rust and IgnoreOwnWrites in Go \
                 help only for writes that send metadata.resourceVersion"
            }
        }
    }
}

impl SelfTriggers {
    /// A reconcile of `object` sends a write. The resulting change may arrive before the answer.
    pub fn writes(&mut self, object: &Object, now: Duration) {
        if self.0.iter().any(|followed| followed.object == *object) {
            return;
        }
        if self.0.len() >= MAX_OBJECTS {
            // Evict the shortest streak.
            let least = self.0.iter().enumerate().min_by_key(|(_, followed)| followed.streak).map(|(at, _)| at);
            self.0.remove(least.unwrap_or_default());
        }
        let (written, triggers) = (Some(Vec::new()), Some(Vec::new()));
        self.0.push(Followed { object: object.clone(), written, triggers, streak: 0, since: now });
    }

    /// The write was answered with this version of `target`.
    pub fn wrote(&mut self, object: &Object, version: ResourceVersion, target: &str) {
        if let Some(followed) = self.0.iter_mut().find(|followed| followed.object == *object) {
            followed.wrote(version, target);
        }
    }

    /// A change to this version queued `object`.
    pub fn triggered(&mut self, object: &Object, version: ResourceVersion) {
        if let Some(followed) = self.0.iter_mut().find(|followed| followed.object == *object) {
            followed.triggered(version);
        }
    }

    /// Something other than a change queued `object`: a timer, an error, a new instance.
    pub fn interrupted(&mut self, object: &Object) {
        self.0.retain(|followed| followed.object != *object);
    }

    /// A reconcile of `object` begins. Returns a loop each time its streak grows by [`STREAK`].
    pub fn began(&mut self, object: &Object, now: Duration) -> Option<Loop> {
        let at = self.0.iter().position(|followed| followed.object == *object)?;
        let followed = &mut self.0[at];
        let Some(target) = followed.cause() else {
            self.0.swap_remove(at);
            return None;
        };
        (followed.written, followed.triggers) = (Some(Vec::new()), Some(Vec::new()));
        if followed.streak == 0 {
            followed.since = now;
        }
        followed.streak += 1;
        followed.streak.is_multiple_of(STREAK).then(|| Loop {
            object: object.clone(),
            streak: followed.streak,
            lasts: now.saturating_sub(followed.since),
            target,
        })
    }

    /// Whether no object is tracked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps only the longest streaks, before a suspension.
    pub fn shrink(&mut self) {
        self.0.sort_by_key(|followed| std::cmp::Reverse(followed.streak));
        self.0.truncate(MAX_SUSPENDED);
        self.0.shrink_to_fit();
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let of = |followed: &Followed| {
            let written =
                followed.written.iter().flatten().map(|(version, target)| size_of_val(version) + target.len());
            let triggers = followed.triggers.as_ref().map_or(0, |triggers| size_of_val(&**triggers));
            size_of::<Followed>() + followed.object.1.len() + triggers + written.sum::<usize>()
        };
        size_of::<SelfTriggers>() + self.0.iter().map(of).sum::<usize>()
    }
}

/// The resource version in the beginning of an answer to a write. Quotes inside an object are escaped, so no other text
/// can match.
pub fn version_in(answer: &[u8]) -> Option<ResourceVersion> {
    const NAME: &[u8] = b"\"resourceVersion\":";
    let at = answer.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let value = answer[at..].trim_ascii_start().strip_prefix(b"\"")?;
    let end = value.iter().position(|byte| *byte == b'"')?;
    Some(ResourceVersion::from(std::str::from_utf8(&value[..end]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Did {
        /// A reconcile begins.
        Begins,
        /// It writes, and is answered with this version at once.
        Writes(u64),
        Sends,
        Answered(u64),
        /// A change to this version is queued.
        Comes(u64),
        /// A requeue, for example.
        Otherwise,
    }
    use Did::*;

    fn object(name: &str) -> Object {
        (RegistrationId(0), name.into())
    }

    /// The streaks reported when a round of `dids`, with versions increased by 100 each time, is repeated.
    fn reported(rounds: u64, dids: &[Did]) -> Vec<u32> {
        let mut triggers = SelfTriggers::default();
        let mut streaks = Vec::new();
        for round in 0..rounds {
            let (at, now) = (|version| ResourceVersion(round * 100 + version), Duration::from_secs(round));
            for did in dids {
                match *did {
                    Begins => streaks.extend(triggers.began(&object("ns/a"), now).map(|found| found.streak)),
                    Sends => triggers.writes(&object("ns/a"), now),
                    Answered(version) => triggers.wrote(&object("ns/a"), at(version), "things/status ns/a"),
                    Writes(version) => {
                        triggers.writes(&object("ns/a"), now);
                        triggers.wrote(&object("ns/a"), at(version), "things/status ns/a");
                    }
                    Comes(version) => triggers.triggered(&object("ns/a"), at(version)),
                    Otherwise => triggers.interrupted(&object("ns/a")),
                }
            }
        }
        streaks
    }

    #[test]
    fn only_a_long_streak_of_nothing_but_own_changes_is_a_loop() {
        for (what, dids, expected) in [
            ("each writes once", &[Begins, Writes(1), Comes(1)][..], &[20, 40][..]),
            ("the change comes before the answer", &[Begins, Sends, Comes(1), Answered(1)], &[20, 40]),
            (
                "each writes two objects, whose changes come together",
                &[Begins, Writes(1), Writes(2), Comes(1), Comes(2)],
                &[20, 40],
            ),
            ("two writes of which one changes what is watched", &[Begins, Writes(1), Writes(2), Comes(2)], &[20, 40]),
            ("others change it as well", &[Begins, Writes(1), Comes(1), Comes(50)], &[]),
            ("others change it, and it writes each time", &[Begins, Writes(1), Comes(50)], &[]),
            ("another looks at it, and the write changed nothing", &[Comes(50), Begins, Writes(50)], &[]),
            ("nothing comes of it", &[Begins, Writes(1)], &[]),
            ("the second finds nothing to do", &[Begins, Writes(1), Comes(1), Begins], &[]),
            ("it writes nothing", &[Begins, Comes(1)], &[]),
            ("it is requeued as well", &[Begins, Writes(1), Comes(1), Otherwise], &[]),
            (
                "more versions than are remembered",
                &[Begins, Writes(1), Writes(2), Writes(3), Writes(4), Writes(5), Comes(5)],
                &[],
            ),
        ] {
            assert_eq!(reported(45, dids), expected, "{what}");
        }
        assert_eq!(
            reported(20, &[Begins, Writes(1), Comes(1)]),
            Vec::<u32>::new(),
            "the first was not caused by itself"
        );
    }

    #[test]
    fn a_loop_says_what_it_writes_and_how_long_it_lasts() {
        let mut triggers = SelfTriggers::default();
        let mut found = None;
        for second in 0..=20 {
            found = triggers.began(&object("ns/a"), Duration::from_secs(second));
            triggers.writes(&object("ns/a"), Duration::from_secs(second));
            triggers.wrote(&object("ns/a"), ResourceVersion(second), "configmaps ns/b");
            triggers.wrote(&object("ns/a"), ResourceVersion(1000 + second), "things/status ns/a");
            triggers.triggered(&object("ns/a"), ResourceVersion(second));
        }
        let found = found.unwrap();
        assert_eq!((found.object, found.streak, found.lasts), (object("ns/a"), 20, Duration::from_secs(19)));
        assert_eq!(&*found.target, "configmaps ns/b");
    }

    #[test]
    fn the_remedy_is_one_that_helps_with_what_is_written() {
        let spec = |status: &str, config_maps: &str| -> ControllerSpec {
            let text = format!(
                r#"{{
                    "name": "a",
                    "primary": {{ "group": "a.dev", "version": "v1", "kind": "Thing", "plural": "things" {status} }},
                    "watches": [{{ "version": "v1", "kind": "ConfigMap", "plural": "configmaps" {config_maps} }}]
                }}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let compare = "compare with what is there before writing";
        for (target, spec, expected, absent) in [
            ("things/status ns/a", spec("", ""), "generation_changed", "ignore_own_writes"),
            // It has no generation.
            ("things/status ns/a", spec(r#", "generationChanged": true"#, ""), compare, "generation_changed"),
            ("things ns/a", spec("", ""), compare, "generation_changed"),
            ("configmaps ns/a", spec("", ""), "that send metadata.resourceVersion", "generation_changed"),
            ("configmaps ns/a", spec("", r#", "ignoreOwnWrites": true"#), compare, "ignore_own_writes"),
            ("configmaps ns/a", spec("", r#", "relation": "map""#), compare, "ignore_own_writes"),
            ("things ns/a", spec("", r#", "ignoreOwnWrites": true"#), "ignore_own_writes", "generation_changed"),
        ] {
            let (object, lasts) = (object("ns/a"), Duration::ZERO);
            let found = Loop { object, streak: 20, lasts, target: target.into() }.remedy(&spec);
            assert!(found.contains(expected) && !found.contains(absent), "{target}: {found}");
        }
    }

    #[test]
    fn memory_is_bounded_and_a_streak_outlives_a_suspension() {
        let mut triggers = SelfTriggers::default();
        let now = Duration::ZERO;
        for round in 0..5 {
            triggers.began(&object("looping"), now);
            triggers.writes(&object("looping"), now);
            triggers.wrote(&object("looping"), ResourceVersion(round), "t");
            triggers.triggered(&object("looping"), ResourceVersion(round));
            // Others evict what has no streak yet.
            for other in 0..100 * round.saturating_sub(1) {
                triggers.writes(&object(&format!("other-{other}")), now);
            }
            assert!(triggers.0.len() <= MAX_OBJECTS);
            triggers.shrink();
            assert!(triggers.0.len() <= MAX_SUSPENDED && triggers.bytes() < 600, "{} bytes", triggers.bytes());
        }
        assert_eq!(triggers.0[0].object, object("looping"));
        assert_eq!(triggers.0[0].streak, 4);
    }

    #[test]
    fn the_version_is_found_in_an_answer_of_any_shape() {
        for (answer, expected) in [
            (r#"{"kind":"Thing","metadata":{"name":"a","resourceVersion":"12"},"spec":{}}"#, Some(12)),
            ("{\n  \"metadata\": {\n    \"resourceVersion\": \"7\"\n", Some(7)),
            (r#"{"metadata":{"annotations":{"x":"{\"resourceVersion\":\"1\"}"},"resourceVersion":"9"}}"#, Some(9)),
            (r#"{"kind":"Status","status":"Success","metadata":{}}"#, None),
            (r#"{"metadata":{"resourceVersion":"1"#, None),
            (r#"{"metadata":{"resourceVersion":12}}"#, None),
            ("", None),
        ] {
            assert_eq!(version_in(answer.as_bytes()), expected.map(ResourceVersion), "{answer}");
        }
        assert_eq!(version_in(b"\"resourceVersion\":\"\xff\""), None);
    }
}
