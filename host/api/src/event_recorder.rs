//! Writes Kubernetes Events: it makes valid names, merges repeated Events into series, and retries with backoff.
//!
//! ```text
//! Note ── fresh name, namespace ─► create ──┬─ created ────────► remember the name: the next of the series patches it
//!            ▲                              ├─ 404 (patch) ────► create
//!            └──── wait ────────────────────┼─ unavailable ────► retry
//!                                           └─ refused ────────► warn, once for each cause
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::error_chain::chain;

/// The reporting controller of all Events.
const REPORTER: &str = "wasmop";
/// Namespace of Events about cluster-scoped objects; the API server accepts no other.
const CLUSTER_SCOPED: &str = "default";
/// Most Events that the host writes at once.
const AT_ONCE: usize = 4;
/// Most Events that wait to be written; further ones are dropped. Each holds some 2 KB.
const MAX_WAITING: usize = 256;
/// Delays before each retry.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(180),
];
/// Repeated Events within this time form a series.
const SERIES: Duration = Duration::from_secs(360);
/// Most series remembered.
const MAX_SERIES: usize = 1024;
/// Time in which one cause of failure is logged at most once.
const QUIET: Duration = Duration::from_secs(600);
/// Most bytes of a note; Kubernetes allows 1024.
const MAX_NOTE: usize = 1000;
/// Most bytes of an object's name; Kubernetes allows 253.
const MAX_NAME: usize = 253;

/// The content of an Event.
#[derive(Clone, Debug)]
pub struct Note {
    /// The controller, as the reporting instance.
    pub controller: Arc<str>,
    /// A word in camel case for machines, such as `ReconcileFailed`.
    pub reason: &'static str,
    /// The action that the host took, a word in camel case.
    pub action: &'static str,
    /// The message, of which at most 1000 bytes are kept.
    pub text: String,
}

/// The key of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    controller: Arc<str>,
    reason: &'static str,
    namespace: String,
    object: (Option<String>, Option<String>, Option<String>),
}

struct Series {
    name: String,
    count: i32,
    last: Instant,
}

/// Writes Events in the background. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder(Arc<Shared>);

struct Shared {
    client: Client,
    /// Delays before retries.
    waits: [Duration; 5],
    at_once: Semaphore,
    waiting: AtomicUsize,
    /// The unique part of the last name.
    last_name: AtomicU64,
    series: Mutex<HashMap<Kind, Series>>,
    /// When a failure was last logged, by cause.
    logged: Mutex<HashMap<String, Instant>>,
}

impl EventRecorder {
    /// A recorder that writes with this client.
    pub fn new(client: Client) -> EventRecorder {
        EventRecorder::with_waits(client, WAITS)
    }

    fn with_waits(client: Client, waits: [Duration; 5]) -> EventRecorder {
        EventRecorder(Arc::new(Shared {
            client,
            waits,
            at_once: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            last_name: AtomicU64::new(0),
            series: Mutex::default(),
            logged: Mutex::default(),
        }))
    }

    /// Queues a note about an object, which the task awaits first. Returns at once.
    pub fn publish(&self, note: Note, regarding: impl Future<Output = ObjectReference> + Send + 'static) {
        let shared = self.0.clone();
        if shared.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            shared.tell(
                &note.controller,
                "too many Events are waiting to be written",
                "further Events are dropped until some of them are written",
            );
            return;
        }
        tokio::spawn(async move {
            shared.write(note, regarding).await;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    async fn write(&self, note: Note, regarding: impl Future<Output = ObjectReference>) {
        let regarding = {
            let _permit = self.at_once.acquire().await;
            regarding.await
        };
        for wait in self.waits.into_iter().map(Some).chain([None]) {
            let error = {
                let _permit = self.at_once.acquire().await;
                match self.attempt(&note, &regarding).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            };
            match wait {
                Some(wait) if may_pass(&error) => tokio::time::sleep(wait).await,
                _ => {
                    self.tell(&note.controller, &chain(&error), help(&error));
                    return;
                }
            }
        }
    }

    async fn attempt(&self, note: &Note, regarding: &ObjectReference) -> Result<(), kube::Error> {
        let namespace = regarding.namespace.clone().unwrap_or_else(|| CLUSTER_SCOPED.into());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let kind = Kind {
            controller: note.controller.clone(),
            reason: note.reason,
            namespace,
            object: (regarding.kind.clone(), regarding.name.clone(), regarding.uid.clone()),
        };
        if let Some((name, count)) = self.in_series(&kind) {
            let series = EventSeries { count, last_observed_time: MicroTime(Timestamp::now()) };
            // All other fields of an Event are immutable.
            let patch = serde_json::json!({ "series": series });
            match events.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // Kubernetes keeps Events for an hour, and a user may delete one earlier.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => return result.map(|_| self.keep(kind, name, count)),
            }
        }
        let name = event_name(regarding.name.as_deref().unwrap_or_default(), self.unique());
        events.create(&PostParams::default(), &event(note, regarding, &name)).await?;
        self.keep(kind, name, 1);
        Ok(())
    }

    /// Name and next count of the series, if it exists.
    fn in_series(&self, kind: &Kind) -> Option<(String, i32)> {
        let mut all = self.series.lock();
        all.retain(|_, series| series.last.elapsed() < SERIES);
        all.get(kind).map(|series| (series.name.clone(), series.count + 1))
    }

    fn keep(&self, kind: Kind, name: String, count: i32) {
        let mut all = self.series.lock();
        if all.len() < MAX_SERIES || all.contains_key(&kind) {
            all.insert(kind, Series { name, count, last: Instant::now() });
        }
    }

    /// A number that is unique on this host, and almost certainly among hosts.
    fn unique(&self) -> u64 {
        let now = Timestamp::now().as_nanosecond() as u64;
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_name.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        now.max(last + 1)
    }

    /// Logs a failure, at most once a cause in [`QUIET`].
    fn tell(&self, controller: &str, reason: &str, help: &str) {
        {
            let mut logged = self.logged.lock();
            logged.retain(|_, at| at.elapsed() < QUIET);
            if logged.contains_key(reason) {
                tracing::debug!(controller, reason, "cannot write an Event");
                return;
            }
            // Bounds the causes that an API server may make up.
            if logged.len() < MAX_SERIES {
                logged.insert(reason.into(), Instant::now());
            }
        }
        tracing::warn!(controller, reason, help, "cannot write an Event");
    }
}

/// Whether a retry may succeed.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 408 | 409 | 429 | 500..=599),
        _ => true,
    }
}

fn help(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated") => {
            "its namespace is being deleted"
        }
        kube::Error::Api(status) if status.code == 403 => {
            "let the host create and patch events of events.k8s.io in all namespaces it watches"
        }
        kube::Error::Api(status) if status.code == 404 => "its namespace does not exist",
        _ => "`wasmop top` and the host's page show the same problems",
    }
}

fn event(note: &Note, regarding: &ObjectReference, name: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(regarding.namespace.clone().unwrap_or_else(|| CLUSTER_SCOPED.into())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(REPORTER.into()),
        reporting_instance: Some(note.controller.to_string()),
        action: Some(note.action.into()),
        reason: Some(note.reason.into()),
        regarding: Some(regarding.clone()),
        note: Some(shortened(&note.text).into()),
        type_: Some("Warning".into()),
        ..Event::default()
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NOTE)]
}

/// Turns the name of any object into a DNS subdomain. Names of RBAC objects, for example, may have colons.
fn event_name(object: &str, unique: u64) -> String {
    let suffix = format!(".{unique:x}");
    let mut name = String::with_capacity(MAX_NAME);
    for c in object.chars() {
        if name.len() + suffix.len() >= MAX_NAME {
            break;
        }
        let c = c.to_ascii_lowercase();
        let inner = !name.is_empty() && !name.ends_with(['.', '-']);
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            // Labels start and end with a letter or digit.
            '.' if inner => name.push('.'),
            '.' => {}
            '-' if !name.is_empty() && !name.ends_with('.') => name.push('-'),
            _ if inner => name.push('-'),
            _ => {}
        }
    }
    let end = name.trim_end_matches(['.', '-']).len();
    name.truncate(end);
    if name.is_empty() {
        name.push_str("object");
    }
    name + &suffix
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use wasmop_package::manifest::is_dns_label;

    use super::*;

    fn is_subdomain(name: &str) -> bool {
        name.len() <= MAX_NAME
            && name.split('.').all(|label| label.len() <= 63 && is_dns_label(label) || is_long_label(label))
    }

    /// Kubernetes bounds the name, not its labels.
    fn is_long_label(label: &str) -> bool {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        label.len() > 63 && label.chars().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    }

    #[test]
    fn event_names_contain_the_object_name() {
        for (object, expected) in [
            ("web", "web.ff"),
            ("a.b-c", "a.b-c.ff"),
            ("system:controller:job-controller", "system-controller-job-controller.ff"),
            ("Upper_Case", "upper-case.ff"),
            (".x.", "x.ff"),
            ("a-.b", "a-b.ff"),
            ("::", "object.ff"),
            ("", "object.ff"),
            ("ü", "object.ff"),
        ] {
            assert_eq!(event_name(object, 255), expected, "{object}");
        }
        let long = event_name(&"a".repeat(253), u64::MAX);
        assert!(long.len() <= MAX_NAME && long.ends_with(".ffffffffffffffff"), "{long}");
    }

    proptest! {
        #[test]
        fn any_name_makes_a_valid_name(object in ".{0,300}", unique: u64) {
            let name = event_name(&object, unique);
            prop_assert!(is_subdomain(&name), "{:?} from {:?}", name, object);
        }

        #[test]
        fn names_near_the_rules_make_valid_names(object in "[a-z:.-]{0,260}", unique: u64) {
            let name = event_name(&object, unique);
            prop_assert!(is_subdomain(&name), "{:?} from {:?}", name, object);
        }
    }

    /// Paths and bodies of requests.
    type Requests = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server with these answers, and what it was asked.
    fn server(answers: &[(u16, Value)]) -> (EventRecorder, Requests) {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answers, log) = (answers.clone(), log.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect_bytes().await.unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                log.lock().push((line, body));
                let (status, body) = answers.lock().pop_front().unwrap_or((201, json!({})));
                let mut response = Response::new(Body::from(body.to_string().into_bytes()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, tower::BoxError>(response)
            }
        });
        (EventRecorder::with_waits(Client::new(service, "home"), [Duration::ZERO; 5]), asked)
    }

    fn note(reason: &'static str) -> Note {
        Note { controller: "web".into(), reason, action: "Restart", text: "it did".into() }
    }

    fn object(namespace: Option<&str>, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Thing".into()),
            name: Some(name.into()),
            namespace: namespace.map(Into::into),
            ..ObjectReference::default()
        }
    }

    fn refused(status: u16) -> (u16, Value) {
        (status, json!({"kind": "Status", "status": "Failure", "code": status, "message": "no", "reason": "No"}))
    }

    async fn write(recorder: &EventRecorder, note: Note, regarding: ObjectReference) {
        recorder.0.write(note, std::future::ready(regarding)).await;
    }

    #[tokio::test]
    async fn simultaneous_events_have_unique_names_and_repeated_ones_form_a_series() {
        let (recorder, asked) = server(&[]);
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        write(&recorder, note("B"), object(Some("ns"), "x")).await;
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        write(&recorder, note("A"), object(None, "system:x")).await;
        let asked = asked.lock();
        let lines: Vec<&str> = asked.iter().map(|(line, _)| line.as_str()).collect();
        let name = |index: usize| asked[index].1["metadata"]["name"].as_str().unwrap().to_owned();
        let events = "/apis/events.k8s.io/v1/namespaces";
        assert_eq!(
            lines,
            [
                format!("POST {events}/ns/events"),
                format!("POST {events}/ns/events"),
                format!("PATCH {events}/ns/events/{}", name(0)),
                format!("POST {events}/default/events"),
            ]
        );
        assert_ne!(name(0), name(1));
        assert_eq!(asked[2].1["series"]["count"], 2);
        assert!(name(3).starts_with("system-x."), "{}", name(3));
        assert_eq!(asked[3].1["metadata"]["namespace"], "default");
    }

    #[tokio::test]
    async fn refused_event_blocks_no_other_and_unavailable_server_is_retried() {
        let (recorder, asked) = server(&[refused(422), refused(503), refused(429), (201, json!({}))]);
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        assert_eq!(asked.lock().len(), 1, "what is refused is not tried again");
        write(&recorder, note("B"), object(Some("ns"), "x")).await;
        assert_eq!(asked.lock().len(), 4);
        let names: std::collections::BTreeSet<_> =
            asked.lock().iter().map(|(_, body)| body["metadata"]["name"].to_string()).collect();
        assert_eq!(names.len(), 4, "a name that may have been taken is not used again");
    }

    #[tokio::test]
    async fn retries_end() {
        let answers: Vec<_> = (0..20).map(|_| refused(503)).collect();
        let (recorder, asked) = server(&answers);
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        assert_eq!(asked.lock().len(), WAITS.len() + 1);
    }

    #[tokio::test]
    async fn series_restarts_if_its_event_was_deleted() {
        let (recorder, asked) = server(&[(201, json!({})), refused(404), (201, json!({}))]);
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        write(&recorder, note("A"), object(Some("ns"), "x")).await;
        let methods: Vec<_> = asked.lock().iter().map(|(line, _)| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(methods, ["POST", "PATCH", "POST"]);
    }

    #[tokio::test]
    async fn events_beyond_the_limit_are_dropped() {
        let (recorder, _) = server(&[]);
        for _ in 0..MAX_WAITING + 10 {
            recorder.publish(note("A"), std::future::pending());
        }
        assert_eq!(recorder.0.waiting.load(Ordering::Relaxed), MAX_WAITING);
    }
}
